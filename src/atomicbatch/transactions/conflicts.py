"""
Conflicts: which errors mean "run the batch again", and which "the connection is lost".

Told by code, never by class: the same conflict is an OperationalError with one driver and an
InternalError with another. No driver is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

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
_SQLITE_CONFLICTS = ("SQLITE_BUSY", "SQLITE_LOCKED")
# Spanner's conflicts carry no code of SQL's.
_CONFLICT_CLASSES = frozenset({"Aborted", "RetryAborted"})


class _Meaning(Enum):
    CONFLICT = "conflict"
    LOST = "lost"


def is_conflict(error: BaseException) -> bool:
    """
    Tell whether another transaction was in the way: rolled back, the same batch may succeed.

    Looks through ``__cause__`` and ``__context__``: a deadlock inside a savepoint surfaces as
    MySQL's "1305 SAVEPOINT does not exist", raised while 1213 was being handled.
    """
    return _meaning(error) is _Meaning.CONFLICT


def is_lost(error: BaseException) -> bool:
    """
    Tell whether the connection is lost.

    Before COMMIT the transaction is then surely rolled back; at COMMIT nobody knows.
    """
    return _meaning(error) is _Meaning.LOST


def _meaning(error: BaseException) -> _Meaning | None:
    """The first that means something, from the outermost error inwards, decides."""
    for link in _chain(error):
        if (meaning := _own_meaning(link)) is not None:
            return meaning
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        original = getattr(link, "orig", None)  # SQLAlchemy's name for the driver's exception
        waiting.append(original if isinstance(original, BaseException) else None)
        # __context__ also behind "raise ... from None": a hidden conflict is one all the same.
        waiting += [link.__cause__, link.__context__]


def _own_meaning(error: BaseException) -> _Meaning | None:
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return _Meaning.CONFLICT if name.startswith(_SQLITE_CONFLICTS) else None
    number = _number(error)
    if number is not None and (meaning := _number_meaning(number, error)) is not None:
        return meaning
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str):
        return _state_meaning(state)
    if type(error).__name__ in _CONFLICT_CLASSES:
        return _Meaning.CONFLICT
    if isinstance(error, ConnectionError) or getattr(error, "connection_invalidated", False):
        return _Meaning.LOST
    # What libpq itself says about the connection has no SQLSTATE.
    kind = type(error)
    if kind.__name__ == "OperationalError" and kind.__module__ in ("psycopg", "psycopg2"):
        return _Meaning.LOST
    return None


def _number(error: BaseException) -> int | None:
    """The error number of a MySQL driver: ``errno`` or the first argument."""
    # Only from exceptions of a driver (PEP 249): KeyError(1213) is no deadlock.
    if isinstance(error, OSError) or not any(
        base.__name__ == "Error" for base in type(error).__mro__
    ):
        return None
    number = getattr(error, "errno", None)
    if number is None and error.args:
        number = error.args[0]
    return number if isinstance(number, int) else None


def _number_meaning(number: int, error: BaseException) -> _Meaning | None:
    if number == 1180 and any(text in str(error).lower() for text in _ROLLED_BACK_1180):
        return _Meaning.CONFLICT
    if number in _CONFLICT_NUMBERS:
        return _Meaning.CONFLICT
    return _Meaning.LOST if number in _LOST_NUMBERS else None


def _state_meaning(state: str) -> _Meaning | None:
    if state in _CONFLICT_STATES:
        return _Meaning.CONFLICT
    if state in _LOST_STATES or state.startswith(_LOST_STATE_PREFIXES):
        return _Meaning.LOST
    return None
