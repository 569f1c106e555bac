"""Endings: what the failure of one of our savepoints means for the transaction."""

from __future__ import annotations

from atomicbatch.drivers.answers import answer_of
from atomicbatch.drivers.verdicts import Fate

CANCELLED = "a statement was cancelled while it ran"


def says_gone(error: BaseException) -> bool:
    """
    Tell whether the database says that a savepoint of ours is gone.

    Its transaction is then gone too: somebody has ended it, perhaps by COMMIT. No other failure
    proves that, least of all one of the driver's own.
    """
    answer = answer_of(error)
    return answer is not None and answer.fate is Fate.SAVEPOINT_GONE


def savepoint_failed(error: BaseException) -> str:
    """Say why the batch cannot go on although nobody has ended its transaction."""
    if not isinstance(error, Exception):
        return CANCELLED
    if answer_of(error) is None:
        return "the database driver could not set, release or roll back to a savepoint"
    return "the database refused to set, release or roll back to a savepoint"
