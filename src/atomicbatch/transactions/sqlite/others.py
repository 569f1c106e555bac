"""Others: what code outside of a batch does to the same databases, and connections from before."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from typing import Any

from atomicbatch.errors import ConflictError
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller, function_of, is_logging
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.statements import read_statement
from atomicbatch.transactions.sqlite.databases import Database, UnsuitableError, database_of
from atomicbatch.transactions.sqlite.real import Real

# How long somebody outside waits for a database in memory; sqlite3's own default for locks.
_PATIENCE_SECONDS = 5.0
_NEVER_WAIT = frozenset({Kind.READ, Kind.ROLLBACK, Kind.ROLLBACK_TO, Kind.SAVEPOINT, Kind.RELEASE})
_in_transaction: Any = vars(sqlite3.Connection)["in_transaction"].__get__
_autocommit: Any = vars(sqlite3.Connection).get("autocommit")


def is_left_alone(database: Database, allowed: Allowed) -> bool:
    """Tell whether a database is none of the batch's business, or whoever uses it now."""
    if allowed:
        names = (*caller().libraries, "sqlite3")
        if allowed.allows(names, database.place):
            return True
    # A line about a batch that failed is meant to stay.
    return is_logging()


def wait_for(real: Real) -> None:
    """
    Wait until a batch gives a database in memory back.

    Raises:
        sqlite3.OperationalError: It takes too long, or this is an event loop, which the batch
            may need.
    """
    on_loop = asyncio._get_running_loop() is not None
    if on_loop or not real.ended.wait(_PATIENCE_SECONDS):
        raise sqlite3.OperationalError("database is locked")


def patience_of(connection: Any) -> float:
    """Tell how long a connection waits for a lock, in seconds."""
    seconds = connection._atomicbatch.options.get("timeout", _PATIENCE_SECONDS)
    return float(seconds) if isinstance(seconds, int | float) else _PATIENCE_SECONDS


def written_by(connection: Any, sql: Any) -> object:
    """Tell the key of the database that a statement is about to lock; None where it locks none."""
    if not isinstance(sql, str) or read_statement(sql, Family.SQLITE).kind in _NEVER_WAIT:
        return None
    try:
        return database_of(connection, connection._atomicbatch).key
    except (UnsuitableError, sqlite3.Error):
        return None


def gave_way() -> ConflictError:
    """Say why a batch is undone for whoever runs now, on the batch's event loop."""
    function = function_of(sys._getframe())
    error = ConflictError(
        f"a request outside of batches wrote by sqlite3 on the event loop, in "
        f"{function or 'a library'}, and waited for this batch; make that function 'def', or use "
        f"aiosqlite"
    )
    error.alone = True
    return error


def has_begun(connection: sqlite3.Connection) -> bool:
    """Tell whether a connection has a transaction open, by more than its mode (Python 3.12)."""
    try:
        always = _autocommit is not None and _autocommit.__get__(connection) is False
        return not always and bool(_in_transaction(connection))
    except sqlite3.Error:
        return False  # it is closed
