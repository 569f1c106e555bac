"""The example programs do what their texts say, started and asked as a newcomer would."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.examples.running import Program, running

pytestmark = pytest.mark.slow


def rows(path: Path, query: str) -> list[Any]:
    """What is stored in an SQLite file, as another program sees it."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def printed_after_the_batch(log: list[str], start: str) -> list[str]:
    """The lines that start so; all of them after the one response to a batch that came before."""
    answered = next(i for i, line in enumerate(log) if '"POST /v1/api/batch HTTP/1.1" 200' in line)
    assert not [line for line in log[:answered] if line.startswith(start)]
    return [line for line in log[answered:] if line.startswith(start)]


# fastapi-shop ----------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Program]:
    with running("fastapi-shop", tmp_path) as program:
        yield program


def test_the_shop_takes_all_orders_of_a_batch(shop: Program, tmp_path: Path) -> None:
    """The committing file stores its orders, and the mails are sent once, after COMMIT."""
    status, output = shop.send("order.http")
    assert (status, output[-1]) == (0, "committed")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM product") == [("ASSAM", 2)]
    assert rows(stored, 'SELECT id, email FROM "order" ORDER BY id') == [
        (1, "ada@example.org"),
        (2, "grace@example.org"),
    ]
    assert rows(stored, "SELECT order_id, quantity FROM line ORDER BY id") == [(1, 2), (2, 1)]
    assert printed_after_the_batch(shop.stop(), "mail") == [
        "mail to ada@example.org: We have your order 1.",
        "mail to grace@example.org: We have your order 2.",
    ]


def test_the_shop_keeps_nothing_of_a_batch_that_wants_too_much(
    shop: Program, tmp_path: Path
) -> None:
    """The failing file stores no order, takes nothing from the stock, and no mail is sent."""
    shop.ask("PUT", "/products/ASSAM", {"name": "Assam", "price_cents": 450, "stock": 2})
    status, output = shop.send("too-many.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM product") == [("ASSAM", 2)]
    assert rows(stored, 'SELECT id FROM "order"') == rows(stored, "SELECT id FROM line") == []
    assert printed_after_the_batch(shop.stop(), "mail") == []


def test_the_shop_answers_plain_requests_as_before(shop: Program, tmp_path: Path) -> None:
    """Outside of batches an order is stored and its mail sent; too large a one answers 409."""
    shop.ask("PUT", "/products/ASSAM", {"name": "Assam", "price_cents": 450, "stock": 2})
    order = {"email": "ada@example.org", "lines": [{"sku": "ASSAM", "quantity": 2}]}
    assert shop.ask("POST", "/orders", order, 201) == {"id": 1}
    assert "no 2 of ASSAM" in shop.ask("POST", "/orders", order, 409)["detail"]
    assert shop.ask("GET", "/products/ASSAM")["stock"] == 0
    assert rows(tmp_path / "shop.sqlite", 'SELECT id FROM "order"') == [(1,)]
    mails = [line for line in shop.stop() if line.startswith("mail")]
    assert mails == ["mail to ada@example.org: We have your order 1."]


# sqlite-notes ----------------------------------------------------------------------------------


@pytest.fixture
def notes_of_sqlite(tmp_path: Path) -> Iterator[Program]:
    with running("sqlite-notes", tmp_path) as program:
        yield program


def test_sqlite3_and_peewee_in_one_batch(notes_of_sqlite: Program, tmp_path: Path) -> None:
    """The committing file stores all, the failing one nothing."""
    status, output = notes_of_sqlite.send("notes.http")
    assert (status, output[-1]) == (0, "committed")
    stored = tmp_path / "notes.sqlite"
    titles = [("Buy tea",), ("Mend the bicycle",)]
    assert rows(stored, "SELECT title FROM note ORDER BY title") == titles
    assert rows(stored, "SELECT name FROM tag") == [("shopping",)]
    status, output = notes_of_sqlite.send("no-such-note.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=404")
    assert rows(stored, "SELECT title FROM note ORDER BY title") == titles


# fastapi-ledger --------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path, postgresql_url: str) -> Iterator[Program]:
    url = postgresql_url.replace("postgresql:", "postgresql+asyncpg:")
    with running("fastapi-ledger", tmp_path, DATABASE_URL=url) as program:
        yield program


@pytest.fixture
def books(postgresql_url: str) -> Iterator[psycopg.Connection]:
    """A connection of another program to the ledger's database."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        yield connection


ACCOUNTS = "SELECT name, cents FROM account ORDER BY name"
TRANSFERS = "SELECT source, target, cents FROM transfer ORDER BY id"


def test_the_ledger_stores_all_transfers_of_a_batch(
    ledger: Program, books: psycopg.Connection
) -> None:
    """The committing file stores its accounts and transfers."""
    status, output = ledger.send("payday.http")
    assert (status, output[-1]) == (0, "committed")
    assert books.execute(ACCOUNTS).fetchall() == [
        ("ada", 30000),
        ("firm", 25000),
        ("grace", 45000),
    ]
    assert books.execute(TRANSFERS).fetchall() == [
        ("firm", "ada", 30000),
        ("firm", "grace", 45000),
    ]
    # A second time the accounts exist, which is found by a constraint.
    status, output = ledger.send("payday.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=1; status=409")


def test_the_ledger_stores_no_transfer_of_a_batch_that_overdraws(
    ledger: Program, books: psycopg.Connection
) -> None:
    """The failing file moves no money, although its first transfer was possible."""
    ledger.send("payday.http")
    before = books.execute(ACCOUNTS).fetchall()
    status, output = ledger.send("overdrawn.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
    assert books.execute(ACCOUNTS).fetchall() == before
    assert len(books.execute(TRANSFERS).fetchall()) == 2


def test_the_ledger_answers_plain_requests_as_before(
    ledger: Program, books: psycopg.Connection
) -> None:
    """Outside of batches a transfer is stored, and one that overdraws answers 409."""
    for name, cents in ("ada", 100), ("grace", 0):
        ledger.ask("POST", "/accounts", {"name": name, "cents": cents}, 201)
    assert "already" in ledger.ask("POST", "/accounts", {"name": "ada", "cents": 1}, 409)["detail"]
    wanted = {"source": "ada", "target": "grace", "cents": 60}
    assert ledger.ask("POST", "/transfers", wanted, 201) == wanted
    ledger.ask("POST", "/transfers", wanted, 409)
    ledger.ask("POST", "/transfers", {**wanted, "target": "nobody"}, 404)
    assert ledger.ask("GET", "/accounts/ada") == {"name": "ada", "cents": 40}
    assert books.execute(ACCOUNTS).fetchall() == [("ada", 40), ("grace", 60)]


def test_a_batch_of_the_ledger_that_meets_a_conflict_runs_again(
    ledger: Program, books: psycopg.Connection, postgresql_url: str, tmp_path: Path
) -> None:
    """Money that arrives while a batch runs is neither lost nor paid twice."""
    ledger.send("payday.http")
    with psycopg.connect(postgresql_url) as other:
        other.execute("UPDATE account SET cents = cents + 15000 WHERE name = 'firm'")
        with ledger.sending("overdrawn.http") as sent:
            waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
            deadline = time.monotonic() + 30
            while not books.execute(waiting, (books.info.dbname,)).fetchall():
                assert time.monotonic() < deadline, "no call waits for the row"
            other.commit()
            # Now it has enough for both.
            output, _ = sent.communicate(timeout=60)
    assert (sent.returncode, output.splitlines()[-1]) == (0, "committed")
    assert books.execute(ACCOUNTS).fetchall() == [
        ("ada", 50000),
        ("firm", 0),
        ("grace", 65000),
    ]
    assert len(books.execute(TRANSFERS).fetchall()) == 4


# litestar-notes --------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Program]:
    with running("litestar-notes", tmp_path) as program:
        yield program


def test_all_notes_of_a_batch_are_written(notes: Program, tmp_path: Path) -> None:
    """The committing file stores its notes and the tag; subscribers are told once, after COMMIT."""
    status, output = notes.send("notes.http")
    assert (status, output[-1]) == (0, "committed")
    stored = tmp_path / "notes.sqlite"
    assert rows(stored, "SELECT title FROM note ORDER BY title") == [("scones",), ("shopping",)]
    assert rows(stored, "SELECT note, name FROM tag") == [("scones", "tea")]
    assert printed_after_the_batch(notes.stop(), "told") == [
        "told subscribers: new: scones",
        "told subscribers: new: shopping",
    ]


def test_no_note_of_a_batch_with_a_typing_error_is_written(notes: Program, tmp_path: Path) -> None:
    """The failing file stores neither note nor tag, and nobody is told."""
    status, output = notes.send("no-such-note.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=404")
    stored = tmp_path / "notes.sqlite"
    assert rows(stored, "SELECT title FROM note") == rows(stored, "SELECT name FROM tag") == []
    assert printed_after_the_batch(notes.stop(), "told") == []


def test_the_notes_answer_plain_requests_as_before(notes: Program, tmp_path: Path) -> None:
    """Outside of batches a note is stored and subscribers are told; a second one answers 409."""
    note = {"title": "scones", "text": "Butter."}
    assert notes.ask("POST", "/notes", note, 201) == note
    notes.ask("POST", "/notes", note, 409)
    notes.ask("POST", "/notes/scones/tags/tea", status=201)
    assert notes.ask("GET", "/notes/scones") == {**note, "tags": ["tea"]}
    assert rows(tmp_path / "notes.sqlite", "SELECT * FROM note") == [("scones", "Butter.")]
    told = [line for line in notes.stop() if line.startswith("told")]
    assert told == ["told subscribers: new: scones"]


# quart-todo ------------------------------------------------------------------------------------


@pytest.fixture
def todo(tmp_path: Path) -> Iterator[Program]:
    with running("quart-todo", tmp_path) as program:
        yield program


TODOS = "SELECT key, done FROM todo ORDER BY key"


def test_all_things_to_do_of_a_batch_are_stored(todo: Program, tmp_path: Path) -> None:
    """The committing file stores its week; what is done is praised once, after COMMIT."""
    status, output = todo.send("week.http")
    assert (status, output[-1]) == (0, "committed")
    assert rows(tmp_path / "todo.sqlite", TODOS) == [("monday", 1), ("tuesday", 0)]
    assert printed_after_the_batch(todo.stop(), "well") == ["well done: Water the plants"]


def test_nothing_is_done_by_a_batch_that_does_something_twice(
    todo: Program, tmp_path: Path
) -> None:
    """The failing file leaves tuesday to be done, and nobody is praised."""
    for key in "monday", "tuesday":
        todo.ask("PUT", f"/todos/{key}", {"text": key})
    todo.ask("POST", "/todos/monday/done")
    status, output = todo.send("done-twice.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
    assert rows(tmp_path / "todo.sqlite", TODOS) == [("monday", 1), ("tuesday", 0)]
    assert [line for line in todo.stop() if line.startswith("well")] == ["well done: monday"]


def test_the_things_to_do_answer_plain_requests_as_before(todo: Program, tmp_path: Path) -> None:
    """Outside of batches on_commit praises at once."""
    stored = {"key": "monday", "text": "Rest", "done": False}
    assert todo.ask("PUT", "/todos/monday", {"text": "Rest"}) == stored
    assert todo.ask("POST", "/todos/monday/done") == {**stored, "done": True}
    assert todo.ask("GET", "/todos") == [{**stored, "done": True}]
    assert rows(tmp_path / "todo.sqlite", TODOS) == [("monday", 1)]
    assert [line for line in todo.stop() if line.startswith("well")] == ["well done: Rest"]


# tortoise-stock --------------------------------------------------------------------------------


def test_the_stock_moves_in_all_steps_or_in_none(tmp_path: Path, postgresql_url: str) -> None:
    """By Tortoise on asyncpg: what is stored is asked by another driver."""
    url = postgresql_url.replace("postgresql://", "asyncpg://")
    with (
        running("tortoise-stock", tmp_path, DATABASE_URL=url) as program,
        psycopg.connect(postgresql_url, autocommit=True) as connection,
    ):
        status, output = program.send("move.http")
        assert (status, output[-1]) == (0, "committed")
        places = "SELECT name, crates FROM place ORDER BY name"
        assert connection.execute(places).fetchall() == [("cellar", 7), ("shop", 3)]
        status, output = program.send("too-many.http")
        assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
        assert connection.execute(places).fetchall() == [("cellar", 7), ("shop", 3)]
        assert connection.execute("SELECT count(*) FROM move").fetchone() == (2,)
        one = {"source": "cellar", "target": "shop", "crates": 7}
        assert program.ask("POST", "/moves", one, 201)["id"]
        assert connection.execute(places).fetchall() == [("cellar", 0), ("shop", 10)]


def test_the_stock_is_a_file_by_default(tmp_path: Path) -> None:
    with running("tortoise-stock", tmp_path) as program:
        assert program.send("move.http")[0] == 0
        assert program.send("too-many.http")[0] == 1
        stored = rows(tmp_path / "stock.sqlite", "SELECT name, crates FROM place ORDER BY name")
        assert stored == [("cellar", 7), ("shop", 3)]


# flask-shop ------------------------------------------------------------------------------------


@pytest.fixture
def flask_shop(tmp_path: Path) -> Iterator[Program]:
    url = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    with running("flask-shop", tmp_path, DATABASE_URL=url) as program:
        yield program


def mails(log: list[str]) -> list[str]:
    return [line for line in log if line.startswith("mail")]


def test_the_flask_shop_takes_all_orders_of_a_batch(flask_shop: Program, tmp_path: Path) -> None:
    """The committing file stores its orders, and the mails are sent once."""
    status, output = flask_shop.send("order.http")
    assert (status, output[-1]) == (0, "committed")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM product") == [("ASSAM", 2)]
    assert rows(stored, "SELECT order_id, quantity FROM line ORDER BY id") == [(1, 2), (2, 1)]
    assert mails(flask_shop.stop()) == [
        "mail to ada@example.org: We have your order 1.",
        "mail to grace@example.org: We have your order 2.",
    ]


def test_the_flask_shop_keeps_nothing_of_a_batch_that_wants_too_much(
    flask_shop: Program, tmp_path: Path
) -> None:
    """The failing file stores no order, takes nothing from the stock, and no mail is sent."""
    tea = {"name": "Assam", "price_cents": 450, "stock": 2}
    flask_shop.ask("PUT", "/products/ASSAM", tea)
    status, output = flask_shop.send("too-many.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM product") == [("ASSAM", 2)]
    assert rows(stored, 'SELECT id FROM "order"') == rows(stored, "SELECT id FROM line") == []
    assert mails(flask_shop.stop()) == []


def test_the_flask_shop_answers_plain_requests_as_before(
    flask_shop: Program, tmp_path: Path
) -> None:
    """Outside of batches an order is stored and its mail sent; too large a one answers 409."""
    tea = {"name": "Assam", "price_cents": 450, "stock": 2}
    flask_shop.ask("PUT", "/products/ASSAM", tea)
    order = {"email": "ada@example.org", "lines": [{"sku": "ASSAM", "quantity": 2}]}
    assert flask_shop.ask("POST", "/orders", order, 201) == {"id": 1}
    assert "no 2 of ASSAM" in flask_shop.ask("POST", "/orders", order, 409)["detail"]
    assert flask_shop.ask("GET", "/products/ASSAM")["stock"] == 0
    assert rows(tmp_path / "shop.sqlite", 'SELECT id FROM "order"') == [(1,)]
    assert mails(flask_shop.stop()) == ["mail to ada@example.org: We have your order 1."]


# django-shop -----------------------------------------------------------------------------------


@pytest.fixture
def django_shop(tmp_path: Path) -> Iterator[Program]:
    with running("django-shop", tmp_path) as program:
        yield program


def test_the_django_shop_takes_all_orders_of_a_batch(django_shop: Program, tmp_path: Path) -> None:
    """The committing file stores its orders, and the mails are sent once."""
    status, output = django_shop.send("order.http")
    assert (status, output[-1]) == (0, "committed")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM shop_product") == [("ASSAM", 2)]
    lines = rows(stored, "SELECT order_id, quantity FROM shop_line ORDER BY id")
    assert lines == [(1, 2), (2, 1)]
    assert mails(django_shop.stop()) == [
        "mail to ada@example.org: We have your order 1.",
        "mail to grace@example.org: We have your order 2.",
    ]


def test_the_django_shop_keeps_nothing_of_a_batch_that_wants_too_much(
    django_shop: Program, tmp_path: Path
) -> None:
    """The failing file stores no order, takes nothing from the stock, and no mail is sent."""
    tea = {"name": "Assam, 100 g", "price_cents": 450, "stock": 2}
    django_shop.ask("PUT", "/products/ASSAM", tea)
    status, output = django_shop.send("too-many.http")
    assert (status, output[-1]) == (1, "rolled-back; failed=2; status=409")
    stored = tmp_path / "shop.sqlite"
    assert rows(stored, "SELECT sku, stock FROM shop_product") == [("ASSAM", 2)]
    assert (
        rows(stored, "SELECT id FROM shop_order") == rows(stored, "SELECT id FROM shop_line") == []
    )
    assert mails(django_shop.stop()) == []


def test_the_django_shop_answers_plain_requests_as_before(
    django_shop: Program, tmp_path: Path
) -> None:
    """Outside of batches an order is stored and its mail sent; too large a one answers 409."""
    tea = {"name": "Assam, 100 g", "price_cents": 450, "stock": 2}
    django_shop.ask("PUT", "/products/ASSAM", tea)
    order = {"email": "ada@example.org", "lines": [{"sku": "ASSAM", "quantity": 2}]}
    assert django_shop.ask("POST", "/orders", order, 201) == {"id": 1}
    assert "no 2 of ASSAM" in django_shop.ask("POST", "/orders", order, 409)["detail"]
    assert django_shop.ask("GET", "/products/ASSAM")["stock"] == 0
    assert rows(tmp_path / "shop.sqlite", "SELECT id FROM shop_order") == [(1,)]
    assert mails(django_shop.stop()) == ["mail to ada@example.org: We have your order 1."]
