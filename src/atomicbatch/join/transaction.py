"""The one real transaction, as those who use it see it: its state, and what they may not do."""

from __future__ import annotations

from atomicbatch.join.connection import ENDED, Connection
from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.settings import Settings
from atomicbatch.join.stack import Virtual
from atomicbatch.join.status import Status
from atomicbatch.join.steps import PERFORM, Send, Steps
from atomicbatch.sql.kinds import Family

_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


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

    @property
    def wrote(self) -> bool:
        """Something in it may have changed the database."""
        return self.savepoints.wrote

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
        if self.family is Family.SQLITE or wanted not in _LEVELS:
            return
        if real not in _LEVELS or _LEVELS.index(wanted) > _LEVELS.index(real):
            self.status.refuse(
                f"a handler asks for {wanted}, but the batch runs at {real or 'another level'}; "
                f'give SQLAlchemyTransaction(isolation_level="{wanted}")'
            )
