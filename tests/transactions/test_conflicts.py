"""Conflicts: told by code, on every driver, through every chain."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from atomicbatch import BrokenTransactionError, CommitError, ConflictError, UnknownOutcomeError
from atomicbatch.transactions.base import commit_error, statement_error
from atomicbatch.transactions.conflicts import is_conflict, is_lost


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


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def raised_while(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    error.__suppress_context__ = True
    return error


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
    # A deadlock inside a savepoint: "SAVEPOINT does not exist" hides it.
    raised_while(wrapped(mysql(1305)), mysql(1213)),
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
]


@pytest.mark.parametrize("error", CONFLICTS, ids=repr)
def test_conflicts(error: BaseException) -> None:
    """Run the batch again: another transaction was in the way."""
    assert (is_conflict(error), is_lost(error)) == (True, False)
    assert isinstance(statement_error(error), ConflictError)
    assert isinstance(commit_error(error), ConflictError)


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_lost_connections(error: BaseException) -> None:
    """Before COMMIT the batch can run again; at COMMIT nobody knows what became of it."""
    assert (is_conflict(error), is_lost(error)) == (False, True)
    assert isinstance(statement_error(error), ConflictError)
    assert isinstance(commit_error(error), UnknownOutcomeError)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors(error: BaseException) -> None:
    """An ordinary error is the handler's business, and at COMMIT a refusal."""
    assert (is_conflict(error), is_lost(error)) == (False, False)
    assert statement_error(error) is None
    assert isinstance(commit_error(error), CommitError | BrokenTransactionError)


def test_the_outermost_meaning_decides() -> None:
    """A connection lost while a conflict was being handled is lost: never run again at COMMIT."""
    assert is_lost(raised_while(mysql(2013), mysql(1213)))
    assert is_conflict(raised_while(mysql(1213), mysql(2013)))


def test_chains_that_bite_their_tails_end() -> None:
    """A chain of exceptions that leads back to itself is walked once."""
    first, second = RuntimeError(), RuntimeError()
    first.__context__, second.__context__ = second, first
    assert not is_conflict(first)


def test_commit_refused_by_a_constraint() -> None:
    """A deferred constraint is a refusal (409); a full disk is not the client's conflict (500)."""
    assert isinstance(commit_error(psycopg.errors.ForeignKeyViolation()), CommitError)
    assert isinstance(commit_error(psycopg.errors.RaiseException()), CommitError)
    assert isinstance(commit_error(pymysql.err.IntegrityError(1452, "x")), CommitError)
    assert isinstance(commit_error(psycopg.errors.DiskFull()), BrokenTransactionError)


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
    assert isinstance(commit_error(duplicate.value), CommitError)
    second.execute("BEGIN")
    second.execute("SELECT * FROM t").fetchall()
    first.execute("COMMIT")
    with pytest.raises(sqlite3.OperationalError) as snapshot:
        second.execute("INSERT INTO t VALUES (2)")
    assert snapshot.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
    assert is_conflict(snapshot.value)
    first.close()
    second.close()
