"""The example programs do what their texts say, started and asked as a newcomer would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

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
