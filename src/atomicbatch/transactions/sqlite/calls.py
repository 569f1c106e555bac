"""Calls: which connections of the app's a call has used; its end is the end of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

from atomicbatch.doors.sqlite_uses import taken
from atomicbatch.drivers.conflicts import conflict_behind
from atomicbatch.errors import ConflictError, TransactionError
from atomicbatch.join.status import Phase, Status
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlite.real import Real
from atomicbatch.transactions.sqlite.use import ConnectionUse


class Attempt(Protocol):
    """The attempt at a batch that a call belongs to."""

    status: Status

    @property
    def reals(self) -> tuple[Real, ...]:
        """One for each database that a call has used."""

    async def in_its_place(self, act: Callable[[], None]) -> None:
        """Do something that may wait, in a thread where the databases can be used."""


current_call: ContextVar[Call | None] = ContextVar("atomicbatch_sqlite_call", default=None)


class Call:
    """One call of the batch; a context manager around it, for ``with`` and ``async with``."""

    def __init__(self, joined: Attempt) -> None:
        self.joined = joined
        self.ended = False
        # By the identity of the app's connection, which may not live as long.
        self.uses: dict[int, ConnectionUse] = {}
        self.gone: list[ConnectionUse] = []
        # These are kept, so that their identities are not used again.
        self.left_alone: dict[int, Any] = {}
        self._token: Token[Call | None] | None = None

    def __enter__(self) -> Call:
        self._token = current_call.set(self)
        return self

    async def __aenter__(self) -> Call:
        return self.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over(error):
            self._finish()
            self._check(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over(error):
            if not all(use.is_at_rest for use in (*self.gone, *self.uses.values())):
                await self.joined.in_its_place(self._finish)
            else:
                self._finish()
            self._check(error)

    def _is_over(self, error: BaseException | None) -> bool:
        """The call has ended; tell whether the batch may go on."""
        if self._token is not None:
            current_call.reset(self._token)
        self.ended = True
        if error is not None and not isinstance(error, Exception):
            return False  # cancelled: everything is rolled back at once
        answer = None if error is None else conflict_behind(error)
        if answer is not None and answer.family is Family.SQLITE and self.joined.reals:
            self.joined.status.doom(ConflictError("another transaction was in the way"))
        return True

    def _finish(self) -> None:
        """What nobody has committed is rolled back; whoever still has a use cannot use it."""
        status = self.joined.status
        for use in reversed((*self.gone, *self.uses.values())):
            try:
                if status.error is None:
                    use.finish()
                use.checkout.closed = True
            except TransactionError as problem:
                status.doom(problem)

    def _check(self, error: BaseException | None) -> None:
        if self.joined.status.error is not None:
            raise self.joined.status.error from error


def _in_child() -> None:
    """A process that a call has forked must not use the batch's connections."""
    call = current_call.get()
    if call is not None and call.joined.status.active:
        call.joined.status.phase = Phase.ENDED
    taken.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
