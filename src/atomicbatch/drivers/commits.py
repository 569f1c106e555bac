"""
Commits: which errors of COMMIT prove that nothing is stored.

Only a refusal that the database itself has sent does. Whatever else comes out of COMMIT, a time
limit, a lost connection, bytes that nobody can read, a disk that fails, says nothing about whether
the transaction is stored: the outcome is unknown. So these are lists of refusals, one for each
family; a code that is on none of them is unknown.
"""

from __future__ import annotations

import asyncio

from atomicbatch.drivers.answers import Answer, answer_of
from atomicbatch.drivers.conflicts import (
    is_conflict_answer,
    is_conflict_without_code,
    is_lost,
)
from atomicbatch.errors import CommitError, ConflictError, TransactionError, UnknownOutcomeError

# PostgreSQL and its kin. An ERROR from COMMIT comes before the commit record is written; what may
# come after it (57P01 and its like, class 08, XX, 58, out of memory) is not here, nor is 40003.
_STATES = frozenset(
    {
        *("40000", "40002"),  # rolled back; by a constraint
        *("25006", "25P02"),  # writes in a read-only transaction; it had failed already
        "53100",  # disk full: what deferred triggers write
        "57014",  # cancelled, or its statement_timeout: deferred triggers only, since a COMMIT
        #           that waits for a standby succeeds with a warning
    }
)
# What deferred triggers and constraints raise: feature not supported, cardinality, data, integrity
# constraint, triggered data change, invalid transaction termination, routines (2F, 38, 39), syntax
# or access, WITH CHECK OPTION, program limits, object state and locks, PL/pgSQL's RAISE.
_STATE_CLASSES = frozenset(
    {*("09", "0A", "21", "22", "23", "27", "2D", "2F", "38", "39", "42", "44", "54", "55", "P0")}
)
# Of those, the ones that a constraint has, or a trigger that serves as one.
_CONSTRAINT_CLASSES = frozenset({"23", "27", "44", "P0"})
_CONSTRAINT_STATES = frozenset({"40002"})

# MySQL, MariaDB, TiDB. InnoDB checks nothing at COMMIT; NDB and TiDB do.
_CONSTRAINT_NUMBERS = frozenset(
    {
        *(1022, 1062, 1169, 1557, 1586, 1761, 1762),  # unique keys
        *(1216, 1217, 1451, 1452),  # foreign keys
        *(3819, 4025),  # CHECK
    }
)
_NUMBERS = frozenset(
    {
        *(1290, 1836),  # the server has become read-only: ha_commit_trans() rolls back
    }
)

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
            others attached, some files may have been committed; without ``psow`` the frame that
            commits may have been written before the disk was full.

    Returns:
        ConflictError or CommitError: the database has refused, nothing is stored; ROLLBACK what
        is still open. UnknownOutcomeError: the connection must not be used again.
    """
    answer = answer_of(error)
    if answer is None:
        if is_conflict_without_code(error):
            return _conflict()
        return UnknownOutcomeError(_unknown(error))
    if is_conflict_answer(answer):
        return _conflict()
    if _is_constraint(answer):
        return CommitError(_CONSTRAINT)
    if answer.state == "53100" or (answer.result == "SQLITE_FULL" and full_is_refused):
        return _refused(_FULL, 507)
    if _is_refusal(answer):
        return _refused(_REFUSED, 500)
    return UnknownOutcomeError(_unknown(error))


def _conflict() -> ConflictError:
    return ConflictError("another transaction was in the way at COMMIT")


def _refused(what: str, status: int) -> CommitError:
    error = CommitError(what)
    error.status = status
    return error


def _is_constraint(answer: Answer) -> bool:
    if answer.result:
        return answer.result.startswith("SQLITE_CONSTRAINT")
    if answer.number is not None:
        return answer.number in _CONSTRAINT_NUMBERS
    return answer.state[:2] in _CONSTRAINT_CLASSES or answer.state in _CONSTRAINT_STATES


def _is_refusal(answer: Answer) -> bool:
    if answer.result:
        return False  # SQLITE_IOERR and its like: the frame that commits may be in the file
    if answer.number is not None:
        return answer.number in _NUMBERS
    return answer.state[:2] in _STATE_CLASSES or answer.state in _STATES


def _unknown(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "COMMIT was cancelled before the database had answered it"
    if isinstance(error, TimeoutError):
        return "the database did not answer COMMIT in time"
    if is_lost(error, by_driver=True):
        return "the connection to the database was lost during COMMIT"
    return "COMMIT ended in an error that does not say whether the batch is stored"
