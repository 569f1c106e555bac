"""COMMIT: only what the database itself has sent is a refusal; all else is unknown."""

from __future__ import annotations

import asyncio
import sqlite3
import struct
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from atomicbatch import CommitError, ConflictError, UnknownOutcomeError
from atomicbatch.transactions.contract import commit_error
from tests.drivers.test_conflicts import (
    CONFLICTS,
    HIDDEN_CONFLICTS,
    LOST,
    OTHER,
    AsyncpgError,
    MariadbError,
    Psycopg2Error,
    mysql,
    raised_from,
    raised_while,
    wrapped,
)

# (error, status)
REFUSED = [
    (psycopg.errors.ForeignKeyViolation(), 409),
    (psycopg.errors.UniqueViolation(), 409),
    (psycopg.errors.ExclusionViolation(), 409),
    (psycopg.errors.RaiseException(), 409),  # of a constraint trigger
    (psycopg.errors.WithCheckOptionViolation(), 409),
    (psycopg.errors.TransactionIntegrityConstraintViolation(), 409),
    (AsyncpgError("23503"), 409),
    (Psycopg2Error("23503"), 409),
    (wrapped(AsyncpgError("23503")), 409),
    (pymysql.err.IntegrityError(1452, "x"), 409),
    (mysql(1062), 409),
    (MariadbError(4025), 409),
    (raised_while(mysql(1062), ConnectionResetError()), 409),
    (psycopg.errors.DiskFull(), 507),
    (psycopg.errors.DivisionByZero(), 500),
    (psycopg.errors.UndefinedColumn(), 500),
    (psycopg.errors.QueryCanceled(), 500),
    (psycopg.errors.LockNotAvailable(), 500),
    (psycopg.errors.InFailedSqlTransaction(), 500),
    (psycopg.errors.ReadOnlySqlTransaction(), 500),
    (mysql(1290), 500),
]
UNKNOWN: list[BaseException] = [
    *LOST,
    # Python's own, and whatever else: nobody has heard from the database.
    TimeoutError(),
    raised_while(TimeoutError(), mysql(1213)),
    raised_from(TimeoutError(), asyncio.CancelledError()),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    OSError(113, "No route to host"),
    EOFError(),
    struct.error(),
    IndexError(),
    MemoryError(),
    RuntimeError(),
    ExceptionGroup("tasks", [mysql(1213)]),
    # Drivers' errors without a code, and codes of the client's.
    psycopg.OperationalError("timeout expired"),
    psycopg.InterfaceError("the connection is lost"),
    pymysql.err.InternalError("Packet sequence number wrong - got 4 expected 1"),
    pymysql.err.IntegrityError("no number"),
    wrapped(Exception("cannot perform operation: another operation is in progress")),
    mysql(2027, "Malformed packet"),
    mysql(5000),
    # Codes that do not say it.
    psycopg.errors.InternalError_(),
    psycopg.errors.IoError(),
    psycopg.errors.OutOfMemory(),
    psycopg.errors.ProtocolViolation(),
    psycopg.errors.StatementCompletionUnknown(),
    psycopg.errors.TransactionResolutionUnknown(),
    psycopg.errors.IdleInTransactionSessionTimeout(),
    psycopg.errors.IdleSessionTimeout(),
    *(mysql(number) for number in (1026, 1105, 1158, 1160, 1180, 1305, 1317, 3024, 4111)),
    MariadbError(1317),
]


@pytest.mark.parametrize("error", CONFLICTS, ids=repr)
def test_conflicts(error: BaseException) -> None:
    """The database has refused, and trying again may help."""
    assert isinstance(commit_error(error), ConflictError)


@pytest.mark.parametrize(("error", "status"), REFUSED, ids=repr)
def test_refusals(error: BaseException, status: int) -> None:
    """A constraint is the client's conflict (409); the rest is not."""
    found = commit_error(error)
    assert isinstance(found, CommitError)
    assert found.status == status


@pytest.mark.parametrize("error", UNKNOWN, ids=repr)
def test_unknown(error: BaseException) -> None:
    """The batch may be stored: never "rolled back", and never run again."""
    assert isinstance(commit_error(error), UnknownOutcomeError)


@pytest.mark.parametrize("error", [*HIDDEN_CONFLICTS, *OTHER], ids=repr)
def test_what_surrounds_an_error_proves_nothing(error: BaseException) -> None:
    """A conflict that was being handled while COMMIT failed is no answer to COMMIT."""
    found = commit_error(error)
    assert not isinstance(found, ConflictError)
    assert isinstance(found, CommitError | UnknownOutcomeError)


def test_sqlite(tmp_path: Path) -> None:
    """Real refusals of a real SQLite file: the transaction is still open, and can be undone."""
    path = tmp_path / "x.sqlite"
    first, second = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in "ab")
    first.executescript(
        "PRAGMA foreign_keys=ON;"
        "CREATE TABLE t (x INTEGER PRIMARY KEY, y REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
    )
    first.execute("BEGIN IMMEDIATE")
    first.execute("INSERT INTO t VALUES (1, 2)")
    with pytest.raises(sqlite3.IntegrityError) as refused:
        first.execute("COMMIT")
    assert isinstance(commit_error(refused.value), CommitError)
    assert first.in_transaction
    first.execute("DELETE FROM t")
    # Without WAL a reader keeps COMMIT from writing.
    second.execute("BEGIN")
    second.execute("SELECT * FROM t").fetchall()
    with pytest.raises(sqlite3.OperationalError) as busy:
        first.execute("COMMIT")
    assert isinstance(commit_error(busy.value), ConflictError)
    assert first.in_transaction
    first.execute("ROLLBACK")
    first.close()
    second.close()


@pytest.mark.parametrize(
    "name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_FULL", "SQLITE_CORRUPT"]
)
def test_sqlite_disks(name: str) -> None:
    """A disk that fails may have the frame that commits; a full one has it not, sometimes."""
    error = sqlite3.OperationalError("x")
    error.sqlite_errorname = name
    assert isinstance(commit_error(error), UnknownOutcomeError)
    assert isinstance(commit_error(wrapped(error)), UnknownOutcomeError)
    found = commit_error(error, full_is_refused=True)
    assert isinstance(found, CommitError) == (name == "SQLITE_FULL")


def test_sqlalchemy_s_own_errors() -> None:
    """Also those that are no driver's."""
    assert isinstance(commit_error(sa.exc.InvalidRequestError()), UnknownOutcomeError)
