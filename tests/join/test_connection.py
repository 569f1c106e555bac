"""The batch's one connection: its health, and what an error on it means."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from atomicbatch.errors import BrokenTransactionError, BusyError, ConflictError, NotBatchableError
from atomicbatch.join.connection import Connection, begin_error
from atomicbatch.join.status import Health, Status
from atomicbatch.sql.kinds import Family
from tests.join.links import SQLiteLink


def test_the_worst_counts_whatever_comes_later() -> None:
    """A connection that was cut off is not as good as one that was interrupted."""
    connection = Connection(Family.POSTGRESQL, Status())
    connection.worsen(Health.SEVERED)
    connection.worsen(Health.INTERRUPTED)
    assert connection.health is Health.SEVERED


@pytest.mark.parametrize(
    ("family", "is_reusable"),
    [(Family.SQLITE, True), (Family.POSTGRESQL, False), (Family.MYSQL, False)],
)
def test_who_was_interrupted_may_be_again(family: Family, is_reusable: bool) -> None:
    """A request to a server may arrive late, and would hit whoever has the connection next."""
    connection = Connection(family, Status())
    assert connection.is_reusable
    connection.worsen(Health.INTERRUPTED)
    assert connection.is_reusable is is_reusable


def test_a_savepoint_that_fails_dooms_the_batch(tmp_path: Path) -> None:
    """It is not the handler's error, and nobody may go on after it."""
    link = SQLiteLink(tmp_path / "a.sqlite")
    with pytest.raises(BrokenTransactionError) as found:
        link.run(link.transaction.connection.send(["nonsense"]))
    assert link.status.error is found.value
    assert not found.value.may_be_stored
    link.connection.close()


def test_a_savepoint_that_is_gone_may_mean_that_something_is_stored(tmp_path: Path) -> None:
    """Somebody has ended the transaction, perhaps by COMMIT."""
    link = SQLiteLink(tmp_path / "a.sqlite")
    with pytest.raises(BrokenTransactionError) as found:
        link.run(link.transaction.connection.send(["RELEASE SAVEPOINT ab_9"]))
    assert found.value.may_be_stored
    assert link.status.has_escaped
    link.connection.close()


def test_a_statement_that_ends_the_transaction_dooms_the_batch(tmp_path: Path) -> None:
    """ON CONFLICT ROLLBACK leaves no transaction, in which the next statement would commit."""
    link = SQLiteLink(tmp_path / "a.sqlite")
    link.connection.execute("CREATE TABLE t (n UNIQUE ON CONFLICT ROLLBACK)")
    link.connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError) as error:
        link.connection.execute("INSERT INTO t VALUES (1)")
    link.transaction.connection.note_failure(error.value)
    assert isinstance(link.status.error, BrokenTransactionError)
    link.connection.close()


def test_what_an_error_of_begin_means() -> None:
    """A conflict runs the batch again; our own errors are what they are; the rest is busy."""
    ours = NotBatchableError("no such database")
    assert begin_error(ours) is ours
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    assert isinstance(begin_error(busy), ConflictError)
    assert isinstance(begin_error(OSError("no more files")), BusyError)
