"""One attempt at a batch: which engines take part, what gives way, what stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import URL, Dialect, Engine
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from atomicbatch import greenlets
from atomicbatch.errors import (
    ConflictError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
)
from atomicbatch.guard import aside, reaches
from atomicbatch.guard.callers import caller
from atomicbatch.join.acts import Act, Acts, Place
from atomicbatch.join.diagnosis import Used
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Phase
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions import joining
from atomicbatch.transactions.places import threads, undo
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout
from atomicbatch.transactions.sqlalchemy.engines import (
    are_alike,
    is_in_memory,
    is_same_database,
    name_of,
)
from atomicbatch.transactions.sqlalchemy.host import Host
from atomicbatch.transactions.sqlalchemy.loops import LoopMemory
from atomicbatch.transactions.sqlalchemy.options import Options
from atomicbatch.transactions.sqlalchemy.real import RealTransaction
from atomicbatch.transactions.sqlalchemy.virtual import ProxiedConnection
from atomicbatch.transactions.sqlalchemy.watchdog import watchdog
from atomicbatch.transactions.standstill import Standstill

logger = logging.getLogger("atomicbatch")

current_call: ContextVar[Call | None] = ContextVar("atomicbatch_sqlalchemy_call", default=None)

# Of dialects, by the names that drivers have for us.
_NAMES = {"psycopg2": "psycopg2", "mysqldb": "MySQLdb", "pysqlite": "pysqlite"}


class SQLAlchemyAttempt(Host):
    """
    Everything that one attempt at a batch does in databases.

    Its real transactions are known by their dialects: sub-engines share their engine's, and it
    stays when the pool is replaced.

    Attributes:
        options: What the user has said.
        deadline: When time is up, as time.monotonic() tells.
        fairies: The connections of its real transactions.
        thread: The event loop's, as threading.get_ident() tells; 0 in a sync batch.
    """

    def __init__(self, options: Options, deadline: float) -> None:
        super().__init__(threading.Lock(), lambda: caller().place)
        self.options = options
        self.deadline = deadline
        self.fairies: list[PoolProxiedConnection] = []
        self.thread = 0
        # Of an async batch.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._memory: LoopMemory | None = None
        self._standstill: Standstill | None = None

    def enter_loop(self) -> None:
        """The batch's calls run on this thread's event loop; else in a thread that has none."""
        self._loop = asyncio.get_running_loop()
        self._memory = self.options.memory()
        self.thread = threading.get_ident()
        self._standstill = Standstill(self._loop, self.thread)

    @property
    def is_sync(self) -> bool:
        """The batch runs in a thread without an event loop, for a WSGI app say."""
        return self._loop is None

    # Calls -------------------------------------------------------------------------------------

    def call(self) -> Call:
        """What to run one call inside of; its end is the end of all sessions that it opened."""
        call = Call(self)
        self.note_call(call)
        return call

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a driver's connection is the one of a real transaction."""
        # By way of proxies, where somebody has wrapped the driver's (OpenTelemetry, ddtrace).
        return any(reaches(real.driver, connection) for real in self.reals)

    def connection(self, engine: Engine, call: Call) -> PoolProxiedConnection:
        """Give a session its connection."""
        self.check()
        if call.ended:
            call.refuse_left_behind()
        real = self._reals.get(engine.dialect)
        # Once it is open, a sync engine's needs no more: this is each session's way.
        if real is None or real.dialect.is_async or not real.is_used_and_open:
            real = self._use(engine)
        checkout = SessionCheckout(real)
        call.hold(checkout)
        proxied = ProxiedConnection(checkout, real.fairy)
        # A tenant may be set there, for each request its own.
        for prepare in real.preparers:
            prepare(proxied.dbapi_connection, proxied._connection_record, proxied)
        return proxied

    def _use(self, engine: Engine) -> RealTransaction:
        """Let an engine take part, and begin; or see whether its transaction may still be used."""
        real = self._reals.get(engine.dialect) or self._join(engine)
        at_once = self._is_on_loop(real)
        if at_once and self._memory is not None and not real.transaction.is_open:
            self._memory.note_engine(engine)
        real.is_used = True
        real.begin(at_once=at_once)
        return real

    def _is_on_loop(self, real: RealTransaction) -> bool:
        """Tell whether a sync engine is used in the event loop's thread, which must not wait."""
        if real.dialect.is_async or self._loop is None:
            return False
        # get_running_loop() would raise in nearly all cases, which takes longer than the rest.
        return asyncio._get_running_loop() is self._loop

    def refuse_left_behind(self) -> NoReturn:
        """Whatever a call has left running must store nothing that the batch has undone."""
        logger.warning(
            "a thread or a task that outlives a batch which was rolled back is refused the database"
        )
        raise TransactionError(
            "the batch of this call was rolled back, and what it has left running may store "
            "nothing; start workers when the app starts, not in a call"
        )

    # Engines -----------------------------------------------------------------------------------

    def is_outside(self, dialect: Dialect) -> bool:
        """Tell whether an engine is none of the batch's business, by the user's decision."""
        return bool(self.options.outside) and self.options.is_outside(dialect)

    def leaves_to_door(self, engine: Engine) -> bool:  # noqa: ARG002  # see together.py
        """Tell whether the driver's own door is what lets an engine take part."""
        return False

    def leaves_older_to_door(self, dialect: Dialect) -> bool:  # noqa: ARG002
        """Tell whether the driver's own door judges what was opened before the batch."""
        return False

    def leave_alone(self, fairy: PoolProxiedConnection) -> None:
        """An engine's connection is none of the batch's business; no door may think otherwise."""

    def _join(self, engine: Engine) -> RealTransaction:
        """Let an engine take part."""
        self._check_engine(engine)
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(engine.dialect) or self._find_alike(engine)
            if real is None:
                try:
                    real = RealTransaction(self, engine)
                except NotBatchableError as error:
                    self.doom(error)
                    raise
            self._reals[engine.dialect] = real
        return real

    def _check_engine(self, engine: Engine) -> None:
        if not self.options.is_named(engine):
            self.refuse(
                "a handler uses an engine that SQLAlchemyTransaction was not given; name it there, "
                "or as outside=... if its work need not be part of the batch"
            )
        if not is_in_memory(engine):
            name = _NAMES.get(engine.dialect.driver, "")
            if why_not := greenlets.why_not(name):
                self.refuse(why_not)
        if self.is_sync and engine.dialect.is_async:
            self.refuse(
                "a handler uses an async engine in a batch of a WSGI app, which runs in a thread "
                "without an event loop; use a sync engine there, or serve the app by ASGI"
            )

    def _find_alike(self, engine: Engine) -> RealTransaction | None:
        """Find the transaction of another engine whose connections are as good."""
        other: RealTransaction
        for other in self.begun:
            if are_alike(engine, other.engine):
                return other  # an engine for reading and one for writing, say
            if not is_same_database(engine.url, other.engine.url):
                continue
            if other.is_used:
                self.refuse(
                    f"handlers use two engines of one database, {name_of(other.engine)} and "
                    f"{name_of(engine)}, which cannot see each other's work before COMMIT; "
                    f"use one engine, or give both the same URL, options and connection "
                    f"hooks"
                )
            self._take_back(other)
        return None

    def _take_back(self, real: RealTransaction) -> None:
        """Calls use another engine of that database than has been prepared."""
        if self._memory is not None:
            self._memory.forget_engine(real.engine)
        real.rollback()
        self._reals = {key: other for key, other in self._reals.items() if other is not real}

    def prepare(self) -> Acts:
        """
        Begin, in threads, on the sync engines that batches are known to use on the event loop.

        There they could begin only what needs no waiting.

        Raises:
            TransactionError: One could not be begun.
        """
        if self._memory is None:
            return
        for engine in self._memory.engines():
            if self.is_outside(engine.dialect) or not self.options.is_named(engine):
                continue
            if not is_in_memory(engine):
                yield Act(Place.BEGINNING, partial(self._begin, engine))

    def _begin(self, engine: Engine) -> None:
        for other in self.begun:
            if is_same_database(engine.url, other.engine.url):
                return  # which of them this batch will use is not known yet
        self._join(engine).begin()

    # What real transactions ask ----------------------------------------------------------------

    def slots(self, pool: Pool, family: Family) -> Slots | None:
        """How many batches may use a pool at a time."""
        return self.options.slots_of(pool, family)

    def open(self, act: Callable[[], None]) -> None:
        """Do something on connections of the pool, which is not the batch's own."""
        if not self.is_sync:
            watchdog.watch(self)
        token = current_call.set(None)
        try:
            with aside():
                act()
        finally:
            current_call.reset(token)

    def check_loop(self) -> None:
        """Refuse another event loop than the app's: its end would be the connection's."""
        if asyncio._get_running_loop() is not self._loop:
            self.refuse(
                "a handler uses an async engine in an event loop of its own (asyncio.run); use a "
                "sync engine there, or await it in the app's loop"
            )

    # Stopped from outside, in any thread -------------------------------------------------------

    def give_way(self, error: TransactionError, url: URL | None) -> bool:
        """
        Undo the batch from another thread, without its event loop, so that others can go on.

        Args:
            error: Why. The first reason counts.
            url: Which database others wait for; None: it is not known. An async engine's
                transactions in another database hold nobody up.

        Returns:
            False: there is nothing to undo, or COMMIT has begun, which needs no event loop.
        """
        undone = self.give_way_in(
            (
                real
                for real in self.begun
                if not real.stays_here
                and (not real.dialect.is_async or url is None or is_same_database(url, real.url))
            ),
            error,
        )
        if undone and isinstance(error, ConflictError) and self._memory is not None:
            self._memory.note_conflict()
        for real in undone:
            threads.ending.submit(real.undo)
        return bool(undone)

    # engine/deadline.py calls these three, the first two in a thread of its own.

    def interrupt(self) -> None:
        """Stop the statement that is running, and let none begin any more; never blocks."""
        if self._standstill is not None:
            self._standstill.ask()
        self.stop()

    def sever(self) -> None:
        """Let go of the databases' locks: whoever waits for one goes on, with an error."""
        self._blame_loop()
        for real in self.cut_off():
            threads.ending.submit(real.undo)

    def give_up(self) -> bool:
        """Send no COMMIT any more; tell whether one has been sent; in the batch's own thread."""
        sent = self.stop_for_good()
        if not sent and self._loop is not None:
            undo(self.rollback(), self._loop, greenlet_spawn)
        return sent

    def _blame_loop(self) -> None:
        """Tell what the event loop has been doing since the limit, where a handler keeps it."""
        if self._standstill is None or not (what := self._standstill.told()):
            return
        logger.warning("a batch is rolled back: %s", what)
        if isinstance(self.error, TimeoutExceededError):
            self.error.message = what

    # Its end -----------------------------------------------------------------------------------

    def commit(self) -> Acts:
        try:
            yield from super().commit()
        finally:
            watchdog.forget(self)

    def rollback(self) -> Acts:
        yield from super().rollback()
        watchdog.forget(self)

    # For diagnosis, see join/diagnosis.py ------------------------------------------------------

    def databases(self) -> tuple[Used, ...]:
        return tuple(
            Used(real.url.render_as_string(hide_password=True), real.url, real.wrote)
            for real in self.reals
        )


class Call(joining.Call):
    """One call of the batch."""

    __slots__ = ("attempt",)

    def __init__(self, attempt: SQLAlchemyAttempt) -> None:
        super().__init__(attempt, current_call, greenlet_spawn)
        self.attempt = attempt


def _in_child() -> None:
    """
    A process that a call has forked shares the connection's socket or file: it must not use it.

    There its sessions have connections of their own, on which the guard lets it read.
    """
    call = current_call.get()
    if call is not None and call.attempt.active:
        call.attempt.phase = Phase.ENDED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
