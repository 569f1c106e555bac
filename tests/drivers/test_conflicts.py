"""Conflicts: told by code, on every driver, through what an error was made from."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from pathlib import Path
from typing import TypeVar

import asyncpg
import httpx
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from fastapi import HTTPException

from atomicbatch import ConflictError
from atomicbatch.drivers.conflicts import is_conflict, is_lost
from atomicbatch.transactions.contract import statement_error

Error_ = TypeVar("Error_", bound=BaseException)


class AsyncpgError(Exception):
    """asyncpg's PostgresError in shape: no PEP 249, the code is ``sqlstate``."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("text")
        self.sqlstate = sqlstate


class Error(Exception):
    """A MySQL driver's base exception."""


class MariadbError(Error):
    """The mariadb connector's: ``errno``, and text in ``args[0]``."""

    def __init__(self, errno: int) -> None:
        super().__init__("text")
        self.errno = errno


class Psycopg2Error(Exception):
    """psycopg2's: ``pgcode``."""

    def __init__(self, pgcode: str) -> None:
        super().__init__("text")
        self.pgcode = pgcode


class Aborted(Exception):
    """Spanner's conflict, by its own name."""


def mysql(number: int, text: str = "text") -> Exception:
    return pymysql.err.OperationalError(number, text)


def wrapped(error: Exception, *, invalidated: bool = False) -> Exception:
    """As SQLAlchemy raises it."""
    return sa.exc.OperationalError("SELECT 1", {}, error, connection_invalidated=invalidated)


def raised_from(error: Error_, cause: BaseException) -> Error_:
    error.__cause__ = cause
    return error


def raised_while(error: Error_, context: BaseException) -> Error_:
    error.__context__ = context
    error.__suppress_context__ = True
    return error


def refused_by_http() -> BaseException:
    """A real refused connection, as httpx raises it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, but it does not listen
        try:
            httpx.get(f"http://127.0.0.1:{nobody.getsockname()[1]}/", trust_env=False)
        except httpx.ConnectError as refused:
            return raised_from(RuntimeError("handler"), refused)
    raise AssertionError("somebody listens")


CONFLICTS = [
    psycopg.errors.SerializationFailure(),
    psycopg.errors.DeadlockDetected(),
    AsyncpgError("40001"),
    Psycopg2Error("40P01"),
    *(mysql(number) for number in (1020, 1205, 1213, 3101, 8002, 8022, 8028, 9007)),
    mysql(1180, "Got error 149 'Lock deadlock; Retry transaction' during COMMIT"),
    MariadbError(1213),
    Aborted(),
    wrapped(mysql(1213)),
    raised_from(RuntimeError("handler"), mysql(1213)),
]
# What a handler makes of a conflict, or hides it behind. None of it can come from COMMIT.
HIDDEN_CONFLICTS = [
    # A deadlock inside a savepoint: "SAVEPOINT does not exist" hides it.
    raised_while(wrapped(mysql(1305)), mysql(1213)),
    wrapped(raised_while(mysql(1305), wrapped(mysql(1213)))),
    raised_while(RuntimeError("handler"), wrapped(mysql(1213))),
    raised_while(Error("an app's own, no driver's"), wrapped(mysql(1213))),
    raised_from(RuntimeError("handler"), raised_while(KeyError(), wrapped(mysql(1213)))),
    ExceptionGroup("tasks", [KeyError(), wrapped(mysql(1213))]),
    raised_while(RuntimeError(), ExceptionGroup("a", [ExceptionGroup("b", [mysql(1213)])])),
]
LOST = [
    psycopg.OperationalError("server closed the connection unexpectedly"),
    psycopg.errors.AdminShutdown(),
    psycopg.errors.CrashShutdown(),
    AsyncpgError("08006"),
    AsyncpgError("40003"),
    *(mysql(number) for number in (1047, 1053, 1927, 2002, 2006, 2013, 2055, 4031)),
    mysql(1180, "Error while appending streaming replication fragment"),
    pymysql.err.InterfaceError(0, ""),
    MariadbError(2013),
    ConnectionResetError(),
    BrokenPipeError(),
    wrapped(Exception("socket closed"), invalidated=True),
]
OTHER = [
    psycopg.errors.UniqueViolation(),
    psycopg.errors.LockNotAvailable(),
    psycopg.errors.QueryCanceled(),
    psycopg.InterfaceError("the cursor is closed"),
    *(mysql(number) for number in (1062, 1305, 1451)),
    KeyError(1213),
    ValueError(2013),
    OSError(1213, "not a driver's"),
    sqlite3.ProgrammingError("no code"),
    asyncio.CancelledError(),
    Exception(),
    # The database has answered: what the handler was busy with at the time says nothing.
    raised_while(wrapped(mysql(1062)), ConnectionRefusedError("cache")),
    raised_while(wrapped(mysql(1062)), wrapped(psycopg.errors.SerializationFailure())),
    raised_while(psycopg.errors.UniqueViolation(), mysql(2013)),
    raised_while(AsyncpgError("23505"), AsyncpgError("40001")),
    raised_while(HTTPException(409), raised_while(wrapped(mysql(1062)), mysql(1213))),
    ExceptionGroup("tasks", [raised_while(mysql(1062), mysql(1213)), KeyError()]),
    # Nor did the database say it where a driver complains of its caller.
    raised_while(psycopg.InterfaceError("the cursor is closed"), mysql(1213)),
    raised_while(sqlite3.ProgrammingError("no code"), mysql(1213)),
    raised_while(asyncpg.InterfaceError("another operation is in progress"), mysql(1213)),
    # The lost connection of a cache, or of another service.
    raised_while(KeyError(), ConnectionResetError()),
    raised_from(RuntimeError("handler"), ConnectionResetError()),
    refused_by_http(),
]


@pytest.mark.parametrize("error", CONFLICTS + HIDDEN_CONFLICTS, ids=repr)
def test_conflicts(error: BaseException) -> None:
    """Run the batch again: another transaction was in the way."""
    assert (is_conflict(error), is_lost(error)) == (True, False)
    assert isinstance(statement_error(error), ConflictError)


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_lost_connections(error: BaseException) -> None:
    """Before COMMIT the batch can run again."""
    assert (is_conflict(error), is_lost(error)) == (False, True)
    assert isinstance(statement_error(error), ConflictError)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors(error: BaseException) -> None:
    """An ordinary error is the handler's business."""
    assert (is_conflict(error), is_lost(error)) == (False, False)
    assert statement_error(error) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Await in a place where it is not possible"),
        TimeoutError(),
        psycopg.InterfaceError("the cursor is closed"),
        ExceptionGroup("tasks", [mysql(1213)]),
    ],
    ids=repr,
)
def test_what_a_driver_lets_through(error: BaseException) -> None:
    """Right out of a driver, an error means what it was made from, whatever was being handled."""
    handled = raised_while(error, wrapped(mysql(1213)))
    assert statement_error(handled, by_driver=True) is None
    assert statement_error(ConnectionResetError(), by_driver=True) is not None
    assert statement_error(HIDDEN_CONFLICTS[0], by_driver=True) is not None
    assert statement_error(raised_from(error, mysql(1213)), by_driver=True) is not None


def test_chains_that_bite_their_tails_end() -> None:
    """A chain of exceptions that leads back to itself is walked once."""
    first, second = RuntimeError(), RuntimeError()
    first.__context__, second.__context__ = second, first
    assert not is_conflict(first)


def test_sqlite(tmp_path: Path) -> None:
    """A real lock of a real SQLite file is a conflict; a real constraint is none."""
    path = tmp_path / "x.sqlite"
    first, second = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in "ab")
    first.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x INTEGER PRIMARY KEY)")
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        second.execute("BEGIN IMMEDIATE")
    assert is_conflict(busy.value)
    first.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError) as duplicate:
        first.execute("INSERT INTO t VALUES (1)")
    assert not is_conflict(duplicate.value)
    second.execute("BEGIN")
    second.execute("SELECT * FROM t").fetchall()
    first.execute("COMMIT")
    with pytest.raises(sqlite3.OperationalError) as snapshot:
        second.execute("INSERT INTO t VALUES (2)")
    assert snapshot.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
    assert is_conflict(snapshot.value)
    first.close()
    second.close()
