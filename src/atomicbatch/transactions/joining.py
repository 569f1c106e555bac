"""Joining: the block of one attempt at a batch, and of one call, for sync and for async code."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeVar

from atomicbatch.errors import TransactionError
from atomicbatch.greenlets import real_thread
from atomicbatch.join import attempt as join
from atomicbatch.join.acts import Acts, do
from atomicbatch.transactions.places import Spawn, do_async


class Call(join.Call):
    """
    One call of the batch: a context manager around it, sync and async.

    Args:
        attempt: The attempt at the batch.
        current: Holds the call that runs now.
        spawn: What ``do_async`` needs.
    """

    __slots__ = ("_current", "_spawn", "_thread", "_token")

    def __init__(
        self, attempt: join.Attempt[Any], current: ContextVar[Any], spawn: Spawn | None = None
    ) -> None:
        super().__init__(attempt)
        self._current = current
        self._spawn = spawn
        self._token: Token[Any]
        self._thread = real_thread()

    def check_thread(self) -> None:
        """
        Refuse a thread of gevent's threadpool: connections cannot be used there.

        They wait for the database in the event loop of the thread that they were opened in.
        """
        if self._thread and self._thread != real_thread():
            self._attempt.refuse(
                "a handler uses a database in a thread of gevent.threadpool, where the connection "
                "of the batch cannot be used; use gevent.spawn or gevent.pool for that work"
            )

    def __enter__(self) -> None:
        self._token = self._current.set(self)

    async def __aenter__(self) -> None:
        self._token = self._current.set(self)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.leave_at_rest(error):
            self._current.reset(self._token)
        else:
            do(self.leave(error))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self.leave_at_rest(error):
            self._current.reset(self._token)
        else:
            await do_async(self.leave(error), self._spawn)

    def leave(self, error: BaseException | None) -> Acts:
        self._current.reset(self._token)
        yield from super().leave(error)


class Block(Protocol):
    """A call, as the block of an attempt enters and leaves it."""

    def __enter__(self) -> None: ...

    def leave(self, error: BaseException | None) -> Acts:
        """End it."""


class Attempt(Protocol):
    """An attempt at a batch, as its block begins, stops and ends it."""

    @property
    def error(self) -> TransactionError | None:
        """Why it cannot be committed, or None."""

    @property
    def has_escaped(self) -> bool:
        """Something of it may be stored, although it cannot be committed."""

    def interrupt(self) -> None:
        """See engine/deadline.py."""

    def sever(self) -> None:
        """See there."""

    def give_up(self) -> bool:
        """See there."""

    def prepare(self) -> Acts:
        """Begin ahead of the first call what has to be."""

    def call(self) -> Block:
        """What to run one call inside of."""

    def commit(self) -> Acts:
        """COMMIT everything."""

    def rollback(self) -> Acts:
        """Roll everything back."""


A = TypeVar("A", bound=Attempt)


class Joining(AbstractContextManager[A], AbstractAsyncContextManager[A]):
    """
    The block of one attempt, and what stops it when time is up.

    ``with`` does everything in the thread that enters it: a WSGI app's. ``async with`` does what
    would block the event loop in threads.

    Args:
        attempt: What is begun and ended.
        spawn: What ``do_async`` needs.
    """

    def __init__(self, attempt: A, spawn: Spawn | None = None) -> None:
        self._attempt = attempt
        self._spawn = spawn
        self._call: Block
        self.interrupt, self.sever, self.give_up = attempt.interrupt, attempt.sever, attempt.give_up

    def __enter__(self) -> A:
        do(self._enter())
        return self._attempt

    async def __aenter__(self) -> A:
        await do_async(self._enter(), self._spawn)
        return self._attempt

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        do(self._leave(error))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await do_async(self._leave(error), self._spawn)

    def _enter(self) -> Acts:
        try:
            yield from self._attempt.prepare()
        except BaseException as error:
            yield from self._undo(error)
            raise
        self._call = self._attempt.call()
        self._call.__enter__()

    def _leave(self, error: BaseException | None) -> Acts:
        try:
            yield from self._call.leave(error)
        except BaseException as problem:
            yield from self._undo(problem)
            raise
        if error is None:
            yield from self._attempt.commit()
        else:
            yield from self._undo(error)

    def _undo(self, error: BaseException) -> Acts:
        """Roll back; raise what counts more than the error that left the block."""
        attempt = self._attempt
        yield from attempt.rollback()
        problem = attempt.error
        if problem is None or problem is error:
            return
        if isinstance(error, Exception) or (
            # A time limit, say: that something may be stored is worse.
            attempt.has_escaped and isinstance(error, asyncio.CancelledError)
        ):
            raise problem from error
