"""The contract checks find adapters that break the contract, and pass one that keeps it."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from atomicbatch import (
    Batch,
    BrokenTransactionError,
    CommitError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.testing import check_transaction
from atomicbatch.transactions.contract import commit_error
from tests.proxies import At, Fault, proxied


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


class NeverKnows(Good):
    def commit(self) -> None:
        try:
            super().commit()
        except CommitError as error:
            raise UnknownOutcomeError("who knows") from error


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
        (ChangesTheError, "Rollback left the block"),
        (NeverCommits, "rows are missing after COMMIT"),
        (LeaksTheDriversError, "a COMMIT that fails is reported as IntegrityError"),
        (TrustsACleanExit, "a transaction that ended early is reported as None"),
        (Autocommit, "rows show before COMMIT"),
        (NeverKnows, "a COMMIT that fails is reported as unknown"),
    ],
)
def test_bad_adapters_are_found(bad: type[Good], complaint: str, tmp_path: Path) -> None:
    """Each breach of the contract is found, and named."""
    with pytest.raises(AssertionError, match=complaint):
        check(bad(tmp_path / "x"), tmp_path / "x")


class OnPostgreSQL:
    """Keeps the contract, by psycopg; a connection for each batch, and a time limit for COMMIT."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[psycopg.Connection]:
        connection = psycopg.connect(self.url)
        try:
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            self.commit(connection)
        finally:
            connection.close()

    def commit(self, connection: psycopg.Connection) -> None:
        with connection.cursor() as proof:
            proof.execute("SELECT 1")
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            raise BrokenTransactionError("it ended early")
        # What psycopg has no option for: give up after a second.
        late = threading.Timer(1, lambda: shutdown(connection.fileno()))
        late.start()
        try:
            connection.commit()
        except BaseException as error:
            raise self.meaning(error) from error
        finally:
            late.cancel()

    def meaning(self, error: BaseException) -> TransactionError:
        return commit_error(error)


def shutdown(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as own:
        own.shutdown(socket.SHUT_RDWR)


class TakesItForAConflict(OnPostgreSQL):
    def meaning(self, error: BaseException) -> TransactionError:
        return ConflictError("the connection was lost")


class TakesItForARefusal(OnPostgreSQL):
    def meaning(self, error: BaseException) -> TransactionError:
        return CommitError("COMMIT failed")


class LetsItOut(OnPostgreSQL):
    def commit(self, connection: psycopg.Connection) -> None:
        connection.commit()


class TakesItForSuccess(OnPostgreSQL):
    def commit(self, connection: psycopg.Connection) -> None:
        with suppress(UnknownOutcomeError):
            super().commit(connection)


def check_on_postgresql(adapter: type[OnPostgreSQL], url: str, fault: Fault) -> None:
    with psycopg.connect(url, autocommit=True) as other, proxied(url) as (proxy, through):
        other.execute("CREATE TABLE t (x INTEGER)")

        def write(connection: psycopg.Connection) -> None:
            connection.execute("INSERT INTO t VALUES (1)")

        def count() -> int:
            proxy.resume()
            row = other.execute("SELECT count(*) FROM t").fetchone()
            assert row is not None
            return int(row[0])

        def arrange(connection: psycopg.Connection) -> None:
            proxy.when(b"COMMIT", fault, at=At.ANSWER)

        check_transaction(
            adapter(through),
            write=write,
            count=count,
            lose=arrange if fault is Fault.RESET else None,
            stall=arrange if fault is Fault.STOP else None,
        )


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.STOP])
def test_a_good_adapter_does_not_know(postgresql_url: str, fault: Fault) -> None:
    """An adapter that says so when COMMIT was not answered is not complained about."""
    check_on_postgresql(OnPostgreSQL, postgresql_url, fault)


@pytest.mark.parametrize(
    ("bad", "fault", "complaint"),
    [
        (TakesItForAConflict, Fault.RESET, "connection is lost is reported as Conflict.* stored"),
        (TakesItForARefusal, Fault.STOP, "not answered in time is reported as Commit.* stored"),
        (LetsItOut, Fault.RESET, "connection is lost is reported as OperationalError"),
        (TakesItForSuccess, Fault.STOP, "not answered in time is reported as None"),
    ],
)
def test_adapters_that_claim_to_know_are_found(
    postgresql_url: str, bad: type[OnPostgreSQL], fault: Fault, complaint: str
) -> None:
    """Whatever an adapter makes of a COMMIT without an answer, it is named."""
    with pytest.raises(AssertionError, match=complaint):
        check_on_postgresql(bad, postgresql_url, fault)
