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
    assert shop.ask("POST", "/orders", order, 201) == {"id": 1, "email": "ada@example.org"}
    assert "no 2 of ASSAM" in shop.ask("POST", "/orders", order, 409)["detail"]
    assert shop.ask("GET", "/products/ASSAM")["stock"] == 0
    assert rows(tmp_path / "shop.sqlite", 'SELECT id FROM "order"') == [(1,)]
    mails = [line for line in shop.stop() if line.startswith("mail")]
    assert mails == ["mail to ada@example.org: We have your order 1."]


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
