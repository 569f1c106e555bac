"""
The oracle: what a handler does alone is what it does in a test that is rolled back.

Each handler of the oracle of libraries runs alone, and in a test. Its reply is the same, and so are
the rows that it leaves, as the test's own transaction has them; nobody else sees them, and at the
test's end they are gone. What is refused in a batch is refused in a test.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pymysql
import pytest

from atomicbatch.guard.watch import aside
from atomicbatch.testing.scopes import Scopes
from atomicbatch.transactions.nested.layers import Layer
from tests.transactions.drivers.files import Store
from tests.transactions.drivers.libraries import LIBRARIES, Handler, Library
from tests.transactions.drivers.test_oracle import CASES

# Libraries leave connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

assert CASES  # which registers the libraries
# What the transaction has: one text, which all drivers can ask for.
ROWS = {
    "sqlite": "SELECT json_group_array(json_array(name, n)) FROM item",
    "postgresql": "SELECT json_agg(json_build_array(name, n))::text FROM item",
    "mariadb": "SELECT JSON_ARRAYAGG(JSON_ARRAY(name, n)) FROM item",
}
# They change the table, which nobody else can look at until the test is over.
LOCKING = ("schema_changed", "schema_changes", "left_cursor")
# A test rolls back at once what a batch rolls back at the end of the call, when it is too late.
NOT_REFUSED = ("forgotten",)
# Its names are in other characters, which JSON has not.
NOT_ASKED = ("texts_of_its_session",)


def some(handlers: list[Handler]) -> list[Handler]:
    """One that writes, one that catches an error, and one that is refused."""
    caught = [one for one in handlers if one.name.startswith("caught")]
    refused = [one for one in handlers if one.because]
    chosen = [*handlers[:1], *caught[:1], *refused[:1]]
    return list({one.name: one for one in chosen}.values())


def cases() -> list[Any]:
    few = [pytest.param(one, some(one.handlers), id=one.name) for one in LIBRARIES]
    every = [
        pytest.param(one, one.handlers, id=f"{one.name}-all", marks=pytest.mark.prove)
        for one in LIBRARIES
    ]
    return few + every


@pytest.mark.parametrize(("library", "handlers"), cases())
def test_alone_and_in_a_test(library: Library, handlers: list[Handler], store: Store) -> None:
    """A handler's reply and rows are the same in a test, and gone at its end."""

    async def go() -> dict[str, str]:
        failed = {}
        async with library.open(store) as world:
            for handler in handlers:
                store.reset()
                try:
                    await check(library, world, handler, store)
                except Exception as error:
                    failed[handler.name] = f"{type(error).__name__}: {error}"
        return failed

    failed = asyncio.run(go())
    assert not failed, "\n".join(map(": ".join, failed.items()))


async def check(library: Library, world: Any, handler: Handler, store: Store) -> None:
    before = store.rows()
    alone = json.dumps(await acted(library, handler.act, world))
    rows = store.rows()
    store.reset()
    scopes = Scopes()
    layer = scopes.open("function")
    try:
        if handler.because and handler.name not in NOT_REFUSED:
            await check_refusal(library, world, handler, layer)
        else:
            assert json.dumps(await acted(library, handler.act, world)) == alone
            assert layer.problem is None
            if rows != before and handler.name not in NOT_ASKED:
                assert rows_inside(layer, store.on) == rows
        if handler.name not in LOCKING:
            with aside():
                assert store.rows() == before
    finally:
        scopes.close(layer)
    assert handler.because or layer.problem is None
    assert store.rows() == before


async def check_refusal(library: Library, world: Any, handler: Handler, layer: Layer) -> None:
    """It is refused, although nobody tells; what was stored before it is undone as well."""
    await acted(library, library.add, world, "before")
    with suppress(Exception):
        await acted(library, handler.act, world)
    assert handler.because in str(layer.problem)


async def acted(library: Library, act: Any, *args: Any) -> Any:
    """Act as an app does: in a thread, or on the event loop."""
    if library.is_async:
        return await act(*args)
    return await asyncio.to_thread(act, *args)


def rows_inside(layer: Layer, on: str) -> list[tuple[str, int]]:
    """The rows as the layer's transaction has them."""
    (real,) = (one for one in layer.begun if one.transaction.is_open)
    with aside():
        if on == "sqlite":
            real.likeness.drop_hooks()  # those of whoever was last
            text = real.connection.execute(ROWS[on]).fetchone()[0]
        else:
            text = real.kind.driver.ask(real.wire, ROWS[on])
            if real.kind.is_async:
                text = layer.wires.run(text)
    return sorted((str(name), int(n)) for name, n in json.loads(text) or ())


# Connections that are dropped -------------------------------------------------------------------

INSERT, COUNT = "INSERT INTO item (name) VALUES ('{}')", "SELECT count(*) FROM item"


def drops_sqlite3(store: Any) -> Any:
    connection = sqlite3.connect(store.path)
    connection.execute(INSERT.format("dropped"))
    del connection
    gc.collect()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(INSERT.format("kept"))
        return connection.execute(COUNT).fetchone()


def drops_by(connect: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def drops(store: Any) -> Any:
        connection = connect(store)
        connection.cursor().execute(INSERT.format("dropped"))
        del connection
        gc.collect()
        with closing(connect(store)) as connection:
            cursor = connection.cursor()
            cursor.execute(INSERT.format("kept"))
            connection.commit()
            cursor.execute(COUNT)
            return cursor.fetchone()

    return drops


async def drops_asyncpg(store: Any) -> Any:
    connection = await asyncpg.connect(store.url)
    await connection.execute("BEGIN")
    await connection.execute(INSERT.format("dropped"))
    del connection
    gc.collect()
    connection = await asyncpg.connect(store.url)
    await connection.execute(INSERT.format("kept"))
    found = await connection.fetchval(COUNT)
    await connection.close()
    return found


async def drops_psycopg(store: Any) -> Any:
    connection = await psycopg.AsyncConnection.connect(store.url)
    await connection.execute(INSERT.format("dropped"))
    del connection
    gc.collect()
    async with await psycopg.AsyncConnection.connect(store.url) as connection:
        await connection.execute(INSERT.format("kept"))
        return await (await connection.execute(COUNT)).fetchone()


# Those of aiomysql and asyncmy are kept by the event loop.
DROPPING = {
    "sqlite3": drops_sqlite3,
    "psycopg": drops_by(lambda store: psycopg.connect(store.url)),
    "psycopg2": drops_by(lambda store: psycopg2.connect(store.url)),
    "pymysql": drops_by(lambda store: pymysql.connect(**store.parameters, ssl_disabled=True)),
    "asyncpg": drops_asyncpg,
    "psycopg-async": drops_psycopg,
}


@pytest.mark.parametrize(
    ("library", "act"),
    [
        pytest.param(next(one for one in LIBRARIES if one.driver == driver), act, id=driver)
        for driver, act in DROPPING.items()
    ],
)
def test_a_connection_that_is_dropped(library: Library, act: Any, store: Store) -> None:
    """What it has not committed is undone as soon as it is gone, as the database does it."""

    async def go() -> None:
        await check(library, store, Handler(act), store)

    asyncio.run(go())
    assert len(store.rows()) == 2
