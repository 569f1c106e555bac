"""
Commits: which errors of COMMIT prove that nothing is stored.

Only a refusal sent by the database itself does. Anything else says nothing about whether the
transaction is stored: a time limit, a lost connection, bytes that nobody can read, a failing disk.
The outcome is then unknown. So the tables of codes list refusals, and any other code is unknown.
"""

from __future__ import annotations

import asyncio

from atomicbatch.drivers.answers import answer_of
from atomicbatch.drivers.conflicts import (
    is_conflict_answer,
    is_conflict_without_code,
    is_lost,
)
from atomicbatch.drivers.verdicts import Refusal
from atomicbatch.errors import CommitError, ConflictError, TransactionError, UnknownOutcomeError
from atomicbatch.sql.kinds import Family

_CONSTRAINT = "COMMIT was refused by a constraint that is checked last"
_REFUSED = "the database refused the COMMIT"
_FULL = "the database refused the COMMIT: it has no room left"


def commit_error(error: BaseException, *, full_is_refused: bool = False) -> TransactionError:
    """
    Tell what an exception from COMMIT means for the batch.

    Args:
        error: Anything that came out of COMMIT: the driver's, Python's own, a cancellation.
        full_is_refused: SQLITE_FULL proves that nothing is stored. That holds where the connection
            has one database file and writes to it with SQLite's own defaults (``psow=1``). With
            others attached, some of the files may be committed. Without ``psow`` the frame that
            commits may have been written before the disk was full.

    Returns:
        ConflictError or CommitError: the database has refused, and nothing is stored; ROLLBACK
        what is still open. UnknownOutcomeError: the connection must not be used again.
    """
    answer = answer_of(error)
    if answer is None:
        if is_conflict_without_code(error):
            return _conflict()
        return UnknownOutcomeError(_unknown(error))
    if is_conflict_answer(answer):
        return _conflict()
    refusal = answer.verdict.refusal
    if refusal is Refusal.CONSTRAINT:
        return CommitError(_CONSTRAINT)
    if refusal is Refusal.FULL and (answer.family is not Family.SQLITE or full_is_refused):
        return _refused(_FULL, 507)
    if refusal is Refusal.OTHER:
        return _refused(_REFUSED, 500)
    return UnknownOutcomeError(_unknown(error))


def _conflict() -> ConflictError:
    return ConflictError("another transaction was in the way at COMMIT")


def _refused(what: str, status: int) -> CommitError:
    error = CommitError(what)
    error.status = status
    return error


def _unknown(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "COMMIT was cancelled before the database had answered it"
    if isinstance(error, TimeoutError):
        return "the database did not answer COMMIT in time"
    if is_lost(error, by_driver=True):
        return "the connection to the database was lost during COMMIT"
    return "COMMIT ended in an error that does not say whether the batch is stored"
