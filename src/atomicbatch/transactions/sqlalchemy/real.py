"""One real transaction: BEGIN, its health, COMMIT or ROLLBACK."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import URL, Engine
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.pool.base import ResetStyle

from atomicbatch.drivers import aiosqlite, pep249
from atomicbatch.drivers.endings import savepoint_failed, says_gone
from atomicbatch.drivers.stopper import Stopper
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
    kind_of,
)
from atomicbatch.join.checkout import OVER
from atomicbatch.join.connection import ENDED
from atomicbatch.join.steps import run
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.statements import Family
from atomicbatch.transactions.contract import commit_error, statement_error
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout
from atomicbatch.transactions.sqlalchemy.dialects import (
    family_of,
    is_autocommit,
    level_of,
)
from atomicbatch.transactions.sqlalchemy.engines import is_in_memory
from atomicbatch.transactions.sqlalchemy.gate import Gate, TaskGate, ThreadGate
from atomicbatch.transactions.sqlalchemy.links import sender_of, stopper_of
from atomicbatch.transactions.sqlalchemy.places import Place
from atomicbatch.transactions.sqlalchemy.pooled import PooledLink

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.connection import ProxiedConnection
    from atomicbatch.transactions.sqlalchemy.joined import Joined
    from atomicbatch.transactions.sqlalchemy.slots import Slots

logger = logging.getLogger("atomicbatch")
_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
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
        transaction: The join's: what sessions use.
        link: The connection, as the join's steps are run on it.
        wrote: Something in it may have changed the database.
        is_used: A call has used it; until then it was only begun ahead of time.
        stays_here: Its connection was begun in the batch's own thread, and may be of use nowhere
            else (SQLite in memory).
        gave_way: Why it was undone from another thread, or None.
        commit_sent: COMMIT is being sent, or has been.
    """

    fairy: PoolProxiedConnection

    def __init__(self, joined: Joined, engine: Engine) -> None:
        dialect = engine.dialect
        self.family = family_of(dialect)
        self.engine = engine
        self.joined = joined
        self.dialect = dialect
        self.gate: Gate = TaskGate() if dialect.is_async else ThreadGate()
        self.inside = self.gate.inside
        self.transaction = Transaction(self.family, joined, level=joined.options.isolation_level)
        self.connection = self.transaction.connection
        self.is_open = False
        self._pool = engine.pool
        self._slots: Slots | None = None
        self._level_changed = False
        self._explicit = False
        self._interrupted = False
        self.is_used = False
        self.stays_here = False
        self.gave_way: TransactionError | None = None
        self._stopper: Stopper | None = None
        self._is_cut_off = False
        # COMMIT is being sent.
        self._sealed = False
        self._rolling_back = threading.Lock()
        self.commit_sent = False
        # For how many milliseconds SQLite waits for a lock.
        self._patience = 0
        # Its COMMIT or ROLLBACK is under way, and is not interrupted, but cut off if need be.
        self._is_ending = False
        self.link: PooledLink
        self._driver: Any = None
        self._prepare_threshold: int | None = None

    @property
    def url(self) -> URL:
        return self.engine.url

    @property
    def driver(self) -> Any:
        """The driver's own connection, or None before there is one."""
        return self._driver

    @property
    def wrote(self) -> bool:
        return self.transaction.wrote

    @property
    def place(self) -> Place:
        """Where its COMMIT and ROLLBACK are done."""
        if self.dialect.is_async:
            return Place.GREENLET
        return Place.HERE if self.stays_here else Place.ENDING

    # Begin -------------------------------------------------------------------------------------

    def check_out(self, *, at_once: bool = False) -> SessionCheckout:
        """
        Give a session the use of the connection; the first time, begin.

        Args:
            at_once: In the event loop's thread. It must not wait for a turn or a connection, since
                whoever has them may need the loop: begin at once, or the batch is run again, and
                then begins in another thread.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """
        if at_once and not self.is_open:
            if not self.gate.enter_now():
                self._wait_elsewhere()
            self.gate.leave()
        with self.inside:
            self.joined.check()
            if self.dialect.is_async and self.family is not Family.SQLITE:
                self.joined.check_loop()
            if not self.joined.active:
                # Cancelled while we waited for the gate: nobody would end what we begin now.
                raise TransactionError(OVER)
            if not self.is_open:
                try:
                    self.joined.open(self._open_at_once if at_once else self._open)
                except Exception as error:
                    problem = self._begin_error(error)
                    self.joined.doom(problem)
                    raise problem from error
            return SessionCheckout(self)

    @property
    def is_prepared_by_app(self) -> bool:
        """Somebody listens to the pool's event "checkout"."""
        return bool(self._pool.dispatch.checkout)

    def prepare_by_app(self, proxied: ProxiedConnection) -> None:
        """
        Let the app prepare a session's connection, as it would one of the pool.

        A tenant may be set there, for each request its own.
        """
        for prepare in self._pool.dispatch.checkout:
            prepare(proxied.dbapi_connection, proxied._connection_record, proxied)

    def _begin_error(self, error: Exception) -> TransactionError:
        if isinstance(error, TransactionError):
            return error
        conflict = statement_error(error, by_driver=True)
        if conflict is not None:
            return conflict
        return BusyError("no transaction could be begun")

    def _open(self) -> None:
        slots = self.joined.slots(self._pool, self.family)
        if slots is not None and not slots.take(
            self.joined.deadline, is_async=self.dialect.is_async, stopped=self.joined.is_stopped
        ):
            self.joined.check()
            raise BusyError("too many batches are running")
        self.stays_here = self.joined.is_sync and is_in_memory(self.engine)
        self._take(slots)

    def _open_at_once(self) -> None:
        slots = self.joined.slots(self._pool, self.family)
        if slots is not None and not slots.take_now():
            self._wait_elsewhere()
        if _is_used_up(self._pool):
            if slots is not None:
                slots.give()
            self._wait_elsewhere()
        self.stays_here = is_in_memory(self.engine)
        self._take(slots, at_once=True)

    def _wait_elsewhere(self) -> NoReturn:
        raise ConflictError(
            "the batch could not be begun on the event loop without waiting; make handlers and "
            "dependencies that use sync engines 'def', or use an async engine"
        )

    def _take(self, slots: Slots | None, *, at_once: bool = False) -> None:
        try:
            self.fairy = self._pool.connect()
            self.joined.fairies.append(self.fairy)
            try:
                self._stopper = stopper_of(self.dialect, self._pool, self.fairy)
                # Each may have taken its time, in which nobody could be told to stop.
                self.joined.check()
                self._begin(at_once)
                self.joined.check()
            except BaseException:
                # At once: else the garbage collector finds it, and complains.
                self._discard()
                raise
        except BaseException:
            if slots is not None:
                slots.give()
            raise
        self._slots = slots
        self.is_open = True

    def _begin(self, at_once: bool) -> None:
        dialect, fairy = self.dialect, self.fairy
        self._driver = fairy.driver_connection
        self.transaction.resets_by_commit = self._pool._reset_on_return is ResetStyle.reset_commit
        self.transaction.auto = is_autocommit(dialect, fairy)
        self.transaction.level = self.transaction.level or level_of(dialect)
        if self.family is Family.SQLITE:
            self.transaction.begins_lazily = not self._driver.in_transaction
            # sqlite3 in its default mode begins nothing before reads, and takes a SAVEPOINT
            # outside of a transaction for one, whose RELEASE commits. IMMEDIATE, because a lock
            # taken later, after reading, may be refused at once.
            self._explicit = not self._driver.in_transaction
            if self._explicit:
                self._begin_sqlite(at_once)
        elif (level := self._wanted_level()) is not None:
            dialect.set_isolation_level(fairy.dbapi_connection, level)  # type: ignore[arg-type]
            self._level_changed = True
        # Through the connection itself, since some drivers send BEGIN just then.
        pep249.send(fairy, self.transaction.savepoints.begin())
        self.link = PooledLink(dialect, fairy, sender_of(dialect, fairy), self._interrupt)
        self.connection.state = self.link
        if dialect.driver == "psycopg":
            # It would go on to use statements whose preparation ROLLBACK TO has undone.
            self._prepare_threshold = self._driver.prepare_threshold
            self._driver.prepare_threshold = None

    def _begin_sqlite(self, at_once: bool) -> None:
        self._patience = int(pep249.ask(self.fairy, "PRAGMA busy_timeout"))
        with self._patience_within(0.0 if at_once else self._seconds_left()):
            pep249.send(self.fairy, ["BEGIN IMMEDIATE"])

    @contextmanager
    def _patience_within(self, seconds: float) -> Iterator[None]:
        """Let SQLite wait no longer for a lock: nothing can stop it in the middle of that."""
        milliseconds = int(seconds * 1000)
        if self._patience <= milliseconds:
            yield
            return
        pep249.send(self.fairy, [f"PRAGMA busy_timeout={milliseconds}"])
        try:
            yield
        finally:
            try:
                pep249.send(self.fairy, [f"PRAGMA busy_timeout={self._patience}"])
            except Exception:
                # What COMMIT has come to counts, not this: the connection does not go back.
                logger.debug("SQLite's busy timeout could not be put back", exc_info=True)
                self.connection.lost = True

    def _seconds_left(self) -> float:
        return max(0.0, self.joined.deadline - time.monotonic())

    def _wanted_level(self) -> Any:
        if self.joined.options.isolation_level:
            return self.joined.options.isolation_level
        return self.transaction.level if self.transaction.auto else None

    # End ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/base.py says.
        """
        if not self.dialect.is_async and (undone := self.joined.may_not_commit(self)):
            self.rollback()  # it may be under way
            raise undone
        with self.inside:
            self._is_ending = True
            self._prove_for_commit()
            if self.dialect.is_async and (undone := self.joined.may_not_commit(self)):
                # The event loop has waited for us since.
                self._roll_back()
                raise undone
            if (stopped := self.joined.may_not_send_commit(self)) is not None:
                self._roll_back()
                raise stopped
            try:
                if self._explicit:
                    with self._patience_within(self._seconds_left()):
                        pep249.send(self.fairy, ["COMMIT"])
                else:
                    self.dialect.do_commit(self.fairy)
            except BaseException as error:
                outcome = commit_error(error)
                if isinstance(outcome, UnknownOutcomeError):
                    self._abandon()
                else:
                    self._roll_back()
                raise outcome from error
            self._give_back()

    def seal(self) -> TransactionError | None:
        """Tell why it cannot be committed. If nothing, it does not give way any more."""
        self._sealed = self.gave_way is None
        return self.gave_way

    def give_way(self, error: TransactionError) -> bool:
        """Tell whether it is to be undone from another thread now, by :meth:`undo`."""
        if not self.is_open or self._sealed or self.gave_way is not None or self.stays_here:
            return False
        self.gave_way = error
        return True

    def undo(self) -> None:
        """
        Let go of its locks, in any thread, without the event loop.

        An async driver's connection is cut off; the database then rolls back.
        """
        try:
            if not self.dialect.is_async:
                self.rollback()
            elif self.is_open:
                self._cut_off()
        except Exception as error:
            logger.error("a batch that others wait for could not be undone (%s)", kind_of(error))
            logger.debug("that was", exc_info=error)

    def _cut_off(self) -> None:
        stopper = self._stopper
        self._is_cut_off = True
        # In this order: who gives the connection back looks for the one after the other.
        if stopper is None or not self.is_open:
            return
        stopper.interrupt()
        if self.family is not Family.SQLITE:
            stopper.sever()
            return
        # SQLite has no server that would roll back.
        done = aiosqlite.behind_statements(self._driver, self._undo_for_good)
        give_up_at = time.monotonic() + _UNDO_SECONDS
        while self.is_open and not done.wait(0.05) and time.monotonic() < give_up_at:
            stopper.interrupt()

    def _undo_for_good(self, connection: sqlite3.Connection) -> None:
        if self.is_open:
            # What the event loop is about to send may still come, and must not be stored.
            connection.execute("PRAGMA query_only=1").close()
            connection.rollback()

    def _prove_for_commit(self) -> None:
        """Put back what sessions have set; fail if the transaction is not the one begun."""
        what = "a setting that a handler has made could not be put back before COMMIT"
        try:
            run(self.transaction.settings.end(), self.link)
            what = ""
            self.link.send(self.transaction.savepoints.end())
        except BaseException as error:
            problem = (
                self.gave_way
                or self.joined.time_is_up()
                or self.connection.meaning(error)
                or BrokenTransactionError(
                    what or (ENDED if says_gone(error) else savepoint_failed(error)),
                    may_be_stored=says_gone(error),
                )
            )
            self.connection.lost |= not isinstance(error, Exception)
            self._roll_back()
            raise problem from error

    def _abandon(self) -> None:
        """Nobody knows what COMMIT has come to: throw the connection away."""
        if self.family is Family.SQLITE:
            # Nothing is lost on the way to a file, and a connection that is closed may keep its
            # lock for as long as somebody still knows a cursor of it.
            try:
                self.dialect.do_rollback(self.fairy)
            except Exception as error:
                logger.debug("ROLLBACK failed after COMMIT (%s)", kind_of(error))
        self.connection.lost = True
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
            if self.is_open:
                self._is_ending = True
                self._prove()
                self._roll_back()
        finally:
            self.gate.leave()

    @property
    def may_be_undone_anywhere(self) -> bool:
        """It is of use in other threads than the one that has it, and no server rolls it back."""
        is_local = self.family is Family.SQLITE or not self.dialect.is_async
        return is_local and not self.stays_here

    # Stopped from outside, in any thread ---------------------------------------------------------

    def stop(self) -> None:
        """Stop the statement that is running, if one is; never blocks."""
        if not self._is_ending and self.gate.is_taken():
            self._interrupt()

    def cut_off(self) -> None:
        """Whoever waits for the database goes on, with an error; never blocks."""
        if self.gate.is_taken():
            self._interrupt()
        self._sever()

    def _interrupt(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            self._interrupted = True
            stopper.interrupt(0)

    def _sever(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            self._is_cut_off |= self.family is not Family.SQLITE
            stopper.sever()

    def _prove(self) -> None:
        """
        Before ROLLBACK: take note where the transaction is not the one any more that was begun.

        A statement that nobody could read may have committed it, and what was done until then.
        """
        if self.connection.lost or self._is_cut_off:
            return
        if isinstance(self.joined.error, BrokenTransactionError):
            return
        if self.family is Family.MYSQL and isinstance(self.joined.error, ConflictError):
            return  # InnoDB has rolled back by itself, savepoints and all
        if self.family is Family.SQLITE and self._interrupted:
            return  # so has SQLite, if the statement was a write
        try:
            try:
                self.link.send(self.transaction.savepoints.undo())
            except Exception:
                if not self._interrupted or self._is_cut_off:
                    raise
                # The interruption may have come late, and stopped the proof itself.
                self.link.send(self.transaction.savepoints.undo())
        except BaseException as error:
            if (
                self._is_cut_off
                or self.connection.meaning(error) is not None
                or not isinstance(error, Exception)
            ):
                self.connection.lost = True
                return
            logger.error("the batch's transaction had ended before ROLLBACK (%s)", kind_of(error))
            self.joined.escaped(ENDED).__cause__ = error

    def _roll_back(self) -> None:
        if self.connection.lost and self.family is Family.SQLITE and self.dialect.is_async:
            # Only our waiting for its thread was cancelled, and a closed connection may keep its
            # lock for as long as somebody still knows a cursor of it.
            self._interrupt()
            self.connection.lost = False
        if not (self.connection.lost or self._is_cut_off):
            try:
                if self.family is not Family.SQLITE or not self._explicit:
                    self.dialect.do_rollback(self.fairy)
                elif self._driver.in_transaction:
                    pep249.send(self.fairy, ["ROLLBACK"])
            except Exception as error:
                # The database rolls back by itself when the connection is gone.
                logger.debug("ROLLBACK failed; the connection is closed (%s)", kind_of(error))
                self.connection.lost = True
        if self._interrupted and self.family is not Family.SQLITE:
            # The request to stop may still be on its way, and would hit whoever has it next.
            self.connection.lost = True
        self._give_back()

    def _give_back(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        try:
            if not self.connection.lost:
                # Nobody can stop or cut off what the next one does on it.
                self._unlink()
            # A pool that a handler has disposed of would keep it open for nobody.
            if self.connection.lost or self._is_cut_off or self.engine.pool is not self._pool:
                self._discard()
                return
            try:
                if self._level_changed:
                    self._restore_level()
                if self.dialect.driver == "psycopg":
                    self._driver.prepare_threshold = self._prepare_threshold
                self.fairy.close()
            except Exception as error:
                logger.warning("a connection could not be given back clean (%s)", kind_of(error))
                self._discard()
        finally:
            self._unlink()
            if self._slots is not None:
                self._slots.give()

    def _unlink(self) -> None:
        stopper, self._stopper = self._stopper, None
        if stopper is not None:
            stopper.close()

    def _restore_level(self) -> None:
        connection: Any = self.fairy.dbapi_connection
        self.dialect.reset_isolation_level(connection)
        if self.transaction.auto and not is_autocommit(self.dialect, self.fairy):
            # The driver was told so when it connected (connect_args), not SQLAlchemy.
            self.dialect.set_isolation_level(connection, "AUTOCOMMIT")

    def _discard(self) -> None:
        if self.family is not Family.SQLITE:
            # Some drivers say goodbye first, and wait for an answer.
            self._sever()
        self._unlink()
        self.fairy.invalidate()


def _is_used_up(pool: Pool) -> bool:
    """Tell whether a connection of a pool would have to be waited for (QueuePool)."""
    idle, most = getattr(pool, "_pool", None), getattr(pool, "_max_overflow", -1)
    if idle is None or most < 0:
        return False
    return bool(idle.empty()) and pool._overflow >= most  # type: ignore[attr-defined]
