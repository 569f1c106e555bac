"""Logs: the observer that writes to the logger ``atomicbatch`` what no client is told."""

from __future__ import annotations

import logging

from atomicbatch.engine.observer import Observer, Observers
from atomicbatch.errors import (
    AtomicBatchError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
    kind_of,
)
from atomicbatch.model import Batch, Fate, Outcome

logger = logging.getLogger("atomicbatch")


class Logs(Observer):
    """
    Writes a line where there is something behind an outcome that the client is not told.

    Only a handler's exception is worth its traceback. What the transaction says is explained by
    the database's code; its traceback would show our own machinery, and its text rows.
    """

    def committed(
        self,
        batch: Batch,  # noqa: ARG002
        outcome: Outcome,
        last_conflict: ConflictError | None,
    ) -> None:
        if last_conflict is not None:
            reason = in_short(last_conflict)
            logger.warning("batch committed, %d attempts: %s", outcome.attempts, reason)

    def rolled_back(self, batch: Batch, outcome: Outcome) -> None:  # noqa: ARG002
        error: AtomicBatchError | None = outcome.error
        if error is None or error.status < 500:
            return
        if isinstance(error, TransactionError):
            attempts = f", {outcome.attempts} attempts" if outcome.attempts > 1 else ""
            logger.warning("batch rolled back: %s%s", in_short(error), attempts)
        elif error.__cause__ is not None:
            logger.error("batch rolled back: %s", error, exc_info=error.__cause__)

    def unknown(self, batch: Batch, error: UnknownOutcomeError) -> None:  # noqa: ARG002
        logger.error("%s", in_short(error))

    def abandoned(
        self,
        batch: Batch,  # noqa: ARG002
        fate: Fate,  # noqa: ARG002
        error: BaseException | None,
    ) -> None:
        if error is not None:
            logger.warning("a cancelled batch ended with an error: %s", in_short(error))


LOGS = Observers(Logs())
"""What listens where nobody else is named."""


def in_short(error: BaseException) -> str:
    """Describe an error in one line of bounded length, for the log."""
    text = str(error) if isinstance(error, AtomicBatchError) else kind_of(error)
    cause = error.__cause__
    text = text if cause is None else f"{text} ({kind_of(cause)})"
    return " ".join(text.split())[:500]
