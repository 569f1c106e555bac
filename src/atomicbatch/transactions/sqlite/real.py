"""The transaction of a batch in one database: its turn, its connection, who works on it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from atomicbatch import greenlets
from atomicbatch.errors import BusyError, ConflictError, TransactionError, kind_of
from atomicbatch.join.acts import Place
from atomicbatch.join.attempt import Attempt
from atomicbatch.join.connection import begin_error
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Health, Stage
from atomicbatch.join.steps import run
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlite.connections import (
    BatchConnection,
    connect,
    connection_of,
    move_back,
    move_to,
)
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.inside import Inside
from atomicbatch.transactions.sqlite.likeness import Likeness
from atomicbatch.transactions.sqlite.link import ON_LOOP, Link, Past
from atomicbatch.transactions.sqlite.locks import WriteLock
from atomicbatch.transactions.sqlite.pragmas import State, state_of
from atomicbatch.transactions.sqlite.turns import Turn

logger = logging.getLogger("atomicbatch")
# How long a batch that has one database waits for another one: two batches could wait for ever.
_SECOND_SECONDS = 2.0
# PRAGMA synchronous: a batch is one COMMIT, which is worth its place on the disk.
_FULL = 2


class Host(Attempt[Any], ABC):
    """The attempt at a batch, as its transactions know it; ``attempt.py`` has the rest."""

    deadline: float

    @abstractmethod
    def turn(self, database: Database) -> Turn:
        """The line for a database."""

    def has_others(self, real: Real) -> bool:
        """Tell whether another database has been begun already."""
        return any(other.transaction.is_open and other is not real for other in self.begun)


class Real:
    """
    The transaction that a batch's calls share in one database.

    Its methods are called in any thread; ``inside`` lets one in at a time.

    Attributes:
        transaction: The join's: its state, and what the app's connections use.
        inside: A lock; it lets one thread in at a time.
        lock: Which of the app's connections may write.
        link: Runs the join's steps, once it has begun.
        likeness: What of the app's connections the batch's own has now, once it has begun.
        speaker: Whose statements it runs now.
        is_used: A call has used it; until then it was only begun ahead of time.
        adopted: The app's own connection, where there can be no other one (in memory), or None.
        ended: Set when it is over.
    """

    link: Link
    likeness: Likeness
    connection: sqlite3.Connection

    def __init__(self, attempt: Host, database: Database) -> None:
        self.database = database
        self.transaction = Transaction(Family.SQLITE, attempt)
        self.transaction.begins_lazily = True
        self.transaction.stays_open_when_cancelled = True
        # Only a file without psow can be torn when its disk is full.
        self.transaction.full_is_refused = "psow=" not in database.path
        self.inside = Inside(attempt)
        self.lock = WriteLock(self.inside)
        self.speaker: object = None
        self.is_used = False
        self.adopted: sqlite3.Connection | None = None
        self.ended = threading.Event()
        self._attempt = attempt
        self._turn: Turn | None = None
        # The one in which the app's connection can be used, where only one can.
        self._thread: int | None = None

    @property
    def place(self) -> Place:
        """Where its COMMIT and ROLLBACK are done."""
        return Place.ENDING if self.may_be_undone_anywhere else Place.HERE

    @property
    def may_be_undone_anywhere(self) -> bool:
        """It can be ended in any thread, not only in that of the app's connection."""
        return self.adopted is None or self._thread is None

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
        attempt = self._attempt
        attempt.check()
        if not attempt.active:
            raise TransactionError(OVER)
        try:
            self._take_turn(at_once)
            try:
                self._open(state, adopted, at_once)
            except BaseException:
                self._close()
                raise
        except Exception as error:
            problem = begin_error(error)
            attempt.doom(problem)
            raise problem from error

    def _take_turn(self, at_once: bool) -> None:
        attempt = self._attempt
        turn = attempt.turn(self.database)
        if turn.take_now():
            self._turn = turn
            return
        if at_once:
            raise ConflictError(ON_LOOP)
        until = attempt.deadline
        has_others = attempt.has_others(self)
        if has_others:
            until = min(until, time.monotonic() + _SECOND_SECONDS)
        if not turn.take(until, lambda: attempt.is_stopped):
            attempt.check()
            if has_others:
                raise ConflictError("another batch has the second database of this one")
            raise BusyError("too many batches are running")
        self._turn = turn

    def _open(self, state: State, adopted: sqlite3.Connection | None, at_once: bool) -> None:
        attempt, transaction = self._attempt, self.transaction
        self.adopted = adopted
        plain: Any
        patience = self._patience(at_once)
        if adopted is None:
            waits = 0.0 if greenlets.are_threads() else patience
            plain = self.connection = connect(self.database, waits)
        else:
            self.connection, plain = adopted, Past(adopted)
            self._thread = adopted._atomicbatch.thread  # type: ignore[attr-defined]
        self.link = Link(
            plain,
            attempt.deadline,
            lambda: transaction.wrote,
            at_once=at_once,
            patience=patience,
        )
        transaction.connection.state = self.link
        if adopted is None:
            self._set_up(state)
        self.likeness = Likeness(self.connection, dict(state), self._attempt.advice)
        attempt.check()
        run(transaction.begin(), self.link)
        transaction.mark_open()
        attempt.check()

    def _patience(self, at_once: bool) -> float:
        """How long to wait for a lock, in seconds."""
        seconds = 0.0 if at_once else max(0.0, self._attempt.deadline - time.monotonic())
        return min(seconds, _SECOND_SECONDS) if self._attempt.has_others(self) else seconds

    def _set_up(self, state: State) -> None:
        """Make the batch's own connection like the app's."""
        own = state_of(self.connection, is_read_only=False)
        texts = [f"PRAGMA {name}={value}" for name, value in state.items() if own[name] != value]
        # Pages that do not fit into the cache would be written early, and lock readers out.
        self.link.send(["PRAGMA cache_spill=0", f"PRAGMA synchronous={_FULL}", *texts])

    # Cursors -----------------------------------------------------------------------------------

    def move_here(self, cursor: sqlite3.Cursor, owner: sqlite3.Connection) -> None:
        """Let a cursor of the app's work on the batch's own connection."""
        move_to(cursor, self.connection, owner)

    def give_back(self, cursor: sqlite3.Cursor) -> None:
        """Somebody outside of the batch uses a cursor that the batch has used."""
        if connection_of(cursor) is self.connection:
            move_back(cursor)

    # End ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        attempt, transaction = self._attempt, self.transaction

        def may_not() -> TransactionError | None:
            return attempt.seal(self) or attempt.may_not_send_commit(self)

        with self.inside:
            if not transaction.is_open:
                raise transaction.gave_way or TransactionError(OVER)
            try:
                self.likeness.drop_hooks()
                run(transaction.commit(may_not), self.link)
            finally:
                self._close()

    def rollback(self) -> None:
        """ROLLBACK; stop a statement that is still running."""
        while not self.inside.acquire(timeout=0.1):
            self.stop()
        try:
            if self.transaction.is_open:
                try:
                    self.likeness.drop_hooks()
                    run(self.transaction.rollback(), self.link)
                finally:
                    self._close()
        finally:
            self.inside.release()

    def undo(self) -> None:
        """Let go of its lock, in any thread; never raises."""
        try:
            self.rollback()
        except Exception as error:
            logger.error("a batch that others wait for could not be undone (%s)", kind_of(error))
            logger.debug("that was", exc_info=error)

    def _close(self) -> None:
        try:
            if self.adopted is not None and self.transaction.stage is Stage.OPEN:
                # Its beginning has failed in the last moment; the app keeps the connection.
                self.link.rollback()
            connection = getattr(self, "connection", None)
            # Cursors stay until they are used again. Whoever has one may be about to fetch from it,
            # or to close it: then the connection goes with the last of them.
            if isinstance(connection, BatchConnection) and not connection.owners:
                connection.close()
        finally:
            self.transaction.mark_given_back()
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
        connection = getattr(self, "connection", None)
        if connection is not None and self.transaction.stage <= Stage.OPEN and self.is_busy():
            self.transaction.connection.worsen(Health.INTERRUPTED)
            with suppress(sqlite3.Error):
                sqlite3.Connection.interrupt(connection)

    def cut_off(self) -> None:
        """Whoever is in a statement goes on, with an error; never blocks."""
        self.stop()
