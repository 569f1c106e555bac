"""Several libraries, or several drivers, in one batch; and one library before, in and after it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import ask, call
from tests.transactions.drivers.files import Store
from tests.transactions.drivers.libraries import LIBRARIES, Library
from tests.transactions.drivers.servers import Server
from tests.transactions.drivers.test_oracle import app_of, ask_plainly

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
Stores = Callable[[str], Store]
# One way of each; on SQLite the two drivers are one.
_MIXED = {
    "sqlite3": ("peewee", "sqlite3", "sqlmodel-sqlite3", "databases", "sqlmodel-aiosqlite"),
    "sqlite3 with foreign keys": ("peewee-pragmas", "pony", "tortoise"),
    "psycopg": ("peewee-psycopg", "sqlmodel-psycopg", "psycopg-pool"),
    "psycopg-async": ("tortoise-psycopg-async", "sqlmodel-psycopg-async"),
    "psycopg2": ("peewee-psycopg2", "pony-psycopg2", "sqlmodel-psycopg2"),
    "asyncpg": ("databases-asyncpg", "piccolo-asyncpg", "tortoise-asyncpg", "sqlmodel-asyncpg"),
    "pymysql": ("pony-pymysql", "sqlmodel-pymysql"),
    "mysqlclient": ("pony-mysqlclient", "sqlmodel-mysqlclient"),
    "aiomysql": ("databases-aiomysql", "tortoise-aiomysql"),
    "asyncmy": ("databases-asyncmy", "tortoise-asyncmy"),
}
BY_NAME = {one.name: one for one in LIBRARIES}


async def app_of_several(libraries: list[Library], store: Store, stack: AsyncExitStack) -> FastAPI:
    """An app in which each library has its own path, and ``/fail`` fails."""
    app = FastAPI()
    for library in libraries:
        world = await stack.enter_async_context(library.open(store))
        app.mount(f"/{library.name}", app_of(library, world, library.handlers[0]))

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    @app.post("/collect")
    async def collect() -> int:
        # Whatever is garbage in the middle of a batch goes now, with what its end does.
        return gc.collect() and 1

    return app


def adding(library: Library, name: str) -> Any:
    return call("POST", f"/{library.name}/items?name={name}")


FAIL, COLLECT = call("POST", "/fail"), call("POST", "/collect")


def can_join(*names: str) -> bool:
    """Tell whether all are here: mysqlclient is in few environments but CI's."""
    return all(name in BY_NAME for name in names)


@pytest.mark.parametrize("names", [one for one in _MIXED.values() if can_join(*one)], ids="-".join)
def test_libraries_on_one_driver(names: tuple[str, ...], stores: Stores) -> None:
    """They share the transaction, in either order: all is stored, or nothing."""
    libraries = [BY_NAME[name] for name in names]
    store = stores(libraries[0].on)

    async def go() -> None:
        async with AsyncExitStack() as stack:
            app = AtomicBatch(
                await app_of_several(libraries, store, stack), transaction=DriverTransaction()
            )
            for order in (libraries, libraries[::-1]):
                store.reset()
                # Twice, since the batch's connection has changed with each.
                calls = [adding(one, f"{n}-{one.name}") for n, one in enumerate(order + order)]
                answer = await ask(app, *calls, FAIL)
                assert answer.outcome.startswith("rolled-back"), answer.body
                assert len(store.rows()) == 2
                answer = await ask(app, *calls)
                assert answer.outcome == "committed", answer.body
                assert len(store.rows()) == 2 + 2 * len(libraries)
        assert await store.comes_to_rest()

    asyncio.run(go())


_COUNTING = [
    ("peewee-pymysql", "sqlmodel-pymysql"),
    ("peewee-mysqlclient", "sqlmodel-mysqlclient"),
    ("tortoise-asyncmy", "sqlmodel-asyncmy"),
    ("tortoise-aiomysql", "sqlmodel-aiomysql"),
]


@pytest.mark.parametrize("pair", [one for one in _COUNTING if can_join(*one)], ids="-".join)
def test_counts_of_rows_that_differ(pair: tuple[str, str], stores: Stores) -> None:
    """Pony and SQLAlchemy let MySQL count rows that were found; others, those that were changed."""
    first, second = (BY_NAME[name] for name in pair)

    async def go() -> None:
        store = stores("mariadb")
        store.reset()
        async with AsyncExitStack() as stack:
            app = AtomicBatch(
                await app_of_several([first, second], store, stack), transaction=DriverTransaction()
            )
            answer = await ask(app, adding(first, "a"), adding(second, "b"))
            assert answer.outcome.startswith("rolled-back; failed=2; status=501"), answer.body
            assert "client_flag (FOUND_ROWS" in json.loads(answer.replies[1].body)["detail"]
            assert len(store.rows()) == 2

    asyncio.run(go())


_PAIRS = [
    ("psycopg-pool", "sqlmodel-psycopg-async"),
    ("psycopg-pool", "sqlmodel-asyncpg"),
    ("sqlmodel-asyncpg", "sqlmodel-psycopg2"),
    ("sqlmodel-psycopg2", "psycopg-pool"),
    ("sqlmodel-pymysql", "sqlmodel-asyncmy"),
    ("sqlmodel-aiomysql", "sqlmodel-asyncmy"),
    ("sqlmodel-pymysql", "sqlmodel-aiomysql"),
    ("sqlmodel-mysqlclient", "sqlmodel-asyncmy"),
    ("sqlmodel-mysqlclient", "sqlmodel-pymysql"),
]


@pytest.mark.parametrize("pair", [one for one in _PAIRS if can_join(*one)], ids="-beside-".join)
def test_two_drivers_on_one_database(pair: tuple[str, str], stores: Stores) -> None:
    """The second is refused at its first statement; it would wait for the first one's row."""

    async def go(first: Library, second: Library) -> None:
        store = stores(first.on)
        store.reset()
        async with AsyncExitStack() as stack:
            app = AtomicBatch(
                await app_of_several([first, second], store, stack), transaction=DriverTransaction()
            )
            answer = await ask(app, adding(first, "same"), adding(second, "same"))
            assert answer.outcome.startswith("rolled-back; failed=2; status=501"), answer.body
            why = json.loads(answer.replies[1].body)["detail"]
            name = store.database if isinstance(store, Server) else ""
            assert f"the database {name} is open in this batch by" in why
            assert "use one driver for one database" in why
            assert len(store.rows()) == 2
        assert await store.comes_to_rest()

    first, second = (BY_NAME[name] for name in pair)
    asyncio.run(go(first, second))
    asyncio.run(go(second, first))


ONE_WAY = [
    one
    for one in LIBRARIES
    if not one.early and not any(word in one.name for word in ("on-the-loop", "pool-of-one"))
]


@pytest.mark.parametrize("library", ONE_WAY, ids=lambda one: one.name)
def test_what_a_library_keeps(library: Library, store: Store) -> None:
    """
    Statements that are prepared or cached are good on either side of a batch's borders.

    Drivers prepare what has been sent a few times. Inside, everything is collected that can be.
    """

    async def go() -> None:
        async with AsyncExitStack() as stack:
            plain = await app_of_several([library], store, stack)
            app = AtomicBatch(plain, transaction=DriverTransaction())

            async def plainly(first: str) -> None:
                for number in range(7):
                    answer = await ask_plainly(app, adding(library, f"{first}{number}"))
                    assert answer.status == 201, answer.body

            await plainly("a")
            inside = [adding(library, f"b{number}") for number in range(7)]
            assert (await ask(app, *inside, COLLECT, FAIL)).outcome.startswith("rolled-back")
            answer = await ask(app, *inside[:3], COLLECT, *inside[3:])
            assert answer.outcome == "committed", answer.body
            await plainly("c")
            store.run("ALTER TABLE item ADD COLUMN more INTEGER")
            try:
                await plainly("d")
                answer = await ask(app, *(adding(library, f"e{number}") for number in range(3)))
                assert answer.outcome == "committed", answer.body
                await plainly("f")
            finally:
                store.run("ALTER TABLE item DROP COLUMN more")
            assert len(store.rows()) == 2 + 5 * 7 + 3
        assert await store.comes_to_rest()

    asyncio.run(go())
