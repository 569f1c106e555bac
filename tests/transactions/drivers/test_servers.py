"""What the oracle looks at servers with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pymysql
import pytest

from tests.transactions.drivers.servers import MariaDB, PostgreSQL, Server, made

KINDS = {
    "postgresql": (PostgreSQL, lambda store: psycopg.connect(store.url)),
    "mariadb": (MariaDB, lambda store: pymysql.connect(**store.parameters, ssl_disabled=True)),
}


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Callable[[Server], Any]]]:
    kind, connect = KINDS[request.param]
    server = request.getfixturevalue(f"{request.param}_server")
    name = f"looked_at_{request.getfixturevalue('worker_name')}"
    with made(kind, server, name) as store:
        yield store, connect


def test_it_sees_what_is_stored(case: tuple[Server, Callable[[Server], Any]]) -> None:
    """Rows count once they are committed; an open transaction is seen; a reset gives ids anew."""
    store, connect = case
    with closing(connect(store)) as connection:
        cursor = connection.cursor()
        for _ in range(2):
            store.reset()
            seed = store.rows()
            assert seed == [("one", 10), ("two", 20)]
            cursor.execute("INSERT INTO item (name, n) VALUES ('new', 1)")
            assert store.rows() == seed
            assert is_seen_open(store)
            connection.commit()
            assert store.rows() == sorted([*seed, ("new", 1)])
            assert asyncio.run(store.comes_to_rest())
            assert store.run("SELECT id FROM item WHERE name = 'new'") == [(3,)]


def is_seen_open(store: Server, seconds: float = 10) -> bool:
    """Others may have asked a moment ago, and MariaDB tells the same to all who ask soon after."""
    end = time.monotonic() + seconds
    while not (seen := store.left_open()) and time.monotonic() < end:
        pass
    return len(seen) == 1
