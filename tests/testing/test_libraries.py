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
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from atomicbatch.guard.watch import aside
from atomicbatch.testing.scopes import Scopes
from atomicbatch.transactions.nested.layers import Layer
from tests.testing.shops import DRIVERS
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
# And the statement that is cancelled there is only stopped here.
NOT_REFUSED = ("forgotten", "given_up")
# Its names are in other characters, which JSON has not.
NOT_ASKED = ("texts_of_its_session",)


def some(handlers: list[Handler]) -> list[Handler]:
    """One that writes, one that catches an error, one that defers it, and one that is refused."""
    known = [
        next((one for one in handlers if chosen(one)), None)
        for chosen in (
            lambda _: True,
            lambda one: one.name.startswith("caught"),
            lambda one: one.name == "deferred_and_violated",
            lambda one: one.because,
        )
    ]
    return list({one.name: one for one in known if one is not None}.values())


def cases() -> list[Any]:
    """Of each library on each driver one way to open it and a few handlers; the rest is proved."""
    first = {(one.name.partition("-")[0], one.driver): one for one in reversed(LIBRARIES)}
    few = [
        pytest.param(one, some(one.handlers), True, id=one.name)
        for one in LIBRARIES
        if one in first.values()
    ]
    every = [
        pytest.param(
            one,
            one.handlers,
            is_inside,
            id=f"{one.name}-all{'-inside' if is_inside else ''}",
            marks=pytest.mark.prove,
        )
        for one in LIBRARIES
        for is_inside in (True, False)
    ]
    return few + every


@pytest.mark.parametrize(("library", "handlers", "is_inside"), cases())
def test_alone_and_in_a_test(
    library: Library, handlers: list[Handler], is_inside: bool, store: Store
) -> None:
    """A handler's reply and rows are the same in a test, and gone at its end."""

    async def go() -> dict[str, str]:
        failed = {}
        async with library.open(store) as world:
            for handler in handlers:
                store.reset()
                try:
                    await check(library, world, handler, store, is_inside=is_inside)
                except Exception as error:
                    failed[handler.name] = f"{type(error).__name__}: {error}"
        return failed

    failed = asyncio.run(go())
    assert not failed, "\n".join(map(": ".join, failed.items()))


async def check(
    library: Library, world: Any, handler: Handler, store: Store, *, is_inside: bool
) -> None:
    """
    Check a handler.

    Args:
        library: Its library.
        world: What that was opened as.
        handler: The handler.
        store: The database.
        is_inside: The test is inside of a module that has stored something.
    """
    before = store.rows()
    if is_inside:
        await acted(library, library.add, world, "outer")
    around = store.rows()
    alone = json.dumps(await acted(library, handler.act, world))
    rows = store.rows()
    store.reset()
    scopes = Scopes()
    module = scopes.open("module")
    try:
        if is_inside:
            await acted(library, library.add, world, "outer")
        layer = scopes.open("function")
        try:
            if handler.because and handler.name not in NOT_REFUSED:
                await check_refusal(library, world, handler, layer)
            else:
                assert json.dumps(await acted(library, handler.act, world)) == alone
                assert layer.problem is None
                if rows != around and handler.name not in NOT_ASKED:
                    assert rows_inside(layer, store.on) == rows
            if handler.name not in LOCKING:
                with aside():
                    assert store.rows() == before
        finally:
            scopes.close(layer)
        assert handler.because or layer.problem is None
        if is_inside and handler.name not in NOT_ASKED:
            assert rows_inside(module, store.on) == around
    finally:
        scopes.close(module)
    assert module.problem is None
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
            of_the_last = real.connection.text_factory
            real.connection.text_factory = str
            text = real.connection.execute(ROWS[on]).fetchone()[0]
            real.connection.text_factory = of_the_last
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
        # Who only reads does not see it either.
        seen = connection.execute(COUNT).fetchone()
        connection.execute(INSERT.format("kept"))
        return [seen, connection.execute(COUNT).fetchone()]


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
        await check(library, store, Handler(act), store, is_inside=False)

    asyncio.run(go())
    assert len(store.rows()) == 2


# Statements that are cancelled --------------------------------------------------------------------

SLEEP = {"postgresql": "SELECT pg_sleep(30)", "mariadb": "SELECT SLEEP(30)"}
FOR_A_MOMENT = {"postgresql": "SELECT pg_sleep(0.3)", "mariadb": "SELECT SLEEP(0.3)"}


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(next(one for one in LIBRARIES if one.driver == driver), id=driver)
        for driver in ("asyncpg", "psycopg-async", "aiomysql", "asyncmy")
    ],
)
def test_a_statement_that_is_cancelled(library: Library, store: Any) -> None:
    """It is stopped in the server, and what the test and its module have stored is still there."""
    engine = create_async_engine(store.url_of(DRIVERS[library.driver]), poolclass=NullPool)

    async def run(*texts: str) -> Any:
        async with engine.begin() as connection:
            for text in texts:
                answer = await connection.execute(sa.text(text))
        return answer

    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run(INSERT.format("undone"), SLEEP[store.on]), 0.3)

    async def cancel_who_waits() -> None:
        works = asyncio.create_task(run(INSERT.format("whole"), FOR_A_MOMENT[store.on]))
        await asyncio.sleep(0.1)
        waits = asyncio.create_task(run(INSERT.format("never")))
        await asyncio.sleep(0.1)
        waits.cancel()
        await works
        assert waits.cancelled()

    async def go() -> None:
        scopes = Scopes()
        module = scopes.open("module")
        try:
            await run(INSERT.format("outer"))
            layer = scopes.open("function")
            await run(INSERT.format("inner"))
            await cancel()
            await run(INSERT.format("after"))
            await cancel_who_waits()
            names = [name for name, _ in rows_inside(layer, store.on)]
            assert names == ["after", "inner", "one", "outer", "two", "whole"]
            scopes.close(layer)
            assert layer.problem is None
            assert [name for name, _ in rows_inside(module, store.on)] == ["one", "outer", "two"]
        finally:
            scopes.close(module)
        assert module.problem is None

    asyncio.run(go())
    assert len(store.rows()) == 2
