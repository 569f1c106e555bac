"""A checkout, on a connection of sqlite3 itself: no library between the handler and the driver."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomicbatch.errors import BrokenTransactionError, NotBatchableError, TransactionError
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.status import Phase
from tests.join.links import SQLiteLink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE items (name TEXT UNIQUE)")
    connection.close()
    return path


@pytest.fixture
def link(path: Path) -> Iterator[SQLiteLink]:
    link = SQLiteLink(path)
    yield link
    link.connection.close()


def names(link: SQLiteLink) -> list[str]:
    return [name for (name,) in link.connection.execute("SELECT name FROM items ORDER BY name")]


def test_a_commit_is_kept_in_the_batch_and_a_rollback_undoes_its_own(link: SQLiteLink) -> None:
    """What two sessions do after one another is savepoints; the database sees one transaction."""
    one, other = Checkout(link.transaction), Checkout(link.transaction)
    link.execute(one, "INSERT INTO items VALUES ('kept')")
    link.run(one.commit())
    link.execute(other, "INSERT INTO items VALUES ('undone')")
    assert names(link) == ["kept", "undone"]
    link.run(other.rollback())
    assert names(link) == ["kept"]
    assert link.connection.in_transaction
    assert link.sent == [
        "SAVEPOINT ab_0",
        "SAVEPOINT ab_1",
        "RELEASE SAVEPOINT ab_1",
        "SAVEPOINT ab_1",
        "ROLLBACK TO SAVEPOINT ab_1",
    ]


def test_control_statements_are_not_sent(link: SQLiteLink) -> None:
    """BEGIN, COMMIT and ROLLBACK by SQL are the checkout's own; their result is that of nothing."""
    checkout = Checkout(link.transaction)
    assert link.execute(checkout, "BEGIN") is None
    link.execute(checkout, "INSERT INTO items VALUES ('a')")
    assert checkout.in_transaction()
    assert link.execute(checkout, "ROLLBACK") is None
    assert not checkout.in_transaction()
    assert names(link) == []


def test_reading_needs_no_savepoint(link: SQLiteLink) -> None:
    """A SELECT sends nothing of ours."""
    checkout = Checkout(link.transaction)
    assert link.execute(checkout, "SELECT 1") == [(1,)]
    assert link.sent == ["SAVEPOINT ab_0"]


def test_a_failed_statement_is_the_handlers_business(link: SQLiteLink) -> None:
    """The driver's own error gets out; the session rolls back and goes on."""
    checkout = Checkout(link.transaction)
    link.execute(checkout, "INSERT INTO items VALUES ('a')")
    link.run(checkout.commit())
    with pytest.raises(sqlite3.IntegrityError):
        link.execute(checkout, "INSERT INTO items VALUES ('a')")
    link.run(checkout.rollback())
    link.execute(checkout, "INSERT INTO items VALUES ('b')")
    link.run(checkout.commit())
    assert names(link) == ["a", "b"]
    assert link.status.error is None


def test_a_transaction_that_was_ended_behind_our_back_dooms_the_batch(link: SQLiteLink) -> None:
    """What a handler has committed past us may be stored: no later statement passes."""
    checkout = Checkout(link.transaction)
    link.execute(checkout, "INSERT INTO items VALUES ('escaped')")
    link.connection.execute("COMMIT")
    with pytest.raises(BrokenTransactionError):
        link.execute(checkout, "INSERT INTO items VALUES ('later')")
    assert link.status.has_escaped
    assert names(link) == ["escaped"]


def test_what_cannot_be_part_of_a_batch_is_refused_before_it_is_sent(link: SQLiteLink) -> None:
    """A refusal dooms the batch, also where the handler swallows it."""
    checkout = Checkout(link.transaction)
    with pytest.raises(NotBatchableError, match="refuses inside a transaction"):
        link.execute(checkout, "VACUUM")
    with pytest.raises(NotBatchableError, match="refuses inside a transaction"):
        link.execute(checkout, "SELECT 1")


def test_a_session_does_not_outlive_its_call(link: SQLiteLink) -> None:
    """One that was closed by the end of its call is refused; after the batch nothing is left."""
    checkout = Checkout(link.transaction)
    link.execute(checkout, "INSERT INTO items VALUES ('a')")
    link.run(checkout.close())
    assert names(link) == []
    link.status.phase = Phase.ENDED
    with pytest.raises(TransactionError, match="over"):
        link.execute(checkout, "SELECT 1")
    link.status.phase = Phase.RUNNING
    with pytest.raises(NotBatchableError, match="outlives"):
        link.execute(checkout, "SELECT 1")


def shortly(link: SQLiteLink, checkout: Checkout, sql: str) -> object:
    """What a shell does that knows the short way."""
    texts = checkout.make_ready(sql)
    if texts is None:
        return link.execute(checkout, sql)
    virtual = checkout.virtual
    assert virtual is not None
    link.send(texts)
    try:
        return link.connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        link.transaction.note_failure(virtual, error)
        raise


ACTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            [
                "INSERT INTO items VALUES (abs(random()) || '')",
                "INSERT INTO items VALUES ('same')",
                "SELECT name FROM items WHERE name = 'same'",
                "DELETE FROM items",
                "SAVEPOINT mine",
                "ROLLBACK TO mine",
                "RELEASE mine",
                "CREATE TABLE IF NOT EXISTS other (x)",
                "PRAGMA foreign_keys = 1",
                "commit",
                "rollback",
                "auto",
                "read only",
            ]
        ),
    ),
    max_size=12,
)


@pytest.mark.parametrize("examples", [50, pytest.param(1000, marks=pytest.mark.prove)])
def test_the_short_way_leads_to_the_same_place(
    examples: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Statements, commits and rollbacks: what is sent, what is answered, and what is refused."""

    @settings(max_examples=examples, deadline=None)
    @given(acts=ACTS)
    def check(acts: list[tuple[int, str]]) -> None:
        found = []
        for short in (False, True):
            path = tmp_path_factory.mktemp("short") / "shop.sqlite"
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE items (name TEXT UNIQUE)")
            link = SQLiteLink(path)
            link.transaction.begins_lazily = True
            sessions = [Checkout(link.transaction) for _ in range(3)]
            said: list[object] = []
            for number, act in acts:
                checkout = sessions[number]
                try:
                    if act == "commit":
                        if checkout.is_idle() or not (short and checkout.commit_at_once()):
                            link.run(checkout.commit())
                    elif act == "rollback":
                        if not (short and checkout.rollback_at_once()):
                            link.run(checkout.rollback())
                    elif act == "auto":
                        link.run(checkout.set_auto(not checkout.auto))
                    elif act == "read only":
                        checkout.set_read_only(True)
                    else:
                        said.append((shortly if short else SQLiteLink.execute)(link, checkout, act))
                except (sqlite3.Error, TransactionError) as error:
                    said.append(f"{type(error).__name__}: {error}")
            said.append(link.connection.execute("SELECT count(*) FROM items").fetchone())
            found.append((said, link.sent, str(link.status.error)))
            link.connection.close()
        assert found[0] == found[1]

    check()


def test_most_statements_go_the_short_way(link: SQLiteLink) -> None:
    """The others are done nothing for yet."""
    checkout = Checkout(link.transaction)
    assert checkout.make_ready("PRAGMA foreign_keys = 1") is None
    assert checkout.virtual is None
    assert checkout.make_ready("SELECT 1") == []
    assert checkout.make_ready("INSERT INTO items VALUES ('a')") == ["SAVEPOINT ab_1"]
    assert checkout.commit_at_once()
    assert checkout.virtual is None
