"""DriverTransaction: handlers that use a driver, or a library on one, work in one transaction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from copy import copy
from typing import Protocol, TypeVar

from atomicbatch import doors, greenlets, guard
from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.doors.earlier import are_any_unseen, unseen
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.blocks import watched
from atomicbatch.guard.places import Place
from atomicbatch.guard.watch import Watch
from atomicbatch.join.acts import Acts
from atomicbatch.join.status import Phase
from atomicbatch.join.transaction import LEVELS
from atomicbatch.model import Batch
from atomicbatch.transactions import joining
from atomicbatch.transactions.around import around
from atomicbatch.transactions.places import Spawn
from atomicbatch.transactions.servers.attempt import DriverAttempt, spawn
from atomicbatch.transactions.sqlite.memory import Memory

_NAMES = (str, os.PathLike)
Outside = str | os.PathLike[str] | Place
D = TypeVar("D", bound=DriverAttempt)


class Attempt(joining.Attempt, Protocol):
    """An attempt that tells how it has ended."""

    @property
    def phase(self) -> Phase:
        """Whether it runs, or how it has ended."""


A = TypeVar("A", bound=Attempt)


class DriverTransaction:
    """
    Makes handlers that use a database's driver work in one transaction, unmodified.

    Directly, or by a library on it: peewee, Pony, Tortoise, Piccolo, databases. A handler's
    commit is kept when the batch commits; its rollback undoes its own work only. What cannot be
    expressed that way fails the batch with a NotBatchableError that says what to do instead. What
    is written by other drivers is refused.

    Import it before the first database is opened: connections from before cannot take part.

    Args:
        outside: What batches leave alone: what is done with it happens at once, and is not undone
            by a rollback. Paths of SQLite files; URLs of databases; names of libraries or drivers.
        isolation_level: What the transactions of servers are begun at, such as ``"SERIALIZABLE"``;
            None: what the app's connections have.
        max_batches: How many batches may run at a time; None: 16. Others stand in line.
        advice: What to do instead of what is refused, as whoever has made this does it.

    Raises:
        ValueError: There is no such isolation level, or no batch could run.
    """

    def __init__(
        self,
        *,
        outside: Iterable[Outside] = (),
        isolation_level: str | None = None,
        max_batches: int | None = None,
        advice: Advice = ARGUMENTS,
    ) -> None:
        if max_batches is not None and max_batches < 1:
            raise ValueError("max_batches is at least 1")
        self._level = (isolation_level or "").replace("_", " ").upper()
        if self._level not in ("", *LEVELS):
            raise ValueError(f"isolation_level is one of {', '.join(LEVELS)}")
        if not isinstance(outside, _NAMES):
            outside = tuple(outside)
        self._allowed = guard.Allowed(outside, advice)  # says what is wrong with it
        self._outside: tuple[Outside, ...] = tuple(outside)
        self._memory = Memory(max_batches)
        doors.install()

    def begin(
        self,
        batch: Batch,
        *,
        deadline: float,
    ) -> Joining[DriverAttempt]:
        """
        Join whatever is done inside the block, and commit it on leaving.

        It is a context manager for ``with`` as well as for ``async with``. The databases'
        transactions are begun when they are first used.

        Raises:
            NotBatchableError: There are connections from before this module was imported, and
                nothing tells what is written on them.
        """
        if (nested := around.nest(batch, deadline)) is not None:
            block: Joining[DriverAttempt] = nested
            return block
        self.check_connections()
        return Joining(self.attempt(batch, deadline, DriverAttempt), self._allowed)

    def check_connections(self) -> None:
        """
        See whether there are connections on which anything may be written unseen.

        Raises:
            NotBatchableError: There are; or gevent is here, and was not told of in time.
        """
        greenlets.check()
        advice = self.advice
        if are_any_unseen(advice):
            where = ", in another thread" if unseen[0] == "sqlite3" else ""
            raise NotBatchableError(
                f"a connection of {unseen[0]} was opened before {advice.joins_since}{where}, "
                f"so that what a call writes on it would stay; {advice.join_first}"
            )

    def attempt(self, batch: Batch, deadline: float, make: type[D]) -> D:
        """Make what one attempt does by drivers."""
        return make(self._memory, self._allowed, batch, deadline, self._level)

    def wants_alone(self) -> bool:
        """Tell whether batches of this event loop are to run while nothing else runs, for now."""
        loop = asyncio._get_running_loop()
        return loop is not None and self._memory.has_conflicts(loop)

    @property
    def outside(self) -> tuple[Outside, ...]:
        """What batches leave alone."""
        return self._outside

    @property
    def advice(self) -> Advice:
        """What to do instead of what is refused."""
        return self._allowed.advice

    @property
    def isolation_level(self) -> str | None:
        """What the transactions of servers are begun at."""
        return self._level or None

    def beside_engines(
        self,
        *,
        outside: Iterable[Outside],
        isolation_level: str | None,
        max_batches: int | None,
    ) -> DriverTransaction:
        """
        Make one like this that does what SQLAlchemyTransaction was told as well.

        Raises:
            ValueError: It was told another isolation level, or one that there is not.
        """
        told = (isolation_level or "").replace("_", " ").upper()
        if told and self._level and told != self._level:
            raise ValueError(
                f"SQLAlchemyTransaction(isolation_level={isolation_level!r}) and "
                f"DriverTransaction(isolation_level={self._level!r}) have one transaction; "
                f"give both the same, or one of them none"
            )
        twin = DriverTransaction(
            outside=(*self._outside, *outside),
            isolation_level=told or self._level,
            advice=self.advice,
        )
        twin._memory = Memory(max_batches)
        return twin

    def rehearsal(self) -> DriverTransaction:
        """Make one that leaves nothing alone, for batches of which nothing may be stored."""
        twin = copy(self)
        twin._outside, twin._allowed = (), guard.Allowed((), self.advice)
        return twin


class Joining(joining.Joining[A]):
    """
    The block of one attempt, with a watch on what its calls do.

    Args:
        attempt: What is begun and ended.
        allowed: What batches leave alone.
        spawn: Does what an async driver's act is.
    """

    def __init__(self, attempt: A, allowed: guard.Allowed, spawn: Spawn = spawn) -> None:
        super().__init__(attempt, spawn)
        self._watched = watched(attempt, allowed)
        self._watch: Watch | None = None

    def _enter(self) -> Acts:
        yield from super()._enter()
        self._watch = self._watched.__enter__()

    def _leave(self, error: BaseException | None) -> Acts:
        self._watched.__exit__(None, None, None)
        try:
            yield from super()._leave(error)
        finally:
            if self._watch is not None:
                self._watch.end(undone=self._attempt.phase is Phase.UNDONE)


# Connections that are opened before anybody makes a DriverTransaction are to have doors as well.
doors.install()
