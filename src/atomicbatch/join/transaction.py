"""The real transaction: what begins, proves and ends it, and what those who share it may do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.endings import savepoint_failed, says_gone
from atomicbatch.errors import (
    BrokenTransactionError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
    kind_of,
)
from atomicbatch.join.connection import ENDED, Connection
from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.settings import Settings
from atomicbatch.join.stack import Virtual
from atomicbatch.join.status import Health, Stage, Status
from atomicbatch.join.steps import PERFORM, Bound, Commit, Send, Steps
from atomicbatch.sql.kinds import Family

logger = logging.getLogger("atomicbatch")
_OPEN = Stage.OPEN
LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class Transaction:
    """
    The transaction that all calls of a batch share on one connection.

    Attributes:
        connection: What sends, and tells what errors mean.
        savepoints: What handlers take for transactions.
        settings: What sessions have set by SET.
        auto: Connections of the app commit each statement by themselves (AUTOCOMMIT).
        begins_lazily: The driver begins nothing before reads and savepoints (sqlite3).
        resets_by_commit: A connection that is given back is committed, not rolled back.
        level: The isolation level, where it is known.
        has_called: A stored procedure has run, which may have ended the transaction.
        stage: How far it has come.
        gave_way: Why it was undone from another thread, or None.
        stays_open_when_cancelled: A cancellation of the driver's call leaves the connection as it
            is: its own thread goes on (aiosqlite), or there is no other side (sqlite3).
        full_is_refused: See ``commit_errors.commit_error``.
        sends_ahead: The link sends SQL of ours in one round trip with a handler's statement.
        ends_in_one: It sends what proves the transaction in one round trip with COMMIT.
    """

    def __init__(self, family: Family, status: Status, *, level: str | None = None) -> None:
        self.family = family
        self.status = status
        self.connection = Connection(family, status)
        self.settings = Settings(status)
        self.savepoints = Savepoints(self.connection, self.settings)
        self.auto = False
        self.begins_lazily = False
        self.resets_by_commit = False
        self.level = level
        self.has_called = False
        self.stage = Stage.NEW
        self.gave_way: TransactionError | None = None
        self.stays_open_when_cancelled = False
        self.full_is_refused = False
        self.sends_ahead = False
        self.ends_in_one = False

    @property
    def wrote(self) -> bool:
        """Something in it may have changed the database."""
        return self.savepoints.wrote

    @property
    def is_open(self) -> bool:
        """It has the connection."""
        stage = self.stage
        return stage is _OPEN or Stage.OPEN < stage <= Stage.COMMITTING

    @property
    def commit_sent(self) -> bool:
        """COMMIT is being sent, or has been."""
        return self.stage in (Stage.COMMITTING, Stage.SENT)

    # Statements --------------------------------------------------------------------------------

    def check_call(self) -> Steps[None]:
        """After a call of a stored procedure: fail if that has ended the transaction."""
        self.has_called = False
        yield from self._release_call()
        self.status.check()

    def call(self) -> Steps[object]:
        """
        Perform a call of a stored procedure of MySQL's, which may commit: also when it fails.

        What it has committed must not be run again, whatever else goes wrong. If it succeeds, that
        is looked at before the next statement: one that came now would end its result sets.
        """
        yield from self.connection.send(("SAVEPOINT ab_call",))
        try:
            result = yield PERFORM
        except BaseException:
            yield from self._release_call()
            raise
        self.has_called = True
        return result

    def _release_call(self) -> Steps[None]:
        try:
            yield Send(("RELEASE SAVEPOINT ab_call",))
        except Exception as error:
            self.status.escaped(ENDED).__cause__ = error

    def note_failure(self, virtual: Virtual, error: BaseException) -> None:
        """Note that a handler's statement has failed."""
        # Whether the server knows of it is asked when it matters: asyncpg's time limits stop
        # statements as well, and are no errors of the server's.
        self.savepoints.note_failure(virtual, by_server=isinstance(error, Exception))
        self.connection.note_failure(error)

    def want_level(self, level: str) -> None:
        """A handler wants an isolation level. Less than the batch's is no problem."""
        wanted, real = level.replace("_", " ").upper(), (self.level or "").replace("_", " ")
        if self.family is Family.SQLITE or wanted not in LEVELS:
            return
        if real not in LEVELS or LEVELS.index(wanted) > LEVELS.index(real):
            self.status.refuse(
                f"a handler asks for {wanted}, but the batch runs at {real or 'another level'}; "
                f"{self.status.advice.set_level.format(level=wanted)}"
            )

    # Begin and end -----------------------------------------------------------------------------

    def begin(self) -> Steps[None]:
        """
        Begin, with a savepoint from the first moment.

        It is there at the end if nobody has ended the transaction meanwhile.
        """
        yield Bound.BEGIN
        if self.family is Family.POSTGRESQL:
            # Whatever is sent first takes it along. Nothing can go wrong meanwhile.
            self.connection.held = self.savepoints.after_begin()
        else:
            yield Send(self.savepoints.after_begin())

    def mark_open(self) -> None:
        """It has begun, and sessions may use it."""
        self.stage = Stage.OPEN

    def mark_committing(self) -> None:
        """COMMIT is about to be sent."""
        self.stage = Stage.COMMITTING

    def mark_given_back(self) -> None:
        """The connection is somebody else's, or closed."""
        self.stage = Stage.SENT if self.commit_sent else Stage.OVER

    def give_way(self, error: TransactionError) -> bool:
        """Tell whether it may be undone from another thread; then it is not committed any more."""
        if self.stage not in (Stage.OPEN, Stage.ENDING) or self.gave_way is not None:
            return False
        self.gave_way = error
        return True

    def seal(self) -> TransactionError | None:
        """Tell why it cannot be committed. If nothing, it does not give way any more."""
        if self.gave_way is None:
            self.stage = max(self.stage, Stage.SEALED)
        return self.gave_way

    def commit(self, may_not: Callable[[], TransactionError | None]) -> Steps[None]:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Args:
            may_not: Called in the last moment before COMMIT is sent: why it must not be. If it
                may, it has called :meth:`mark_committing`.

        Raises:
            TransactionError: As transactions/contract.py says; it is rolled back, if it can be.
        """
        self.stage = max(self.stage, Stage.ENDING)
        # Where nothing has been sent, there is nothing to prove.
        proof = () if self.connection.held else self.savepoints.before_commit()
        try:
            yield from self._put_settings_back()
            if proof and not self.ends_in_one:
                yield from self._prove_for_commit(Send(proof))
            if (why_not := may_not()) is not None:
                raise why_not
        except BaseException:
            if self.ends_in_one:
                yield from self._prove_for_rollback()
            yield from self._roll_back()
            if self.status.has_escaped:
                self.status.check()
            raise
        yield from self._commit(proof)

    def _commit(self, proof: Sequence[str]) -> Steps[None]:
        try:
            yield Commit(proof) if self.ends_in_one else Bound.COMMIT
        except NotReachedError as unreached:
            yield from self._roll_back()
            raise self._problem_of_proof(unreached.__cause__ or unreached) from unreached.__cause__
        except BaseException as error:
            outcome = commit_error(error, full_is_refused=self.full_is_refused)
            yield from self._roll_back_after_commit(outcome)
            raise outcome from error

    def rollback(self) -> Steps[None]:
        """ROLLBACK, after a look at whether there is anything to roll back."""
        self.stage = max(self.stage, Stage.ENDING)
        yield from self._prove_for_rollback()
        yield from self._roll_back()

    def _put_settings_back(self) -> Steps[None]:
        """Put back what sessions have set."""
        if not self.settings:
            return
        try:
            yield from self.settings.end()
        except BaseException as error:
            what = "a setting that a handler has made could not be put back before COMMIT"
            raise self._problem_of_proof(error, what) from error

    def _prove_for_commit(self, proof: Send) -> Steps[None]:
        """Fail if the transaction is not the one begun."""
        try:
            yield proof
        except BaseException as error:
            raise self._problem_of_proof(error) from error

    def _problem_of_proof(self, error: BaseException, what: str = "") -> TransactionError:
        if not isinstance(error, Exception):
            self.connection.worsen(Health.LOST)
        is_gone = says_gone(error)
        broken = BrokenTransactionError(
            what or (ENDED if is_gone else savepoint_failed(error)), may_be_stored=is_gone
        )
        if is_gone and self.family is Family.POSTGRESQL and self.gave_way is None:
            return broken  # no interruption ends a transaction there
        return self.gave_way or self.status.time_is_up() or self.connection.meaning(error) or broken

    def _prove_for_rollback(self) -> Steps[None]:
        """
        Take note where the transaction is not the one any more that was begun.

        A statement that nobody could read may have committed it, and what was done until then.
        """
        connection = self.connection
        if connection.held or not self._is_to_be_proved():
            return
        try:
            try:
                yield Send(self.savepoints.before_rollback())
            except Exception:
                if connection.health is not Health.INTERRUPTED:
                    raise
                # The interruption may have come late, and stopped the proof itself.
                yield Send(self.savepoints.before_rollback())
        except BaseException as error:
            if (
                connection.health is Health.SEVERED
                or connection.meaning(error) is not None
                or not isinstance(error, Exception)
            ):
                connection.worsen(Health.LOST)
                return
            logger.error("the batch's transaction had ended before ROLLBACK (%s)", kind_of(error))
            self.status.escaped(ENDED).__cause__ = error

    def _is_to_be_proved(self) -> bool:
        health, error = self.connection.health, self.status.error
        if health >= Health.LOST or isinstance(error, BrokenTransactionError):
            return False
        if self.family is Family.MYSQL and isinstance(error, ConflictError):
            return False  # InnoDB has rolled back by itself, savepoints and all
        # So has SQLite, if the statement that was interrupted was a write.
        return self.family is not Family.SQLITE or health is Health.SOUND

    def _roll_back(self) -> Steps[None]:
        connection = self.connection
        if connection.health is Health.LOST and self.stays_open_when_cancelled:
            # A connection that is closed may keep its lock for as long as somebody still knows a
            # cursor of it.
            connection.state.interrupt()
            connection.recover()
        if connection.health >= Health.LOST:
            return
        try:
            yield Bound.ROLLBACK
        except BaseException as error:
            # The database rolls back by itself when the connection is gone.
            logger.debug("ROLLBACK failed; the connection is closed (%s)", kind_of(error))
            connection.worsen(Health.LOST)
            if not isinstance(error, Exception):
                raise

    def _roll_back_after_commit(self, outcome: TransactionError) -> Steps[None]:
        if not isinstance(outcome, UnknownOutcomeError):
            yield from self._roll_back()
            return
        # Nobody knows what COMMIT has come to: the connection is thrown away.
        if self.family is Family.SQLITE:
            # Nothing is lost on the way to a file, and a connection that is closed may keep its
            # lock for as long as somebody still knows a cursor of it.
            try:
                yield Bound.ROLLBACK
            except Exception as error:
                logger.debug("ROLLBACK failed after COMMIT (%s)", kind_of(error))
        self.connection.worsen(Health.LOST)
