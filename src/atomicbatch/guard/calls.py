"""Calls: the block of one call, inside of which the drivers' doors ask the watch."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar, Token
from typing import Any, Protocol

from atomicbatch.errors import TransactionError


class Heard(Protocol):
    """The watch on an attempt at a batch."""

    wrote_outside: bool

    def hear(self) -> TransactionError | None:
        """Tell why the batch cannot be committed."""


class WatchedCall(AbstractAsyncContextManager[None], AbstractContextManager[None]):
    """
    One call's block, sync or async as what the transaction has for calls is.

    Args:
        watch: On the attempt.
        around: What the transaction has for calls.
        watching: Where the doors find the watch.
    """

    __slots__ = ("_around", "_token", "_watch", "_watching")

    def __init__(self, watch: Heard, around: Any, watching: ContextVar[Any]) -> None:
        self._watch = watch
        self._around = around
        self._watching = watching
        self._token: Token[Any]

    def __enter__(self) -> None:
        self._watch.wrote_outside = False
        self._around.__enter__()
        self._token = self._watching.set(self._watch)

    def __exit__(self, kind: Any, raised: Any, traceback: Any) -> bool | None:
        self._watching.reset(self._token)
        swallowed: bool | None = self._around.__exit__(kind, raised, traceback)
        # Also where the handler has swallowed it, or a task of an earlier call has met it.
        error = self._watch.hear()
        if error is not None and (kind is None or swallowed):
            raise error
        return swallowed

    async def __aenter__(self) -> None:
        self._watch.wrote_outside = False
        await self._around.__aenter__()
        self._token = self._watching.set(self._watch)

    async def __aexit__(self, kind: Any, raised: Any, traceback: Any) -> bool | None:
        self._watching.reset(self._token)
        swallowed: bool | None = await self._around.__aexit__(kind, raised, traceback)
        # Also where the handler has swallowed it, or a task of an earlier call has met it.
        error = self._watch.hear()
        if error is not None and (kind is None or swallowed):
            raise error
        return swallowed
