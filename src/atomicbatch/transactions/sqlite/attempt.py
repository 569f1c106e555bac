"""One attempt at a batch: its calls, its databases, and what went wrong in them."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

from atomicbatch.doors.sqlite import Connection
from atomicbatch.doors.sqlite_uses import taken
from atomicbatch.errors import (
    ConflictError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
)
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller, function_of
from atomicbatch.guard.watch import aside
from atomicbatch.join.checkout import OVER
from atomicbatch.join.status import Phase, Status
from atomicbatch.model import Batch
from atomicbatch.transactions.sqlite.calls import Call, current_call
from atomicbatch.transactions.sqlite.databases import Database, UnsuitableError, database_of
from atomicbatch.transactions.sqlite.memory import Memory
from atomicbatch.transactions.sqlite.others import (
    gave_way,
    has_begun,
    is_left_alone,
    wait_for,
    written_by,
)
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.real import Real
from atomicbatch.transactions.sqlite.threads import threads
from atomicbatch.transactions.sqlite.turns import Turn
from atomicbatch.transactions.sqlite.use import ConnectionUse

logger = logging.getLogger("atomicbatch")
_LEFT_BEHIND = (
    "a call has left a task behind that uses the database while the batch still runs; await it in "
    "the call, or use on_commit"
)


class Joined:
    """
    Everything that one attempt at a batch does in SQLite's databases.

    Args:
        memory: What all batches of the adapter share.
        allowed: What batches leave alone.
        batch: What is attempted.
        deadline: When time is up, as time.monotonic() tells.

    Attributes:
        status: May the batch go on, and if not, why.
        is_alone: Tells, in any thread, whether nothing else runs that it could wait for. Who
            performs the batch knows.
        number: Which attempt it is at the batch, 1 for the first.
    """

    def __init__(self, memory: Memory, allowed: Allowed, batch: Batch, deadline: float) -> None:
        self.status = Status(lambda: caller().place)
        self.deadline = deadline
        self.is_alone: Callable[[], bool] = lambda: False
        self.number = 1
        self._memory = memory
        self._allowed = allowed
        self._reals: dict[object, Real] = {}
        self._lock = threading.Lock()
        self._loop = asyncio._get_running_loop()
        self._thread = threading.get_ident()
        self._batch = batch
        self._wanted = memory.wanted(batch)
        self._is_stopped = False
        self._last_call: Call | None = None

    # What engine and guard ask -----------------------------------------------------------------

    @property
    def reals(self) -> tuple[Real, ...]:
        """One for each database that a call has used."""
        return tuple(real for real in self._begun() if real.is_used)

    def _begun(self) -> list[Real]:
        return list(self._reals.values())

    def call(self) -> Call:
        """What to run one call inside of; its end is the end of all that it has opened."""
        self._last_call = Call(self)
        return self._last_call

    def took_part(self) -> bool:
        """Tell whether the call that ran last has used a database of the batch's."""
        return self._last_call is not None and bool(self._last_call.uses)

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a connection works in the batch's transaction: those are not asked."""
        return any(getattr(real, "connection", None) is connection for real in self._begun())

    def doom(self, error: TransactionError) -> None:
        """Note that the batch cannot be committed."""
        self.status.doom(error)

    def escaped(self, what: str) -> TransactionError:
        """Note that something may be stored already."""
        return self.status.escaped(what)

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
        if call is None or call.joined is not self:
            return None
        key = id(connection)
        if key in call.left_alone:
            return None
        use = call.uses.get(key)
        if use is not None and use.is_of(connection):
            if call.ended:
                self._refuse_ended()
            return use
        if not executes and not self._holds(connection):
            return None
        if call.ended:
            self._refuse_ended()
        joined = self._join(connection)
        if joined is None:
            call.left_alone[key] = connection
        else:
            if use is not None:
                call.gone.append(use)  # of a connection that had the same identity
            call.uses[key] = joined
        return joined

    def _refuse_ended(self) -> None:
        if not self.status.active:
            raise TransactionError(OVER)
        self.status.refuse(_LEFT_BEHIND)

    def _holds(self, connection: Any) -> bool:
        """Tell whether a connection has something open that must not be ended by itself."""
        if any(real.adopted is connection for real in self._begun()):
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
            self.status.refuse(f"a handler uses a connection that {error}")
        if database.key not in self._reals and is_left_alone(database, self._allowed):
            return None
        self.status.check()
        if has_begun(connection) and not self._is_adopted(connection):
            self.status.refuse(
                "a handler uses a connection whose transaction was begun before the batch; commit "
                "or roll it back before, or open a connection within the call"
            )
        if database.is_private and origin.thread not in (None, self._thread):
            self.status.refuse(
                "a handler uses a database in memory whose connection belongs to another thread; "
                "open it with check_same_thread=False"
            )
        real = self._real(database)
        if real.database.detect_types != database.detect_types:
            self.status.refuse(
                "handlers use connections to one database that differ in detect_types; open them "
                "alike"
            )
        return ConnectionUse(real, connection, origin, database, self._begin_real)

    def _is_adopted(self, connection: Any) -> bool:
        return any(real.adopted is connection for real in self._begun())

    def _real(self, database: Database) -> Real:
        with self._lock:
            if not self.status.active:
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

    async def prepare(self) -> None:
        """
        Begin, in a thread, on what the attempt before could not begin on the event loop.

        There it would have had to wait for others, who may need the loop.
        """
        for database, state in self._wanted.items():
            if database.is_there():
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(threads.beginning, self._prepare, database, state)

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

    def has_others(self, real: Real) -> bool:
        """Tell whether another database has been begun already."""
        return any(other.is_open and other is not real for other in self._begun())

    # Others ------------------------------------------------------------------------------------

    def let_others_in(self, connection: Any, cursor: Any, sql: Any) -> None:
        """Somebody outside of the batch uses a connection: wait, refuse, or give way."""
        for real in self._begun():
            if not real.is_open:
                continue
            if real.adopted is connection:
                wait_for(real)
            elif cursor is not None:
                real.give_back(cursor)
        if cursor is not None and self._blocks(connection, sql):
            self._give_way()

    def _blocks(self, connection: Any, sql: Any) -> bool:
        """Tell whether a statement would wait for this batch, which waits for its event loop."""
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            return False
        real = self._reals.get(written_by(connection, sql))
        return real is not None and real.is_open

    def _give_way(self) -> None:
        error = gave_way()
        with self._lock:
            undone = [real for real in self._begun() if real.give_way(error)]
            if undone and self.status.active:
                self.status.doom(error)
        if undone and self._loop is not None:
            self._memory.note_conflict(self._loop)
        for real in undone:
            real.undo()

    # When time is up ---------------------------------------------------------------------------

    # engine/deadline.py calls these three, the first two in a thread of its own.

    def interrupt(self) -> None:
        """Stop the statement that is running, and let none begin any more; never blocks."""
        with self._lock:
            self._is_stopped = True
            self.status.doom(TimeoutExceededError("the time limit of the batch passed"))
        for real in self._begun():
            real.stop()

    def sever(self) -> None:
        """Let go of the databases' locks: whoever waits for one goes on, with an error."""
        if self._loop is not None:
            self._blame_loop()
        for real in self._begun():
            if not real.commit_sent and real.may_end_anywhere:
                threads.ending.submit(real.undo)

    def _blame_loop(self) -> None:
        """Tell what the event loop is doing, where a handler keeps it."""
        function = function_of(sys._current_frames().get(self._thread))
        if function and isinstance(self.status.error, TimeoutExceededError):
            what = f"the time limit passed while the event loop stood still, in {function}"
            logger.warning("a batch is rolled back: %s", what)
            self.status.error.message = what

    def give_up(self) -> bool:
        """Send no COMMIT any more; tell whether one has been sent."""
        with self._lock:
            self._is_stopped = True
            sent = any(real.commit_sent for real in self._begun())
        if not sent:
            threads.ending.submit(self.rollback)
        return sent

    def is_stopped(self) -> bool:
        """Time is up, or nobody waits for the batch any more."""
        return self._is_stopped

    def may_not_send_commit(self, real: Real) -> TransactionError | None:
        """Tell why COMMIT may not be sent any more; else take note that it is."""
        with self._lock:
            if (undone := real.seal()) is not None:
                return undone
            if self._is_stopped:
                return TimeoutExceededError("the time limit of the batch passed before COMMIT")
            real.commit_sent = True
            return None

    # Its end -----------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT everything; roll back instead where something went wrong.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        status = self.status
        if sum(real.wrote for real in self._begun()) > 1:
            status.doom(
                NotBatchableError(
                    "the batch has changed two databases, which cannot be committed as one; "
                    "keep a batch to one of them, or give the other as outside=..."
                )
            )
        with self._lock:
            if status.error is None:
                status.phase = Phase.ENDED
        if status.error is not None:
            self.rollback()
            raise status.error
        # Those that only read first: if one fails, nothing is stored yet.
        reals = sorted(self._begun(), key=lambda real: real.wrote)
        try:
            for index, real in enumerate(reals):
                try:
                    if real.is_open or real.gave_way:
                        real.commit()
                except BaseException:
                    status.phase = Phase.UNDONE
                    for other in reals[index + 1 :]:
                        other.rollback()
                    raise
        finally:
            self._forget()

    def rollback(self) -> None:
        """Roll everything back; ``status.error`` then tells whether something may be stored."""
        with self._lock:
            self.status.phase = Phase.UNDONE
        for real in self._begun():
            real.rollback()
        self._forget()

    def _forget(self) -> None:
        if self in taken:
            taken.remove(self)

    async def in_its_place(self, act: Callable[[], None]) -> None:
        """Do something that may wait, in a thread where the databases can be used."""
        reals = self._begun()
        if self._loop is None or not all(real.may_end_anywhere for real in reals) or not reals:
            act()
        else:
            await self._loop.run_in_executor(threads.ending, act)

    def raise_for(self, error: BaseException) -> None:
        """The block was left by an error: raise another one that counts more, if there is one."""
        problem = self.status.error
        if problem is None or problem is error:
            return
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if isinstance(error, Exception) or (self.status.has_escaped and is_cancelled):
            raise problem from error
