"""The batch's one connection: it sends SQL of ours, and tells what an error on it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.conflicts import statement_error
from atomicbatch.drivers.endings import CANCELLED, savepoint_failed, says_gone
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    ConflictError,
    TransactionError,
)
from atomicbatch.join.status import Health, Status
from atomicbatch.join.steps import LinkState, Perform, Send, Steps
from atomicbatch.sql.kinds import Family

ENDED = (
    "a handler has ended the batch's transaction, in a stored procedure for instance: what was "
    "done until then may be stored"
)


class Connection:
    """
    The connection that all sessions of a batch share, in its transaction.

    Attributes:
        family: What kind of database it leads to.
        status: Of the attempt. A failure of ours dooms it.
        state: What the driver knows of the connection.
        held: SQL of ours that goes ahead of the first thing that is sent. As long as there is
            some, nothing of the batch has been done on the connection.
    """

    __slots__ = ("_suffered", "family", "held", "state", "status")

    def __init__(self, family: Family, status: Status) -> None:
        self.family = family
        self.status = status
        self.state: LinkState
        self.held: Sequence[str] = ()
        # A set, since two threads may add to it at a time, and none may hide the other's.
        self._suffered: set[Health] = set()

    @property
    def is_reusable(self) -> bool:
        """Tell whether somebody else may have it after the batch."""
        if self.family is Family.SQLITE:
            return self.health <= Health.INTERRUPTED  # which hits nothing later
        return self.health is Health.SOUND

    @property
    def health(self) -> Health:
        """The worst that has happened to it."""
        return max(self._suffered, default=Health.SOUND)

    def worsen(self, health: Health) -> None:
        """Note what has happened to it; in any thread."""
        self._suffered.add(health)

    def recover(self) -> None:
        """It was only our waiting for it that was cancelled: it is not lost."""
        self._suffered.discard(Health.LOST)

    def check(self) -> None:
        """Refuse to go on after an error, or if the transaction has ended behind our back."""
        status = self.status
        if status.error is not None:
            raise status.error
        if self.family is Family.SQLITE and not self.state.is_in_transaction():
            raise status.escaped(ENDED)

    def send(self, texts: Sequence[str]) -> Steps[None]:
        """Run SQL of ours. A failure dooms the batch."""
        try:
            yield Send([*self.held, *texts] if self.held else texts)
        except BaseException as error:
            self.note_ours_failed(error)
        self.held = ()

    def perform_after(self, texts: Sequence[str]) -> Steps[object]:
        """
        Perform a handler's statement, with SQL of ours ahead of it.

        Raises:
            NotReachedError: Ours has failed, which has doomed the batch; its cause is what the
                handler is to be told.
            BaseException: The statement's own.
        """
        try:
            result = yield Perform([*self.held, *texts] if self.held else texts)
        except NotReachedError as unreached:
            error = unreached.__cause__ or unreached
            raise NotReachedError from self._failed(error)
        except Exception:
            self.held = ()
            raise
        self.held = ()
        return result

    def note_ours_failed(self, error: BaseException) -> NoReturn:
        """Doom the batch, since SQL of ours has failed, and raise what the handler is told."""
        problem = self._failed(error)
        if not isinstance(error, Exception):
            self._mark_cancelled()
            raise error
        raise problem from error

    def _failed(self, error: BaseException) -> TransactionError:
        """Doom the batch, since SQL of ours has failed; make the error to raise."""
        problem: TransactionError | None = self.meaning(error)
        if problem is None and says_gone(error):
            problem = self.status.escaped(ENDED)
        problem = problem or BrokenTransactionError(savepoint_failed(error), may_be_stored=False)
        problem.__cause__ = error
        self.status.doom(problem)
        return problem

    def note_failure(self, error: BaseException) -> None:
        """Note that a handler's statement has failed."""
        problem: TransactionError | None = self.meaning(error)
        if problem is not None:
            problem.__cause__ = error
        elif not isinstance(error, Exception):
            self._mark_cancelled()
            problem = BrokenTransactionError(CANCELLED, may_be_stored=False)
        elif self.family is Family.SQLITE and not self.state.is_in_transaction():
            problem = BrokenTransactionError(
                "a failed statement ended the batch's transaction (ON CONFLICT ROLLBACK)",
                may_be_stored=False,
            )
        if problem is not None:
            self.status.doom(problem)

    def mark_lost(self, error: BaseException | None) -> None:
        """The library of a handler has declared the connection invalid."""
        if not self.status.active:
            return
        self.worsen(Health.LOST)
        problem: TransactionError | None = None
        if error is not None:
            problem = statement_error(error, by_driver=True)
        self.status.doom(
            problem
            or BrokenTransactionError(
                "a statement was cancelled, or its connection declared invalid, by a handler",
                may_be_stored=False,
            )
        )

    def meaning(self, error: BaseException) -> ConflictError | None:
        """Tell what an error before COMMIT means for the batch, as statement_error does."""
        if (conflict := statement_error(error, by_driver=True)) is not None:
            return conflict
        if isinstance(error, Exception) and self.state.is_lost(error):
            return ConflictError("the connection to the database was lost before COMMIT")
        return None

    def _mark_cancelled(self) -> None:
        self.worsen(Health.LOST)
        # The driver closes the connection, which the server sees when the statement has ended, and
        # holds its locks until then. Some ask the server to stop it first, as we do; but closing
        # the connection, which is next, makes asyncpg forget to.
        if self.family is not Family.SQLITE:
            self.state.interrupt()


def begin_error(error: Exception) -> TransactionError:
    """Tell what an error of BEGIN means for the batch."""
    if isinstance(error, TransactionError):
        return error
    return statement_error(error, by_driver=True) or BusyError("no transaction could be begun")
