"""Calls: one attempt's, for whoever performs them. Taken in order, and recorded in order."""

from __future__ import annotations

from collections.abc import Callable

from atomicbatch.engine.attempts import Attempts
from atomicbatch.model import Batch, Call, Reply


class Calls:
    """
    The calls of one attempt.

    Several may be taken before the first is recorded. Whatever goes wrong is recorded for the first
    call that is not recorded yet, never for the one that was taken last. The time limit is looked
    at whenever a call is recorded.

    Args:
        attempts: Of whose current attempt they are.
        connection: What the transaction's block gave.

    Attributes:
        batch: Whose they are.
    """

    __slots__ = ("_attempts", "_deadline", "_execution", "_hears", "_took_part", "batch")

    def __init__(self, attempts: Attempts, connection: object) -> None:
        self.batch: Batch = attempts.batch
        self._attempts = attempts
        self._deadline = attempts.deadline
        self._execution = attempts.current.execution
        self._took_part = participation(connection)
        self._hears = attempts.observers.hear_calls

    def next(self) -> Call | None:
        """Take the next call; None: all are taken, or the batch has failed."""
        return self._execution.next_call()

    @property
    def recorded(self) -> int:
        """How many are recorded."""
        return self._execution.recorded

    @property
    def failed(self) -> bool:
        """Whether the batch has to be undone."""
        return self._execution.failed

    def record(self, reply: Reply, *, more: bool = False) -> None:
        """
        Take the reply of the first call that is not recorded yet.

        Args:
            reply: What it answered.
            more: The answer to the next call has come at the same time. If that is late, it is the
                next one that says whom the time limit has struck.
        """
        try:
            self._execution.record(reply, took_part=self._took_part())
            if self._hears:
                self._attempts.tell_call(reply, None)
        except Exception as error:
            self.record_error(error)
            return
        if not more:
            self._check_time()

    def record_error(self, error: Exception) -> None:
        """The first call that is not recorded yet has raised instead of answering."""
        self._execution.record_error(error)
        self._attempts.tell_call(None, error)
        self._check_time()

    def take_back(self) -> None:
        """Say that no call has run, although some were taken: BEGIN has failed."""
        self._execution.take_back()

    def begin_again(self) -> None:
        """
        Say that what is recorded is undone; all calls are taken once more, and recorded anew.

        An observer that hears calls hears them again.
        """
        self._execution.begin_again()

    def _check_time(self) -> None:
        if self._deadline.is_over():
            self._execution.record_timeout(answered=True)


def participation(connection: object) -> Callable[[], bool | None]:
    """Return what tells whether the last call used the database; None: nobody knows."""
    told: Callable[[], bool | None] | None = getattr(connection, "took_part", None)
    return told or _nobody_knows


def _nobody_knows() -> None:
    return None
