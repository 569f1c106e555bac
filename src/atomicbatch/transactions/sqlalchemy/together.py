"""
Together: batches of an app that uses SQLAlchemy's engines and drivers, or libraries on these.

An engine whose driver has a joining door is left to that door, so that one mechanism knows all that
is done in a database. An engine of another driver joins by the door of engines. So an attempt is
two attempts, of which the second has mostly nothing to do::

    TogetherAttempt
      doors    DoorsAttempt     sqlite3, psycopg, ... with or without an engine above
      engines  EnginesAttempt   pg8000, mysqlconnector, ...
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from dataclasses import replace
from inspect import isawaitable
from typing import Any, NoReturn

from sqlalchemy import Dialect, Engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from atomicbatch.doors.sqlalchemy import WITH_DOORS
from atomicbatch.errors import TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.join.acts import Acts
from atomicbatch.join.diagnosis import Used
from atomicbatch.join.status import Phase
from atomicbatch.model import Batch
from atomicbatch.transactions.around import around
from atomicbatch.transactions.drivers import DriverTransaction, Joining
from atomicbatch.transactions.servers.attempt import DriverAttempt
from atomicbatch.transactions.servers.introduction import Introduction
from atomicbatch.transactions.sqlalchemy.attempt import SQLAlchemyAttempt
from atomicbatch.transactions.sqlalchemy.engines import name_of
from atomicbatch.transactions.sqlalchemy.options import Options
from atomicbatch.transactions.sqlite import calls


class Together:
    """
    Begins batches for engines and drivers alike; ``transaction=[..., ...]`` makes it.

    Args:
        options: What SQLAlchemyTransaction was given.
        drivers: The other adapter.

    Raises:
        ValueError: The two were given different isolation levels.
    """

    def __init__(self, options: Options, drivers: DriverTransaction) -> None:
        self._drivers = drivers.beside_engines(
            outside=options.names,
            isolation_level=options.isolation_level,
            max_batches=options.max_batches,
        )
        self._options = replace(options, isolation_level=self._drivers.isolation_level)
        self._allowed = Allowed(self.outside)

    def begin(self, batch: Batch, *, deadline: float) -> TogetherJoining:
        """Join whatever is done inside the block; see ``transactions/contract.py``."""
        if (nested := around.nest(batch, deadline)) is not None:
            block: TogetherJoining = nested
            return block
        self._drivers.check_connections()
        doors = self._drivers.attempt(batch, deadline, DoorsAttempt)
        attempt = TogetherAttempt(doors, EnginesAttempt(self._options, deadline))
        return TogetherJoining(attempt, self._allowed, _spawn)

    def wants_alone(self) -> bool:
        """Tell whether batches of this event loop are to run while nothing else runs, for now."""
        return self._drivers.wants_alone()

    @property
    def outside(self) -> tuple[Any, ...]:
        """What batches leave alone."""
        return (*self._options.outside, *self._drivers.outside)

    def rehearsal(self) -> Together:
        """Make one that leaves nothing alone, for batches of which nothing may be stored."""
        options = self._options
        engines = (*options.engines, *options.outside) if options.engines else ()
        options = replace(options, engines=engines, outside=(), names=())
        return Together(options, self._drivers.rehearsal())


async def _spawn(act: Callable[[], object]) -> None:
    """Do an act of an async driver's: an engine's wants a greenlet, a door's is to be awaited."""
    done: Any = await greenlet_spawn(act)
    if isawaitable(done):
        await done


class DoorsAttempt(DriverAttempt):
    """What is done by drivers with doors, by way of an engine or not."""

    engines: EnginesAttempt

    def _real_of(self, introduction: Introduction, kind: Any, make: Any) -> Any:
        family, *_, name = introduction.key
        for real in self.engines.reals:
            if is_of(real.dialect, family) and str(real.url.database or "") == name:
                self.refuse(_beside(name_of(real.engine), kind.named.name))
        return super()._real_of(introduction, kind, make)


class EnginesAttempt(SQLAlchemyAttempt):
    """What is done by engines whose drivers have no doors."""

    doors: DoorsAttempt

    def leaves_to_door(self, engine: Engine) -> bool:
        if engine.dialect.driver not in WITH_DOORS:
            return False
        self._check_engine(engine)
        return True

    def leaves_older_to_door(self, dialect: Dialect) -> bool:
        return dialect.driver in WITH_DOORS

    def leave_alone(self, fairy: PoolProxiedConnection) -> None:
        call = calls.current_call.get()
        connection: Any = fairy.driver_connection
        # aiosqlite's has one of sqlite3's, once it is open.
        for one in (connection, getattr(connection, "_connection", None)):
            if call is not None and one is not None:
                call.left_alone[id(one)] = one

    def _check_engine(self, engine: Engine) -> None:
        super()._check_engine(engine)
        if engine.dialect.driver in WITH_DOORS:
            return
        for real in self.doors.servers:
            family, *_, name = real.introduction.key
            if is_of(engine.dialect, family) and str(engine.url.database or "") == name:
                self.refuse(_beside(real.kind.named.name, name_of(engine)))


def is_of(dialect: Dialect, family: str) -> bool:
    """Tell whether an engine's database may be one of a family: postgresql, mysql."""
    names = {"cockroachdb": "postgresql", "mariadb": "mysql"}
    return names.get(dialect.name, dialect.name) == family


def _beside(one: str, other: str) -> str:
    # One name on two servers is refused as well: the engine's driver does not tell which it is.
    return (
        f"a handler uses a database by {other} that is open in this batch by {one} already, and "
        f"would wait for its locks for ever: use one driver for one database, or give the other "
        f"as outside=..."
    )


class TogetherAttempt:
    """
    One attempt at a batch, of two; a reason for either not to go on is one for both.

    Args:
        doors: What is done by drivers with doors.
        engines: What is done by other engines.
    """

    def __init__(self, doors: DoorsAttempt, engines: EnginesAttempt) -> None:
        doors.engines, engines.doors = engines, doors
        self._doors, self._engines = doors, engines
        self._both: tuple[DoorsAttempt, EnginesAttempt] = doors, engines
        # What the drivers' doors ask.
        self.use_of, self.server_use_of = doors.use_of, doors.server_use_of

    def enter_loop(self) -> None:
        """The batch's calls run on this thread's event loop; else in a thread that has none."""
        self._engines.enter_loop()

    # What engine and guard ask -----------------------------------------------------------------

    @property
    def error(self) -> TransactionError | None:
        """Why it cannot be committed, or None."""
        errors = [one.error for one in self._both if one.error is not None]
        return next((one for one in errors if one is self._escaped), errors[0] if errors else None)

    @property
    def _escaped(self) -> TransactionError | None:
        return next((one.error for one in self._both if one.has_escaped), None)

    @property
    def has_escaped(self) -> bool:
        """Something of it may be stored, although it cannot be committed."""
        return any(one.has_escaped for one in self._both)

    @property
    def phase(self) -> Phase:
        """Whether it runs, or how it ends."""
        return self._doors.phase

    @property
    def is_alone(self) -> Callable[[], bool]:
        """Tells, in any thread, whether nothing else runs that it could wait for."""
        return self._doors.is_alone

    @is_alone.setter
    def is_alone(self, is_alone: Callable[[], bool]) -> None:
        self._doors.is_alone = self._engines.is_alone = is_alone

    @property
    def number(self) -> int:
        """Which attempt it is at the batch, 1 for the first."""
        return self._doors.number

    @number.setter
    def number(self, number: int) -> None:
        self._doors.number = self._engines.number = number

    def doom(self, error: TransactionError) -> None:
        """Note that the batch cannot be committed. The first reason counts."""
        for one in self._both:
            one.doom(error)

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: what a handler does cannot be made part of it."""
        error = self._doors.refusal(what)
        self._engines.doom(error)
        raise error

    def share(self) -> None:
        """What one of them has met concerns the other."""
        if self.error is not None:
            self.doom(self.error)

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a driver's connection is one of the batch's own."""
        return any(one.takes_part(connection) for one in self._both)

    def took_part(self) -> bool:
        """Tell whether the call that ran last has used a database of the batch's."""
        return any(one.took_part() for one in self._both)

    def call(self) -> TogetherCall:
        """What to run one call inside of."""
        return TogetherCall(self, self._doors.call(), self._engines.call())

    # When time is up ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """See engine/deadline.py."""
        for one in self._both:
            one.interrupt()

    def sever(self) -> None:
        """See there."""
        for one in self._both:
            one.sever()

    def give_up(self) -> bool:
        """See there."""
        doors, engines = (one.give_up() for one in self._both)
        return doors or engines

    # Begin and end -----------------------------------------------------------------------------

    def prepare(self) -> Acts:
        """Begin ahead of the first call what has to be."""
        for one in self._both:
            yield from one.prepare()

    def commit(self) -> Acts:
        """COMMIT both: what has only read first, so that nothing is stored if that fails."""
        first, last = sorted(self._both, key=lambda one: one.writers)
        if first.writers:
            first.doom_two_writers()
        self.share()
        if (error := self.error) is not None:
            yield from self.rollback()
            raise error
        try:
            yield from first.commit()
        except BaseException:
            yield from last.rollback()
            raise
        yield from last.commit()

    def rollback(self) -> Acts:
        """Roll everything back."""
        for one in self._both:
            yield from one.rollback()

    # For diagnosis, see join/diagnosis.py ------------------------------------------------------

    def databases(self) -> tuple[Used, ...]:
        """Tell which databases calls have used, by either."""
        return tuple(used for one in self._both for used in one.databases())

    def reopen_to_refuse(self) -> None:
        """After ROLLBACK: refuse what calls have left running as if the batch still ran."""
        for one in self._both:
            one.reopen_to_refuse()


class TogetherCall(AbstractContextManager[None], AbstractAsyncContextManager[None]):
    """One call, as both attempts have it."""

    def __init__(self, attempt: TogetherAttempt, *both: Any) -> None:
        self._attempt = attempt
        self._both = both
        self._left = ExitStack()
        self._left_async = AsyncExitStack()

    def __enter__(self) -> None:
        for one in self._both:
            self._left.enter_context(one)

    async def __aenter__(self) -> None:
        for one in self._both:
            await self._left_async.enter_async_context(one)

    def __exit__(self, *error: Any) -> bool | None:
        try:
            return self._left.__exit__(*error)
        finally:
            self._attempt.share()

    async def __aexit__(self, *error: Any) -> bool | None:
        try:
            return await self._left_async.__aexit__(*error)
        finally:
            self._attempt.share()

    def leave(self, error: BaseException | None) -> Acts:
        """End both, whatever the end of the first raises."""
        problem = error
        for one in reversed(self._both):
            try:
                yield from one.leave(problem)
            except BaseException as another:
                problem = another
        self._left.pop_all()
        self._attempt.share()
        if problem is not None and problem is not error:
            raise problem


class TogetherJoining(Joining[TogetherAttempt]):
    """The block of one attempt."""

    async def __aenter__(self) -> TogetherAttempt:
        self._attempt.enter_loop()
        return await super().__aenter__()
