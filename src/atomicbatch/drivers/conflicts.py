"""
Conflicts: which errors mean "run the batch again", and which mean "the connection is lost".

The database's code decides, never the exception's class: the same conflict is an OperationalError
with one driver and an InternalError with another.
"""

from __future__ import annotations

from collections.abc import Iterator

from atomicbatch.drivers.answers import (
    Answer,
    answer_of,
    causes,
    is_drivers,
    original_of,
    own_answer,
)
from atomicbatch.drivers.verdicts import Fate
from atomicbatch.errors import ConflictError
from atomicbatch.sql.kinds import Family

# Spanner's conflicts carry no code of SQL's.
_CONFLICT_CLASSES = frozenset({"Aborted", "RetryAborted"})
_DECISIVE = (Fate.CONFLICT, Fate.LOST)


def statement_error(error: BaseException, *, by_driver: bool = False) -> ConflictError | None:
    """
    Tell what an exception before COMMIT means for the batch.

    Args:
        error: A driver's exception, or whatever left the block.
        by_driver: It came right out of a statement: what was being handled at the time, which
            Python keeps with it, is none of its business, whatever its class.

    Returns:
        A conflict: another transaction's, or a lost connection, after which the batch can safely
        be run again. None: an ordinary error, which is the handler's business.
    """
    if is_conflict(error, by_driver=by_driver):
        return ConflictError("another transaction was in the way")
    if is_lost(error, by_driver=by_driver):
        return ConflictError("the connection to the database was lost before COMMIT")
    return None


def is_conflict(error: BaseException, *, by_driver: bool = False) -> bool:
    """
    Tell whether another transaction was in the way: the same batch may succeed when it runs again.

    The search ends at the first answer of the database. Python keeps what was being handled at the
    time with it, perhaps another conflict or a lost connection; that says nothing about this error.

    Args:
        error: A driver's exception, or one of a handler's that was raised from it or while it
            was being handled, alone or in a group.
        by_driver: It came straight from a driver; only what it was made from counts.
    """
    return _fate(error, by_driver=by_driver) is Fate.CONFLICT


def conflict_behind(error: BaseException) -> Answer | None:
    """Find the database's answer that makes a handler's exception a conflict, see is_conflict."""
    for link in _databases_errors(error):
        if (fate := _drivers_fate(link)) is not None:
            return answer_of(link) if fate is Fate.CONFLICT else None
    return None


def is_lost(error: BaseException, *, by_driver: bool = False) -> bool:
    """
    Tell whether the connection is lost; before COMMIT the transaction is then surely rolled back.

    Python's own ConnectionError counts in two cases: it is the error itself, since some drivers let
    it through, or a driver's error was made from it. Otherwise it comes from a cache or from
    another service.

    Args:
        error: What :func:`is_conflict` takes.
        by_driver: It came straight from a driver; only what it was made from counts.
    """
    return _fate(error, by_driver=by_driver) is Fate.LOST


def is_conflict_answer(answer: Answer) -> bool:
    """Tell whether an answer is a conflict, after which nothing of the transaction is stored."""
    return answer.fate is Fate.CONFLICT


def is_conflict_without_code(error: BaseException) -> bool:
    """Tell whether a driver's exception is a conflict that carries no code of SQL's (Spanner)."""
    return any(type(link).__name__ in _CONFLICT_CLASSES for link in causes(error))


def _fate(error: BaseException, *, by_driver: bool) -> Fate | None:
    """From the outermost error inwards, the first one that means something decides."""
    if by_driver or isinstance(error, ConnectionError):
        return _drivers_fate(error)
    for link in _databases_errors(error):
        if (fate := _drivers_fate(link)) is not None:
            return fate
    return None


def _databases_errors(error: BaseException) -> Iterator[BaseException]:
    """
    Find the databases' errors behind an exception; the search goes no further behind each of them.

    An app may turn a database's error into a reply or an error of its own, or let it out of a group
    of tasks.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if own_answer(link) is not None or is_drivers(link) or is_conflict_without_code(link):
            yield link
            continue
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions
        # __context__ also behind "raise ... from None": a hidden conflict is still a conflict.
        waiting += [link.__cause__, link.__context__]


def _drivers_fate(error: BaseException) -> Fate | None:
    answer = answer_of(error)
    if answer is not None:
        if answer.fate in _DECISIVE:
            return answer.fate
        if answer.fate is Fate.SAVEPOINT_GONE and answer.family is Family.MYSQL:
            return _hidden_fate(error)
    if is_conflict_without_code(error):
        return Fate.CONFLICT
    for link in causes(error):
        if getattr(link, "connection_invalidated", False):
            return Fate.LOST
        if answer is None and (isinstance(link, ConnectionError) or _is_of_libpq(link)):
            return Fate.LOST
    return None


def _hidden_fate(error: BaseException) -> Fate | None:
    """
    What was being handled when a savepoint turned out to be gone.

    On MySQL a deadlock ends the transaction and all of its savepoints. The handler's own ROLLBACK
    TO SAVEPOINT then fails, and hides the deadlock.
    """
    for link in causes(error):
        context = link.__context__
        if context is not None and context is not original_of(link):
            answer = answer_of(context)
            if answer is not None and answer.fate in _DECISIVE:
                return answer.fate
    return None


def _is_of_libpq(error: BaseException) -> bool:
    """What libpq itself says about the connection has no SQLSTATE."""
    kind = type(error)
    return kind.__name__ == "OperationalError" and kind.__module__ in ("psycopg", "psycopg2")
