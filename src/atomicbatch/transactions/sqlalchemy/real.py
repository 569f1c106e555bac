"""One real transaction on a connection of a pool: its turn, its BEGIN, its end, and giving back."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sqlalchemy import URL, Engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.pool.base import ResetStyle
from sqlalchemy.util import await_only

from atomicbatch.drivers import aiosqlite
from atomicbatch.drivers.openings import opening
from atomicbatch.drivers.stopper import Stopper
from atomicbatch.errors import BusyError, ConflictError, TransactionError, kind_of
from atomicbatch.join.acts import Place
from atomicbatch.join.connection import begin_error
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Health, Stage
from atomicbatch.join.steps import run
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlalchemy.dialects import family_of
from atomicbatch.transactions.sqlalchemy.engines import is_in_memory
from atomicbatch.transactions.sqlalchemy.gate import Gate, TaskGate, ThreadGate
from atomicbatch.transactions.sqlalchemy.host import Host
from atomicbatch.transactions.sqlalchemy.links import stopper_of
from atomicbatch.transactions.sqlalchemy.pooled import PooledLink, is_used_up
from atomicbatch.transactions.sqlalchemy.postgresql import kind_of_link

logger = logging.getLogger("atomicbatch")
# How long a statement of aiosqlite's is interrupted again and again; its thread may have ended.
_UNDO_SECONDS = 10.0
# How long a statement may go on after it was interrupted.
_SEVER_SECONDS = 0.5


class RealTransaction:
    """
    The transaction that all calls of a batch share, on one connection of one pool.

    Its methods are called in any thread (sync drivers) or in any of SQLAlchemy's greenlets (async
    drivers); the gate lets them through one at a time.

    Attributes:
        inside: The gate, to enter it.
        transaction: The join's: its state, and what sessions use.
        link: The connection, as the join's steps are run on it.
        is_used: A call has used it; until then it was only begun ahead of time.
        stays_here: Its connection was begun in the batch's own thread, and may be of use nowhere
            else (SQLite in memory).
    """

    fairy: PoolProxiedConnection
    link: PooledLink

    def __init__(self, attempt: Host, engine: Engine) -> None:
        dialect = engine.dialect
        self.family = family_of(dialect)
        self.engine = engine
        self.attempt = attempt
        self.dialect = dialect
        self.gate: Gate = TaskGate() if dialect.is_async else ThreadGate()
        self.inside = self.gate.inside
        self.transaction = Transaction(self.family, attempt)
        self.transaction.stays_open_when_cancelled = (
            dialect.is_async and self.family is Family.SQLITE
        )
        self.is_used = False
        self.stays_here = False
        self._connection = self.transaction.connection
        self._pool = engine.pool
        self._slots: Slots | None = None
        self._stopper: Stopper | None = None
        self._rolling_back = threading.Lock()

    @property
    def url(self) -> URL:
        return self.engine.url

    @property
    def driver(self) -> Any:
        """The driver's own connection, or None before there is one."""
        return self.fairy.driver_connection if self.transaction.stage > Stage.NEW else None

    @property
    def wrote(self) -> bool:
        """Something in it may have changed the database."""
        return self.transaction.wrote

    @property
    def is_used_and_open(self) -> bool:
        """A call has used it, and others may."""
        return self.is_used and self.transaction.stage is Stage.OPEN

    @property
    def place(self) -> Place:
        """Where its COMMIT and ROLLBACK are done."""
        if self.dialect.is_async:
            return Place.LOOP
        return Place.HERE if self.stays_here else Place.ENDING

    @property
    def preparers(self) -> Iterable[Callable[..., object]]:
        """What the app does to each connection that is checked out: the pool's event."""
        listeners: Iterable[Callable[..., object]] = self._pool.dispatch.checkout
        return listeners

    # Begin -------------------------------------------------------------------------------------

    def begin(self, *, at_once: bool = False) -> None:
        """
        Begin, the first time; later, see whether it may still be used.

        Args:
            at_once: In the event loop's thread. It must not wait for a turn or a connection, since
                whoever has them may need the loop: begin at once, or the batch is run again, and
                then begins in another thread.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """
        attempt, transaction = self.attempt, self.transaction
        if at_once and not transaction.is_open:
            if not self.gate.enter_now():
                _wait_elsewhere()
            self.gate.leave()
        with self.inside:
            attempt.check()
            if self.dialect.is_async and self.family is not Family.SQLITE:
                attempt.check_loop()
            if not attempt.active:
                # Cancelled while we waited for the gate: nobody would end what we begin now.
                raise TransactionError(OVER)
            if not transaction.is_open:
                try:
                    attempt.open(self._open_at_once if at_once else self._open)
                except Exception as error:
                    problem = begin_error(error)
                    attempt.doom(problem)
                    raise problem from error

    def _open(self) -> None:
        attempt = self.attempt
        slots = attempt.slots(self._pool, self.family)
        if slots is not None and not self._has_taken(slots):
            attempt.check()
            raise BusyError("too many batches are running")
        self.stays_here = attempt.is_sync and is_in_memory(self.engine)
        self._take(slots)

    def _has_taken(self, slots: Slots) -> bool:
        attempt = self.attempt
        take = slots.take_async if self.dialect.is_async else slots.take
        taken = take(attempt.deadline, stopped=lambda: attempt.is_stopped)
        return taken if isinstance(taken, bool) else await_only(taken)

    def _open_at_once(self) -> None:
        slots = self.attempt.slots(self._pool, self.family)
        if slots is not None and not slots.take_now():
            _wait_elsewhere()
        if is_used_up(self._pool):
            if slots is not None:
                slots.give()
            _wait_elsewhere()
        self.stays_here = is_in_memory(self.engine)
        self._take(slots, at_once=True)

    def _take(self, slots: Slots | None, *, at_once: bool = False) -> None:
        attempt = self.attempt
        try:
            with opening():
                self.fairy = self._pool.connect()
            attempt.fairies.append(self.fairy)
            try:
                self._stopper = stopper_of(self.dialect, self._pool, self.fairy)
                # Each may have taken its time, in which nobody could be told to stop.
                attempt.check()
                self._begin(at_once)
                attempt.check()
            except BaseException:
                # At once: else the garbage collector finds it, and complains.
                self._discard()
                raise
        except BaseException:
            if slots is not None:
                slots.give()
            raise
        self._slots = slots
        self.transaction.mark_open()

    def _begin(self, at_once: bool) -> None:
        transaction = self.transaction
        self.link = link = kind_of_link(self.dialect)(
            self.engine,
            self.fairy,
            self._interrupt,
            level=self.attempt.options.isolation_level,
            deadline=self.attempt.deadline,
            at_once=at_once,
        )
        transaction.connection.state = link
        transaction.auto, transaction.level = link.auto, link.level
        transaction.begins_lazily = link.begins_lazily
        transaction.resets_by_commit = self._pool._reset_on_return is ResetStyle.reset_commit
        run(transaction.begin(), link)
        transaction.sends_ahead, transaction.ends_in_one = link.sends_ahead, link.ends_in_one

    # End ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        attempt = self.attempt
        if not self.dialect.is_async and (undone := attempt.seal(self)) is not None:
            self.rollback()  # it may be under way
            raise undone

        def may_not() -> TransactionError | None:
            # The event loop may have waited for an async driver's until now.
            return attempt.seal(self) or attempt.may_not_send_commit(self)

        with self.inside:
            try:
                run(self.transaction.commit(may_not), self.link)
            finally:
                self._give_back()

    def rollback(self) -> None:
        """ROLLBACK; a lost connection needs none."""
        if self.dialect.is_async:
            self._rollback()
        else:
            # A thread that undoes it must not be interrupted by one that wants the same.
            with self._rolling_back:
                self._rollback()

    def _rollback(self) -> None:
        sever_at = time.monotonic() + _SEVER_SECONDS
        while not self.gate.enter_within(0.1):
            # A thread or a task is still in a statement, or just about to begin it.
            self._interrupt()
            if time.monotonic() >= sever_at:
                self._sever()
        try:
            if self.transaction.is_open:
                try:
                    run(self.transaction.rollback(), self.link)
                finally:
                    self._give_back()
        finally:
            self.gate.leave()

    def _give_back(self) -> None:
        if not self.transaction.is_open:
            return
        self.transaction.mark_given_back()
        try:
            if self._is_reusable:
                # Nobody can stop or cut off what the next one does on it.
                self._forget_stopper()
            # A pool that a handler has disposed of would keep it open for nobody.
            if not self._is_reusable or self.engine.pool is not self._pool:
                self._discard()
                return
            try:
                self.link.put_back()
                self.fairy.close()
            except Exception as error:
                logger.warning("a connection could not be given back clean (%s)", kind_of(error))
                self._discard()
        finally:
            self._forget_stopper()
            if self._slots is not None:
                self._slots.give()

    @property
    def _is_reusable(self) -> bool:
        return self.link.is_sound and self._connection.is_reusable

    def _forget_stopper(self) -> None:
        stopper, self._stopper = self._stopper, None
        if stopper is not None:
            stopper.close()

    def _discard(self) -> None:
        if self.family is not Family.SQLITE:
            # Some drivers say goodbye first, and wait for an answer.
            self._sever()
        self._forget_stopper()
        self.fairy.invalidate()

    # From other threads ------------------------------------------------------------------------

    @property
    def may_be_undone_anywhere(self) -> bool:
        """It is of use in other threads than the one that has it, and no server rolls it back."""
        is_local = self.family is Family.SQLITE or not self.dialect.is_async
        return is_local and not self.stays_here

    def undo(self) -> None:
        """
        Let go of its locks, in any thread, without the event loop.

        An async driver's connection is cut off; the database then rolls back.
        """
        try:
            if not self.dialect.is_async:
                self.rollback()
            elif self.transaction.is_open:
                self._cut_off_to_undo()
        except Exception as error:
            logger.error("a batch that others wait for could not be undone (%s)", kind_of(error))
            logger.debug("that was", exc_info=error)

    def _cut_off_to_undo(self) -> None:
        stopper = self._stopper
        self._connection.worsen(Health.SEVERED)
        # In this order: who gives the connection back looks for the one after the other.
        if stopper is None or not self.transaction.is_open:
            return
        stopper.interrupt()
        if self.family is not Family.SQLITE:
            stopper.sever()
            return
        # SQLite has no server that would roll back.
        done = aiosqlite.behind_statements(self.driver, self._undo_for_good)
        give_up_at = time.monotonic() + _UNDO_SECONDS
        while self.transaction.is_open and not done.wait(0.05) and time.monotonic() < give_up_at:
            stopper.interrupt()

    def _undo_for_good(self, connection: sqlite3.Connection) -> None:
        if self.transaction.is_open:
            # What the event loop is about to send may still come, and must not be stored.
            connection.execute("PRAGMA query_only=1").close()
            connection.rollback()

    def stop(self) -> None:
        """Stop the statement that is running, if one is; never blocks."""
        if self.transaction.stage <= Stage.OPEN and self.gate.is_taken():
            self._interrupt()

    def cut_off(self) -> None:
        """Whoever waits for the database goes on, with an error; never blocks."""
        if self.gate.is_taken():
            self._interrupt()
        self._sever()

    def _interrupt(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            self._connection.worsen(Health.INTERRUPTED)
            stopper.interrupt(0)

    def _sever(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            if self.family is not Family.SQLITE:
                self._connection.worsen(Health.SEVERED)
            stopper.sever()


def _wait_elsewhere() -> NoReturn:
    raise ConflictError(
        "the batch could not be begun on the event loop without waiting; make handlers and "
        "dependencies that use sync engines 'def', or use an async engine"
    )
