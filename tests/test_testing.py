"""The contract checks find adapters that break the contract, and pass one that keeps it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atomicbatch import Batch, BrokenTransactionError
from atomicbatch.testing import check_transaction
from atomicbatch.transactions.base import commit_error


class Good:
    """Keeps the contract, on an SQLite file."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;"
            "CREATE TABLE t (x INTEGER PRIMARY KEY,"
            " y INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
        )

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[sqlite3.Connection]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException as error:
            self.left_by(error)
            raise
        self.commit()

    def left_by(self, error: BaseException) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def commit(self) -> None:
        if not self.connection.in_transaction:
            raise BrokenTransactionError("it ended early")
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.connection.execute("ROLLBACK")
            raise commit_error(error) from error


class CommitsOnError(Good):
    def left_by(self, error: BaseException) -> None:
        self.connection.execute("COMMIT")


class CommitsOnCancel(Good):
    def left_by(self, error: BaseException) -> None:
        self.connection.execute("ROLLBACK" if isinstance(error, Exception) else "COMMIT")


class ChangesTheError(Good):
    def left_by(self, error: BaseException) -> None:
        super().left_by(error)
        raise ValueError("mine")


class NeverCommits(Good):
    def commit(self) -> None:
        self.connection.execute("ROLLBACK")


class LeaksTheDriversError(Good):
    def commit(self) -> None:
        if not self.connection.in_transaction:
            raise BrokenTransactionError("it ended early")
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.connection.execute("ROLLBACK")
            raise


class TrustsACleanExit(Good):
    def commit(self) -> None:
        if self.connection.in_transaction:
            super().commit()


class Autocommit(Good):
    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[sqlite3.Connection]:
        yield self.connection


def check(adapter: Good, path: Path) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t (y) VALUES (NULL)")

    def count() -> int:
        own = sqlite3.connect(path)
        try:
            rows: int = own.execute("SELECT count(*) FROM t").fetchone()[0]
            return rows
        finally:
            own.close()

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t (y) VALUES (999999)")

    def escape(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")

    try:
        check_transaction(adapter, write=write, count=count, refuse=refuse, escape=escape)
    finally:
        adapter.connection.close()


def test_a_good_adapter_passes(tmp_path: Path) -> None:
    """An adapter that keeps the contract is not complained about."""
    check(Good(tmp_path / "x"), tmp_path / "x")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (CommitsOnError, "rows are stored although Rollback left the block"),
        (CommitsOnCancel, "rows are stored although CancelledError left the block"),
        (ChangesTheError, "Rollback did not get through the block"),
        (NeverCommits, "rows are missing after COMMIT"),
        (LeaksTheDriversError, "a COMMIT that fails is reported as IntegrityError"),
        (TrustsACleanExit, "a transaction that ended early is reported as None"),
        (Autocommit, "rows show before COMMIT"),
    ],
)
def test_bad_adapters_are_found(bad: type[Good], complaint: str, tmp_path: Path) -> None:
    """Each breach of the contract is found, and named."""
    with pytest.raises(AssertionError, match=complaint):
        check(bad(tmp_path / "x"), tmp_path / "x")
