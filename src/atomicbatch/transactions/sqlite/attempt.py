"""One attempt at a batch: which databases take part, what gives way, what stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from functools import partial
from typing import Any

from atomicbatch import greenlets
from atomicbatch.doors.sqlite import Connection
from atomicbatch.doors.sqlite_uses import taken
from atomicbatch.errors import ConflictError, TimeoutExceededError, TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller
from atomicbatch.guard.watch import aside
from atomicbatch.join.acts import Act, Acts, Place
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Phase
from atomicbatch.model import Batch
from atomicbatch.transactions.places import Spawn, threads, undo
from atomicbatch.transactions.sqlite.calls import Call, current_call
from atomicbatch.transactions.sqlite.databases import Database, UnsuitableError, database_of
from atomicbatch.transactions.sqlite.memory import Memory
from atomicbatch.transactions.sqlite.others import (
    gave_way,
    has_begun,
    is_left_alone,
    patience_of,
    wait_for,
    written_by,
)
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.real import Host, Real
from atomicbatch.transactions.sqlite.turns import Turn
from atomicbatch.transactions.sqlite.use import ConnectionUse
from atomicbatch.transactions.standstill import Standstill

logger = logging.getLogger("atomicbatch")


class SQLiteAttempt(Host):
    """
    Everything that one attempt at a batch does in SQLite's databases.

    Its real transactions are known by their databases' keys.

    Args:
        memory: What all batches of the adapter share.
        allowed: What batches leave alone.
        batch: What is attempted.
        deadline: When time is up, as time.monotonic() tells.
    """

    _spawn: Spawn | None = None
    """What ``do_async`` needs."""
    _kind_of_use = ConnectionUse

    def __init__(self, memory: Memory, allowed: Allowed, batch: Batch, deadline: float) -> None:
        super().__init__(threading.Lock(), lambda: caller().place)
        self.deadline = deadline
        self.advice = allowed.advice
        self._memory = memory
        self._allowed = allowed
        self._loop = asyncio._get_running_loop()
        self._thread = threading.get_ident()
        self._standstill = None if self._loop is None else Standstill(self._loop, self._thread)
        self._batch = batch
        self._wanted = memory.wanted(batch)

    @property
    def files(self) -> tuple[Real, ...]:
        """The transactions in SQLite's databases."""
        return tuple(real for real in self.begun if isinstance(real, Real))

    # What engine and guard ask -----------------------------------------------------------------

    def call(self) -> Call:
        """What to run one call inside of; its end is the end of all that it has opened."""
        call = Call(self)
        self.note_call(call)
        return call

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a connection works in the batch's transaction: those are not asked."""
        return any(getattr(real, "connection", None) is connection for real in self.files)

    # What doors ask ----------------------------------------------------------------------------

    def use_of(self, connection: Any, *, executes: bool) -> ConnectionUse | None:
        """
        Tell what stands for a connection of the app's in this call; None: it stands for itself.

        Args:
            connection: The app's.
            executes: It is about to execute something. If not, and the call has not used it yet,
                there is nothing to stand for.
        """
        call = current_call.get()
        if call is None or call.attempt is not self:
            return None
        key = id(connection)
        if key in call.left_alone:
            return None
        use: ConnectionUse | None = call.uses.get(key)
        if use is not None and use.is_of(connection):
            call.check()
            return use
        if not executes and not self._holds(connection):
            return None
        call.check()
        use = self._join(connection)
        if use is None:
            call.left_alone[key] = connection
        else:
            # In the place of a connection that had the same identity, perhaps.
            call.uses[key] = use
            call.hold(use)
        return use

    def has_written(self, connection: Any) -> bool:
        """Tell whether a connection of the app's has written in a transaction that is open."""
        call = current_call.get()
        use = None if call is None else call.uses.get(id(connection))
        return use is not None and use.is_of(connection) and use.has_written

    def _holds(self, connection: Any) -> bool:
        """Tell whether a connection has something open that must not be ended by itself."""
        if any(real.adopted is connection for real in self.files):
            return True
        return has_begun(connection)

    def _join(self, connection: Connection) -> ConnectionUse | None:
        origin = connection._atomicbatch
        if origin.database == "" and origin.thread is None:
            return None  # opened past the door; the guard is asked
        if origin.opened_in is not None:
            return None  # in memory, and the batch's own: nobody else will see it
        try:
            database = database_of(connection, origin)
        except UnsuitableError as error:
            self.refuse(f"a handler uses a connection that {error}")
        if database.key not in self._reals and self._leaves_alone(database):
            return None
        self.check()
        if has_begun(connection) and not self._is_adopted(connection):
            self.refuse(
                "a handler uses a connection whose transaction was begun before the batch; commit "
                "or roll it back before, or open a connection within the call"
            )
        if database.is_private and origin.thread not in (None, self._thread):
            self.refuse(
                "a handler uses a database in memory whose connection belongs to another thread; "
                "open it with check_same_thread=False"
            )
        real = self._real(database)
        if real.database.detect_types != database.detect_types:
            self.refuse(
                "handlers use connections to one database that differ in detect_types; open them "
                "alike"
            )
        return self._kind_of_use(real, connection, origin, database, self._begin_real)

    def _leaves_alone(self, database: Database) -> bool:
        return is_left_alone(database, self._allowed)

    def _is_adopted(self, connection: Any) -> bool:
        return any(real.adopted is connection for real in self.files)

    def _real(self, database: Database) -> Real:
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(database.key)
            if real is None:
                real = self._reals[database.key] = Real(self, database)
            return real

    def _begin_real(self, real: Real, state: State, connection: sqlite3.Connection) -> None:
        """Begin, in the thread of whoever is first."""
        at_once = self._loop is not None and asyncio._get_running_loop() is self._loop
        if self not in taken:
            taken.append(self)
        adopted = connection if real.database.is_private else None
        try:
            with aside():
                real.begin(state, adopted, at_once=at_once)
        except ConflictError:
            if at_once and adopted is None:
                self._memory.want(self._batch, real.database, state)
            raise

    def prepare(self) -> Acts:
        """
        Begin, in a thread, on what the attempt before could not begin on the event loop.

        There it would have had to wait for others, who may need the loop.
        """
        for database, state in self._wanted.items():
            if database.is_there():
                yield Act(Place.BEGINNING, partial(self._prepare, database, state))

    def _prepare(self, database: Database, state: State) -> None:
        if self not in taken:
            taken.append(self)
        real = self._real(database)
        with real.inside:
            real.begin(state, None, at_once=False)

    # What transactions ask ---------------------------------------------------------------------

    def turn(self, database: Database) -> Turn:
        """The line for a database."""
        return self._memory.turn(database)

    # Others ------------------------------------------------------------------------------------

    def let_others_in(self, connection: Any, cursor: Any, sql: Any) -> None:
        """Somebody outside of the batch uses a connection: wait, refuse, or give way."""
        for real in self.files:
            if not real.transaction.is_open:
                continue
            if real.adopted is connection:
                wait_for(real)
            elif cursor is not None:
                real.give_back(cursor)
        if cursor is not None and self._blocks(connection, sql):
            self._give_way()
        elif cursor is not None and self._loop is None and greenlets.are_threads():
            _wait_for_lock(connection, sql)

    def _blocks(self, connection: Any, sql: Any) -> bool:
        """Tell whether a statement would wait for this batch, which waits for its event loop."""
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            return False
        real = self._reals.get(written_by(connection, sql))
        return real is not None and real.transaction.is_open

    def _give_way(self) -> None:
        undone = self.give_way_in(self.files, gave_way())
        if undone and self._loop is not None:
            self._memory.note_conflict(self._loop)
        for real in undone:
            real.undo()

    # When time is up ---------------------------------------------------------------------------

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

    def _blame_loop(self) -> None:
        """Tell what the event loop has been doing since the limit, where a handler keeps it."""
        if self._standstill is None or not (what := self._standstill.told()):
            return
        logger.warning("a batch is rolled back: %s", what)
        if isinstance(self.error, TimeoutExceededError):
            self.error.message = what

    def give_up(self) -> bool:
        """Send no COMMIT any more; tell whether one has been sent; in the batch's own thread."""
        sent = self.stop_for_good()
        if not sent and self._loop is not None:
            undo(self.rollback(), self._loop, self._spawn)
        return sent

    # Its end -----------------------------------------------------------------------------------

    def commit(self) -> Acts:
        try:
            yield from super().commit()
        finally:
            self._forget()

    def rollback(self) -> Acts:
        try:
            yield from super().rollback()
        finally:
            self._forget()

    def _forget(self) -> None:
        if self in taken:
            taken.remove(self)


def _wait_for_lock(connection: Any, sql: Any) -> None:
    """Let a greenlet wait for batches here: in SQLite it would stop them, and all others."""
    key = written_by(connection, sql)
    until = time.monotonic() + patience_of(connection)
    while (real := _open_in(key)) is not None and (left := until - time.monotonic()) > 0:
        real.ended.wait(left)


def _open_in(key: object) -> Real | None:
    """The transaction of a batch that is open in a database, or None."""
    for holder in tuple(taken):
        real = holder._reals.get(key) if isinstance(holder, SQLiteAttempt) else None
        if isinstance(real, Real) and real.transaction.is_open:
            return real
    return None


def _in_child() -> None:
    """A process that a call has forked must not use the batch's connections."""
    call = current_call.get()
    if call is not None and call.attempt.active:
        call.attempt.phase = Phase.ENDED
    taken.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
