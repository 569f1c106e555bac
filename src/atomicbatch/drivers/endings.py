"""Endings: what it means for the transaction that a savepoint of ours has failed."""

from __future__ import annotations

from atomicbatch.drivers.answers import answer_of

CANCELLED = "a statement was cancelled while it ran"
# PostgreSQL: no such savepoint, no transaction. MySQL: no such savepoint. SQLite has a text only.
_GONE_STATES = ("3B001", "25P01")
_GONE_NUMBER = 1305
_GONE_TEXT = "no such savepoint"


def says_gone(error: BaseException) -> bool:
    """
    Tell whether the database says that a savepoint of ours is gone.

    Its transaction is gone with it: somebody has ended it, perhaps by COMMIT. Any other failure,
    one of the driver's above all, proves no such thing.
    """
    answer = answer_of(error)
    return answer is not None and (
        answer.state in _GONE_STATES
        or answer.number == _GONE_NUMBER
        or (bool(answer.result) and answer.text.startswith(_GONE_TEXT))
    )


def savepoint_failed(error: BaseException) -> str:
    """Say why the batch cannot go on although nobody has ended its transaction."""
    if not isinstance(error, Exception):
        return CANCELLED
    if answer_of(error) is None:
        return "the database driver could not set, release or roll back to a savepoint"
    return "the database refused to set, release or roll back to a savepoint"
