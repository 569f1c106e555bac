"""The real transaction's end, on a connection of sqlite3 itself: proof, COMMIT, ROLLBACK."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.errors import (
    BrokenTransactionError,
    CommitError,
    ConflictError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.status import Health, Stage
from tests.join.links import SQLiteLink


@pytest.fixture
def link(tmp_path: Path) -> Iterator[SQLiteLink]:
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.executescript(
            "CREATE TABLE items (name TEXT PRIMARY KEY);"
            "CREATE TABLE parts (item INTEGER REFERENCES items DEFERRABLE INITIALLY DEFERRED);"
        )
    link = SQLiteLink(tmp_path / "shop.sqlite")
    link.transaction.mark_open()
    yield link
    link.connection.close()


def insert(link: SQLiteLink) -> None:
    checkout = Checkout(link.transaction)
    link.execute(checkout, "INSERT INTO items VALUES ('a')")
    link.run(checkout.commit())


def stored(link: SQLiteLink) -> int:
    """What an independent connection finds."""
    (_, _, path) = link.connection.execute("PRAGMA database_list").fetchone()
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("SELECT count(*) FROM items").fetchone()[0])


def may(link: SQLiteLink) -> TransactionError | None:
    link.transaction.mark_committing()
    return None


def test_the_proof_comes_right_before_commit(link: SQLiteLink) -> None:
    """The savepoint from the first moment is released, and then COMMIT is sent."""
    insert(link)
    link.run(link.transaction.commit(lambda: may(link)))
    assert link.sent[-2:] == ["RELEASE SAVEPOINT ab_0", "COMMIT"]
    assert stored(link) == 1
    assert link.transaction.commit_sent
    link.transaction.mark_given_back()
    assert link.transaction.stage is Stage.SENT


def test_what_comes_up_in_the_last_moment_rolls_back(link: SQLiteLink) -> None:
    """COMMIT is not sent once somebody says why it must not be."""
    insert(link)
    late = TimeoutExceededError("too late")
    with pytest.raises(TimeoutExceededError) as found:
        link.run(link.transaction.commit(lambda: late))
    assert found.value is late
    assert "COMMIT" not in link.sent
    assert stored(link) == 0
    link.transaction.mark_given_back()
    assert link.transaction.stage is Stage.OVER


def test_a_transaction_that_is_another_one_is_not_committed(link: SQLiteLink) -> None:
    """A handler has ended it and begun another: the first may be stored, the second is not."""
    insert(link)
    link.connection.execute("COMMIT")
    link.connection.execute("BEGIN")
    link.connection.execute("INSERT INTO items VALUES ('b')")
    with pytest.raises(BrokenTransactionError) as found:
        link.run(link.transaction.commit(lambda: may(link)))
    assert found.value.may_be_stored
    assert stored(link) == 1


def test_a_refused_commit_is_rolled_back(link: SQLiteLink) -> None:
    """A deferred constraint fails at COMMIT: nothing is stored, and the lock is free."""
    insert(link)
    link.connection.execute("INSERT INTO parts VALUES (99)")
    with pytest.raises(CommitError):
        link.run(link.transaction.commit(lambda: may(link)))
    assert not link.connection.in_transaction
    assert stored(link) == 0


class _SilentLink(SQLiteLink):
    """Its COMMIT arrives, and its answer does not."""

    def commit(self) -> None:
        super().commit()
        raise TimeoutError


def test_an_unknown_commit_throws_the_connection_away(tmp_path: Path) -> None:
    """Nobody knows what it has come to: the connection is lost, and the outcome unknown."""
    link = _SilentLink(tmp_path / "a.sqlite")
    link.transaction.mark_open()
    with pytest.raises(UnknownOutcomeError):
        link.run(link.transaction.commit(lambda: may(link)))
    assert link.transaction.connection.health is Health.LOST
    link.connection.close()


def test_rollback_proves_that_there_is_something_to_roll_back(link: SQLiteLink) -> None:
    """If a handler has committed past us, the batch says that something may be stored."""
    insert(link)
    link.connection.execute("COMMIT")
    link.connection.execute("BEGIN")
    link.run(link.transaction.rollback())
    assert link.status.has_escaped
    assert stored(link) == 1


def test_rollback_undoes_all(link: SQLiteLink) -> None:
    """Nothing is stored, and nothing is said."""
    insert(link)
    link.run(link.transaction.rollback())
    assert stored(link) == 0
    assert link.status.error is None


def test_who_gives_way_is_not_committed_and_who_is_sealed_does_not_give_way(
    link: SQLiteLink,
) -> None:
    """Either it is undone for others, or it is committed: never both."""
    reason = ConflictError("others wait")
    assert link.transaction.give_way(reason)
    assert not link.transaction.give_way(ConflictError("others, too"))
    assert link.transaction.seal() is reason
    link.transaction.gave_way = None
    assert link.transaction.seal() is None
    assert not link.transaction.give_way(reason)


def test_a_cancelled_wait_for_a_driver_with_its_own_thread_loses_nothing(link: SQLiteLink) -> None:
    """aiosqlite's connection goes on without whoever waited for it: ROLLBACK is still sent."""
    insert(link)
    link.transaction.stays_open_when_cancelled = True
    link.transaction.connection.worsen(Health.LOST)
    link.run(link.transaction.rollback())
    assert link.sent[-1] == "ROLLBACK"
    assert link.transaction.connection.is_reusable


def test_less_isolation_than_the_batchs_is_no_problem(link: SQLiteLink) -> None:
    """More is refused, with what to do instead; SQLite has one level."""
    link.transaction.want_level("SERIALIZABLE")
    server = link.transaction
    server.family = type(server.family).POSTGRESQL
    server.level = "REPEATABLE READ"
    server.want_level("READ COMMITTED")
    with pytest.raises(NotBatchableError, match="SERIALIZABLE"):
        server.want_level("SERIALIZABLE")


class _LinkInOne(SQLiteLink):
    """What proves the transaction goes out with COMMIT."""

    def commit_after(self, texts: Sequence[str]) -> None:
        try:
            self.send(texts)
        except sqlite3.Error as error:
            raise NotReachedError from error
        self.commit()


@pytest.fixture
def in_one(tmp_path: Path) -> Iterator[_LinkInOne]:
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE items (name TEXT PRIMARY KEY)")
    link = _LinkInOne(tmp_path / "shop.sqlite")
    link.transaction.mark_open()
    link.transaction.ends_in_one = True
    yield link
    link.connection.close()


def test_the_proof_goes_out_with_commit(in_one: _LinkInOne) -> None:
    """Whether it may be sent is asked before both."""
    insert(in_one)
    sent: list[list[str]] = []

    def asked() -> TransactionError | None:
        sent.append(in_one.sent[:])
        return may(in_one)

    in_one.run(in_one.transaction.commit(asked))
    assert "RELEASE SAVEPOINT ab_0" not in sent[0]
    assert in_one.sent[-2:] == ["RELEASE SAVEPOINT ab_0", "COMMIT"]
    assert stored(in_one) == 1


def test_a_proof_that_fails_with_commit(in_one: _LinkInOne) -> None:
    """COMMIT was not run; what a handler has ended may be stored."""
    insert(in_one)
    in_one.connection.execute("COMMIT")
    in_one.connection.execute("BEGIN")
    in_one.connection.execute("INSERT INTO items VALUES ('b')")
    with pytest.raises(BrokenTransactionError) as found:
        in_one.run(in_one.transaction.commit(lambda: may(in_one)))
    assert found.value.may_be_stored
    assert in_one.sent[-1] == "ROLLBACK"
    assert stored(in_one) == 1


def test_a_commit_that_may_not_be_sent_with_its_proof(in_one: _LinkInOne) -> None:
    """It is rolled back with the proof of ROLLBACK."""
    insert(in_one)
    late = TimeoutExceededError("too late")
    with pytest.raises(TimeoutExceededError) as found:
        in_one.run(in_one.transaction.commit(lambda: late))
    assert found.value is late
    assert in_one.sent[-2:] == ["ROLLBACK TO SAVEPOINT ab_0", "ROLLBACK"]
    assert stored(in_one) == 0


def test_that_something_is_stored_counts_more_than_why_commit_may_not_be_sent(
    in_one: _LinkInOne,
) -> None:
    """A handler has ended the transaction, and then time was up."""
    insert(in_one)
    in_one.connection.execute("COMMIT")
    in_one.connection.execute("BEGIN")
    with pytest.raises(BrokenTransactionError) as found:
        in_one.run(in_one.transaction.commit(lambda: TimeoutExceededError("too late")))
    assert found.value.may_be_stored
    assert in_one.status.has_escaped
    assert stored(in_one) == 1
