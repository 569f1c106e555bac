"""
Conflicts: which errors mean "run the batch again", and which "the connection is lost".

Told by code, never by class: the same conflict is an OperationalError with one driver and an
InternalError with another.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from atomicbatch.drivers.answers import (
    Answer,
    answer_of,
    causes,
    is_drivers,
    original_of,
    own_answer,
)

# PostgreSQL, CockroachDB, YugabyteDB: serialization_failure, deadlock_detected. Not 55P03: who
# says NOWAIT wants to hear that the lock is taken.
_CONFLICT_STATES = frozenset({"40001", "40P01"})
# 40003: statement completion unknown.
_LOST_STATES = frozenset({"40003"})
# Class 08: connection exception; 57P01 to 57P03: the server is shutting down, crashed, starting.
_LOST_STATE_PREFIXES = ("08", "57P0")

_CONFLICT_NUMBERS = frozenset(
    {
        1020,  # MariaDB: record has changed since last read (innodb_snapshot_isolation)
        1205,  # lock wait timeout
        1213,  # deadlock; Galera: certification failed
        3101,  # MySQL Group Replication: certification failed
        8002,  # TiDB: SELECT FOR UPDATE met a newer write
        8022,  # TiDB: COMMIT failed, may be retried
        8028,  # TiDB: the schema changed
        9007,  # TiDB: write conflict
    }
)
_LOST_NUMBERS = frozenset(
    {
        0,  # PyMySQL: InterfaceError(0, ""), used after it was lost
        1047,  # Galera: the node is not prepared
        1053,  # the server is shutting down
        1077,  # likewise
        1180,  # error during COMMIT, see _number_meaning
        1927,  # MariaDB: connection was killed
        2002,  # cannot connect
        2003,
        2006,  # server has gone away
        2013,  # lost during a statement
        2014,  # out of step with the server
        2055,  # lost, with a system error
        4031,  # MySQL: disconnected because idle
    }
)
# Told from other connection errors only by the text: the transaction is surely rolled back.
_ROLLED_BACK_1180 = ("error 149", "restart transaction", "write conflict")
# MySQL: SAVEPOINT does not exist. A deadlock has ended the transaction and its savepoints, and
# this is what the handler's ROLLBACK TO then comes to.
_HIDES_A_CONFLICT = 1305
_SQLITE_CONFLICTS = ("SQLITE_BUSY", "SQLITE_LOCKED")
# Spanner's conflicts carry no code of SQL's.
_CONFLICT_CLASSES = frozenset({"Aborted", "RetryAborted"})


class _Meaning(Enum):
    CONFLICT = "conflict"
    LOST = "lost"


def is_conflict(error: BaseException, *, by_driver: bool = False) -> bool:
    """
    Tell whether another transaction was in the way: rolled back, the same batch may succeed.

    What the database has answered ends the search: that a conflict of something else was being
    handled at the time, or a lost connection, says nothing about it.

    Args:
        error: A driver's exception, or one of a handler's that was raised from it or while it
            was being handled, alone or in a group.
        by_driver: It came right out of a driver; only what it was made from counts.
    """
    return _meaning(error, by_driver=by_driver) is _Meaning.CONFLICT


def conflict_behind(error: BaseException) -> Answer | None:
    """Find the database's answer that makes a handler's exception a conflict, see is_conflict."""
    for link in _databases_errors(error):
        if (meaning := _drivers_meaning(link)) is not None:
            return answer_of(link) if meaning is _Meaning.CONFLICT else None
    return None


def is_lost(error: BaseException, *, by_driver: bool = False) -> bool:
    """
    Tell whether the connection is lost; before COMMIT the transaction is then surely rolled back.

    Python's own ConnectionError counts where it is the error itself, which the driver then let
    through, or where a driver's was made from it; else it is that of a cache, or of another
    service.

    Args:
        error: What :func:`is_conflict` takes.
        by_driver: It came right out of a driver; only what it was made from counts.
    """
    return _meaning(error, by_driver=by_driver) is _Meaning.LOST


def is_conflict_answer(answer: Answer) -> bool:
    """Tell whether an answer is a conflict, after which nothing of the transaction is stored."""
    return _answer_meaning(answer) is _Meaning.CONFLICT


def is_conflict_without_code(error: BaseException) -> bool:
    """Tell whether a driver's exception is a conflict that carries no code of SQL's (Spanner)."""
    return any(type(link).__name__ in _CONFLICT_CLASSES for link in causes(error))


def _meaning(error: BaseException, *, by_driver: bool) -> _Meaning | None:
    """The first that means something, from the outermost error inwards, decides."""
    if by_driver or isinstance(error, ConnectionError):
        return _drivers_meaning(error)
    for link in _databases_errors(error):
        if (meaning := _drivers_meaning(link)) is not None:
            return meaning
    return None


def _databases_errors(error: BaseException) -> Iterator[BaseException]:
    """
    Find the errors of databases behind an exception; none behind one of those.

    An app may make a reply, or an error of its own, from a database's error, or let it out of a
    group of tasks.
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
        # __context__ also behind "raise ... from None": a hidden conflict is one all the same.
        waiting += [link.__cause__, link.__context__]


def _drivers_meaning(error: BaseException) -> _Meaning | None:
    answer = answer_of(error)
    if answer is not None:
        if answer.number == _HIDES_A_CONFLICT:
            return _hidden_meaning(error)
        if (meaning := _answer_meaning(answer)) is not None:
            return meaning
    if is_conflict_without_code(error):
        return _Meaning.CONFLICT
    for link in causes(error):
        if getattr(link, "connection_invalidated", False):
            return _Meaning.LOST
        if answer is None and (isinstance(link, ConnectionError) or _is_of_libpq(link)):
            return _Meaning.LOST
    return None


def _hidden_meaning(error: BaseException) -> _Meaning | None:
    """What was being handled when a savepoint turned out to be gone."""
    for link in causes(error):
        context = link.__context__
        if context is not None and context is not original_of(link):
            answer = answer_of(context)
            if answer is not None and (meaning := _answer_meaning(answer)) is not None:
                return meaning
    return None


def _is_of_libpq(error: BaseException) -> bool:
    """What libpq itself says about the connection has no SQLSTATE."""
    kind = type(error)
    return kind.__name__ == "OperationalError" and kind.__module__ in ("psycopg", "psycopg2")


def _answer_meaning(answer: Answer) -> _Meaning | None:
    if answer.result:
        return _Meaning.CONFLICT if answer.result.startswith(_SQLITE_CONFLICTS) else None
    if answer.number is not None and (meaning := _number_meaning(answer)) is not None:
        return meaning
    if answer.state in _CONFLICT_STATES:
        return _Meaning.CONFLICT
    if answer.state in _LOST_STATES or answer.state.startswith(_LOST_STATE_PREFIXES):
        return _Meaning.LOST
    return None


def _number_meaning(answer: Answer) -> _Meaning | None:
    number, text = answer.number, answer.text.lower()
    if number == 1180 and any(words in text for words in _ROLLED_BACK_1180):
        return _Meaning.CONFLICT
    if number in _CONFLICT_NUMBERS:
        return _Meaning.CONFLICT
    return _Meaning.LOST if number in _LOST_NUMBERS else None
