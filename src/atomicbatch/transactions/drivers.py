"""DriverTransaction: handlers that use a driver, or a library on one, work in one transaction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from types import TracebackType

from atomicbatch import doors, guard
from atomicbatch.doors.earlier import are_any_unseen
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.blocks import watched
from atomicbatch.guard.watch import Watch
from atomicbatch.join.status import Phase
from atomicbatch.model import Batch
from atomicbatch.transactions.sqlite.attempt import Joined
from atomicbatch.transactions.sqlite.memory import Memory

_NAMES = (str, os.PathLike)


class DriverTransaction:
    """
    Makes handlers that use ``sqlite3`` or ``aiosqlite`` work in one transaction, unmodified.

    Directly, or by a library on them: peewee, Pony, Tortoise, Piccolo, databases. A handler's
    commit is kept when the batch commits; its rollback undoes its own work only. What cannot be
    expressed that way fails the batch with a NotBatchableError that says what to do instead. What
    is written by other drivers is refused.

    Import it before the first database is opened: connections from before cannot take part.

    Args:
        outside: What batches leave alone: what is done with it happens at once, and is not undone
            by a rollback. Paths of SQLite files; URLs of databases; names of libraries or drivers.
    """

    def __init__(self, *, outside: Iterable[str | os.PathLike[str]] = ()) -> None:
        if not isinstance(outside, _NAMES):
            outside = tuple(outside)
        self._allowed = guard.Allowed(outside)  # says what is wrong with it
        self._outside: tuple[str | os.PathLike[str], ...] = tuple(outside)
        self._memory = Memory()
        doors.install()

    def begin(
        self,
        batch: Batch,
        *,
        deadline: float,
    ) -> Joining:
        """
        Join whatever is done inside the block, and commit it on leaving.

        It is a context manager for ``with`` as well as for ``async with``. The databases'
        transactions are begun when they are first used.

        Raises:
            NotBatchableError: There are connections from before this module was imported, and
                nothing tells what is written on them.
        """
        if are_any_unseen():
            raise NotBatchableError(
                "a connection of sqlite3 was opened before DriverTransaction was imported, in "
                "another thread, so that what a call writes on it would stay; import it first"
            )
        return Joining(Joined(self._memory, self._allowed, batch, deadline), self._allowed)

    def wants_alone(self) -> bool:
        """Tell whether batches of this event loop are to run while nothing else runs, for now."""
        loop = asyncio._get_running_loop()
        return loop is not None and self._memory.has_conflicts(loop)

    @property
    def outside(self) -> tuple[str | os.PathLike[str], ...]:
        """What batches leave alone."""
        return self._outside

    def rehearsal(self) -> DriverTransaction:
        """Make one that leaves nothing alone, for batches of which nothing may be stored."""
        twin = copy(self)
        twin._outside, twin._allowed = (), guard.Allowed()
        return twin


class Joining:
    """The block of one attempt, and what stops it when time is up."""

    def __init__(self, joined: Joined, allowed: guard.Allowed) -> None:
        self._block = _join(joined, allowed)
        self._async_block = _join_async(joined, allowed)
        self.interrupt, self.sever, self.give_up = joined.interrupt, joined.sever, joined.give_up

    def __enter__(self) -> Joined:
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Joined:
        return await self._async_block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._async_block.__aexit__(kind, error, traceback)


@contextmanager
def _join(joined: Joined, allowed: guard.Allowed) -> Iterator[Joined]:
    watch: Watch | None = None
    try:
        try:
            with watched(joined, allowed) as watch, joined.call():
                yield joined
        except BaseException as error:
            joined.rollback()
            joined.raise_for(error)
            raise
        joined.commit()
    finally:
        if watch is not None:
            watch.end(undone=joined.status.phase is Phase.UNDONE)


@asynccontextmanager
async def _join_async(joined: Joined, allowed: guard.Allowed) -> AsyncIterator[Joined]:
    watch: Watch | None = None
    try:
        try:
            await joined.prepare()
            with watched(joined, allowed) as watch:
                async with joined.call():
                    yield joined
        except BaseException as error:
            await joined.in_its_place(joined.rollback)
            joined.raise_for(error)
            raise
        await joined.in_its_place(joined.commit)
    finally:
        if watch is not None:
            watch.end(undone=joined.status.phase is Phase.UNDONE)


# Connections that are opened before anybody makes a DriverTransaction are to have doors as well.
doors.install()
