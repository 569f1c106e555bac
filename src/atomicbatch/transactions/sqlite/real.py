"""The batch's own connection to one database: BEGIN, COMMIT or ROLLBACK, and who works on it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from atomicbatch.drivers import sqlite3 as driver
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.conflicts import statement_error
from atomicbatch.drivers.endings import savepoint_failed, says_gone
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    ConflictError,
    TransactionError,
    kind_of,
)
from atomicbatch.join.checkout import OVER
from atomicbatch.join.connection import ENDED
from atomicbatch.join.status import Status
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlite.connections import (
    BatchConnection,
    Link,
    Past,
    connect,
    connection_of,
    move_back,
    move_to,
)
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.likeness import Likeness
from atomicbatch.transactions.sqlite.locks import WriteLock
from atomicbatch.transactions.sqlite.pragmas import State, state_of
from atomicbatch.transactions.sqlite.turns import Turn

logger = logging.getLogger("atomicbatch")
ON_LOOP = (
    "the batch could not be begun on the event loop without waiting; make handlers and "
    "dependencies that use sqlite3 'def', or use aiosqlite"
)
# How long a batch that has one database waits for another one: two batches could wait for ever.
_SECOND_SECONDS = 2.0
_LOOK_UP_SECONDS = 0.1
# PRAGMA synchronous: a batch is one COMMIT, which is worth its place on the disk.
_FULL = 2


class Attempt(Protocol):
    """The attempt at a batch, as its transactions see it."""

    status: Status
    deadline: float

    def turn(self, database: Database) -> Turn:
        """The line for a database."""

    def has_others(self, real: Real) -> bool:
        """Tell whether another database has been begun already."""

    def is_stopped(self) -> bool:
        """Time is up, or nobody waits for the batch any more."""

    def may_not_send_commit(self, real: Real) -> TransactionError | None:
        """Tell why COMMIT may not be sent any more; else take note that it is."""


class Inside:
    """
    A lock that lets one thread in at a time, for as long as the batch runs.

    Whoever is inside may wait for who wants in: a function of Python's, say, or the rows that
    executemany() is given, may come from a thread that reads. Once time is up nobody waits here.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._lock = threading.RLock()
        self._attempt = attempt

    def acquire(self, *, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, as ``threading.RLock.acquire`` does, whatever the batch's time."""
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def __enter__(self) -> None:
        """
        Take it.

        Raises:
            TransactionError: Time is up.
        """
        while not self._lock.acquire(timeout=_LOOK_UP_SECONDS):
            if self._attempt.is_stopped():
                self._attempt.status.check()
                raise TransactionError(OVER)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Real:
    """
    The transaction that a batch's calls share in one database.

    Its methods are called in any thread; ``inside`` lets one in at a time.

    Attributes:
        transaction: The join's.
        inside: A lock; it lets one thread in at a time.
        lock: Which of the app's connections may write.
        link: Runs the join's steps, once it has begun.
        likeness: What of the app's connections the batch's own has now, once it has begun.
        speaker: Whose statements it runs now.
        is_open: It has begun, and not ended.
        is_used: A call has used it; until then it was only begun ahead of time.
        adopted: The app's own connection, where there can be no other one (in memory), or None.
        commit_sent: COMMIT is being sent, or has been.
        gave_way: Why it was undone for others to go on, or None.
    """

    link: Link
    likeness: Likeness
    connection: sqlite3.Connection
    _plain: Any

    def __init__(self, attempt: Attempt, database: Database) -> None:
        self.database = database
        self.transaction = Transaction(Family.SQLITE, attempt.status)
        self.transaction.begins_lazily = True
        self.inside = Inside(attempt)
        self.lock = WriteLock(self.inside)
        self.speaker: object = None
        self.is_open = False
        self.is_used = False
        self.adopted: sqlite3.Connection | None = None
        self.commit_sent = False
        self.gave_way: TransactionError | None = None
        self.ended = threading.Event()
        self._attempt = attempt
        self._status = attempt.status
        self._turn: Turn | None = None
        # The one in which the app's connection can be used, where only one can.
        self._thread: int | None = None
        self._is_ending = False
        self._is_sealed = False
        self._was_interrupted = False

    @property
    def wrote(self) -> bool:
        """Something in it may have changed the database."""
        return self.transaction.savepoints.wrote

    # Begin -------------------------------------------------------------------------------------

    def begin(self, state: State, adopted: sqlite3.Connection | None, *, at_once: bool) -> None:
        """
        Begin, with ``inside`` held.

        Args:
            state: The pragmas of whoever is first.
            adopted: The app's connection, where there can be no other one.
            at_once: In the event loop's thread. It must not wait for a turn or a lock, since
                whoever has them may need the loop: the batch is run again, and then begins in
                another thread.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """
        status = self._status
        status.check()
        if not status.active:
            raise TransactionError(OVER)
        try:
            self._take_turn(at_once)
            try:
                self._open(state, adopted, at_once)
            except BaseException:
                self._close()
                raise
        except Exception as error:
            problem = _begin_error(error)
            status.doom(problem)
            raise problem from error

    def _take_turn(self, at_once: bool) -> None:
        turn = self._attempt.turn(self.database)
        if turn.take_now():
            self._turn = turn
            return
        if at_once:
            raise ConflictError(ON_LOOP)
        until = self._attempt.deadline
        has_others = self._attempt.has_others(self)
        if has_others:
            until = min(until, time.monotonic() + _SECOND_SECONDS)
        if not turn.take(until, self._attempt.is_stopped):
            self._status.check()
            if has_others:
                raise ConflictError("another batch has the second database of this one")
            raise BusyError("too many batches are running")
        self._turn = turn

    def _open(self, state: State, adopted: sqlite3.Connection | None, at_once: bool) -> None:
        seconds = 0.0 if at_once else max(0.0, self._attempt.deadline - time.monotonic())
        if self._attempt.has_others(self):
            seconds = min(seconds, _SECOND_SECONDS)
        self.adopted = adopted
        if adopted is None:
            self.connection = connect(self.database, seconds)
        else:
            self.connection = adopted
            self._thread = adopted._atomicbatch.thread  # type: ignore[attr-defined]
        self._plain = self.connection if adopted is None else Past(adopted)
        self.link = Link(self._plain)
        self.transaction.connection.state = self.link
        if adopted is None:
            self._set_up(state)
        self.likeness = Likeness(self.connection, dict(state))
        self._status.check()
        self._send_begin(at_once)
        self.link.send(self.transaction.savepoints.after_begin())
        self.is_open = True
        self._status.check()

    def _set_up(self, state: State) -> None:
        """Make the batch's own connection like the app's."""
        own = state_of(self.connection, is_read_only=False)
        texts = [f"PRAGMA {name}={value}" for name, value in state.items() if own[name] != value]
        # Pages that do not fit into the cache would be written early, and lock readers out.
        self.link.send(["PRAGMA cache_spill=0", f"PRAGMA synchronous={_FULL}", *texts])

    def _send_begin(self, at_once: bool) -> None:
        try:
            self.link.send([driver.BEGIN])
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_READONLY"):
                self.link.send([driver.BEGIN_TO_READ])  # a file that nobody may write
            elif at_once and name.startswith("SQLITE_BUSY"):
                raise ConflictError(ON_LOOP) from error
            elif name.startswith("SQLITE_BUSY"):
                raise BusyError("the database was locked for as long as the batch may take") from (
                    error
                )
            else:
                raise

    # Cursors -----------------------------------------------------------------------------------

    def move_here(self, cursor: sqlite3.Cursor, owner: sqlite3.Connection) -> None:
        """Let a cursor of the app's work on the batch's own connection."""
        move_to(cursor, self.connection, owner)

    def give_back(self, cursor: sqlite3.Cursor) -> None:
        """Somebody outside of the batch uses a cursor that the batch has used."""
        if connection_of(cursor) is self.connection:
            move_back(cursor)

    # Giving way --------------------------------------------------------------------------------

    def give_way(self, error: TransactionError) -> bool:
        """Tell whether it is to be undone now, for others to go on; by :meth:`undo`."""
        if not self.is_open or self._is_sealed or self.gave_way is not None:
            return False
        self.gave_way = error
        return True

    def seal(self) -> TransactionError | None:
        """Tell why it cannot be committed. If nothing, it does not give way any more."""
        self._is_sealed = self.gave_way is None
        return self.gave_way

    # End ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        with self.inside:
            self._is_ending = True
            if not self.is_open:
                raise self.gave_way or TransactionError(OVER)
            self.likeness.drop_hooks()
            self._prove_for_commit()
            if not self.wrote:
                self._roll_back()  # there is nothing to commit
                return
            if (stopped := self._attempt.may_not_send_commit(self)) is not None:
                self._roll_back()
                raise stopped
            seconds = max(0.0, self._attempt.deadline - time.monotonic())
            try:
                self.link.send([f"PRAGMA busy_timeout={int(seconds * 1000)}"])
                # Only a file without psow can be torn when its disk is full.
                driver.commit(self._plain, full_is_refused="psow=" not in self.database.path)
            except BaseException as error:
                self._roll_back()
                if isinstance(error, TransactionError):
                    raise
                raise commit_error(error) from error
            self._close()

    def _prove_for_commit(self) -> None:
        try:
            self.link.send(self.transaction.savepoints.before_commit())
        except BaseException as error:
            problem = (
                self.gave_way
                or statement_error(error, by_driver=True)
                or BrokenTransactionError(
                    ENDED if says_gone(error) else savepoint_failed(error),
                    may_be_stored=says_gone(error),
                )
            )
            self._roll_back()
            raise problem from error

    def rollback(self) -> None:
        """ROLLBACK; stop a statement that is still running."""
        while not self.inside.acquire(timeout=0.1):
            self._interrupt()
        try:
            if self.is_open:
                self._is_ending = True
                self.likeness.drop_hooks()
                self._prove()
                self._roll_back()
        finally:
            self.inside.release()

    def undo(self) -> None:
        """Let go of its lock, in any thread; never raises."""
        try:
            self.rollback()
        except Exception as error:
            logger.error("a batch that others wait for could not be undone (%s)", kind_of(error))
            logger.debug("that was", exc_info=error)

    def _prove(self) -> None:
        """Before ROLLBACK: note where the transaction is not the one any more that was begun."""
        if self._was_interrupted or isinstance(self._status.error, BrokenTransactionError):
            return
        try:
            self.link.send(self.transaction.savepoints.before_rollback())
        except sqlite3.Error as error:
            if statement_error(error, by_driver=True) is None and not self._was_interrupted:
                logger.error(
                    "the batch's transaction had ended before ROLLBACK (%s)", kind_of(error)
                )
                self._status.escaped(ENDED).__cause__ = error

    def _roll_back(self) -> None:
        try:
            driver.rollback(self._plain)
        except sqlite3.Error as error:
            logger.debug("ROLLBACK failed; the connection is closed (%s)", kind_of(error))
        self._close()

    def _close(self) -> None:
        self.is_open = False
        try:
            connection = getattr(self, "connection", None)
            # Cursors stay until they are used again. Whoever has one may be about to fetch from it,
            # or to close it: then the connection goes with the last of them.
            if isinstance(connection, BatchConnection) and not connection.owners:
                connection.close()
        finally:
            self.ended.set()
            turn, self._turn = self._turn, None
            if turn is not None:
                turn.give()

    # Stopped from outside, in any thread ---------------------------------------------------------

    def is_busy(self) -> bool:
        """Tell, in any thread, whether another thread is inside."""
        if self.inside.acquire(blocking=False):
            self.inside.release()
            return False
        return True

    def stop(self) -> None:
        """Stop the statement that is running, if one is; never blocks."""
        if not self._is_ending and self.is_busy():
            self._interrupt()

    @property
    def may_end_anywhere(self) -> bool:
        """It can be ended in any thread, not only in that of the app's connection."""
        return self.adopted is None or self._thread is None

    def _interrupt(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None:
            self._was_interrupted = True
            with suppress(sqlite3.Error):
                sqlite3.Connection.interrupt(connection)


def _begin_error(error: Exception) -> TransactionError:
    if isinstance(error, TransactionError):
        return error
    conflict = statement_error(error, by_driver=True)
    if conflict is not None:
        return conflict
    return BusyError("no transaction could be begun")
