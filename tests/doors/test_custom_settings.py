"""Row level security shows a batch the rows that it shows the app's own connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import asyncpg
import psycopg
import psycopg2
import psycopg_pool
import pytest
import sqlalchemy as sa
from psycopg import sql
from psycopg2 import sql as sql2
from sqlalchemy.ext.asyncio import create_async_engine

from atomicbatch.doors import custom_settings
from atomicbatch.doors.custom_settings import MOST_NAMES, Names, note_custom
from tests.asgi.asking import Answer
from tests.doors.in_batches import batch_of

READ = "SELECT name FROM stock ORDER BY name"
INSERT = "INSERT INTO stock (name) VALUES ('new')"
Act = Callable[[], Any]
WAYS: dict[str, Callable[[str], Any]] = {}


def way(act: Callable[[str], AsyncIterator[Act]]) -> Any:
    """One way to have a tenant, given an URL; gives what reads and inserts."""
    WAYS[act.__name__] = asynccontextmanager(act)
    return act


@pytest.fixture(scope="module")
def shop(postgresql_server: str, worker_name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A database with rows of two tenants, by the URL of who sees one's only; and a look at all."""
    name, role = f"custom_{worker_name}", f"clerk_{worker_name}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        server.execute(f"CREATE ROLE {role} LOGIN")
    with psycopg.connect(f"{postgresql_server}/{name}", autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE stock (name text, tenant text DEFAULT current_setting('shop.tenant'))"
        )
        connection.execute(f"GRANT ALL ON stock TO {role}")
        connection.execute("ALTER TABLE stock ENABLE ROW LEVEL SECURITY")
        connection.execute(
            "CREATE POLICY own ON stock USING (tenant = current_setting('shop.tenant', true))"
        )

        def look(*texts: str) -> list[Any]:
            for text in texts:
                connection.execute(text)
            return connection.execute("SELECT name, tenant FROM stock ORDER BY 2, 1").fetchall()

        yield f"{postgresql_server.replace('postgres@', f'{role}@')}/{name}", look


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What this test alone has seen."""
    names = custom_settings.seen
    monkeypatch.setattr(names, "_names", frozenset())
    monkeypatch.setattr(names, "are_too_many", False)
    return names


def _told(answer: Answer) -> list[Any]:
    return [json.loads(reply.body) for reply in answer.replies]


def _by(execute: Callable[[str], Any]) -> list[Act]:
    """What reads and what inserts."""

    def read() -> Any:
        return [name for (name,) in execute(READ)]

    def insert() -> Any:
        execute(INSERT)

    return [read, insert]


@way
async def psycopg_pool_configures(url: str) -> AsyncIterator[Any]:
    def configure(connection: Any) -> None:
        connection.execute("SET shop.tenant = 'b'")
        connection.commit()

    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=2, configure=configure) as pool:

        def execute(text: str) -> Any:
            with pool.connection() as connection:
                cursor = connection.execute(text)
                return cursor.fetchall() if cursor.description else None

        yield _by(execute)


@way
async def psycopg_composes(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier("shop", "tenant")
        connection.execute(sql.SQL("SET {} = {}").format(name, sql.Literal("b")))

        def execute(text: str) -> Any:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else None

        yield _by(execute)


async def _by_psycopg2(url: str, set_up: Callable[[Any], None]) -> AsyncIterator[Any]:
    with closing(psycopg2.connect(url)) as connection:
        with connection, connection.cursor() as cursor:
            set_up(cursor)

        def execute(text: str) -> Any:
            with connection, connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall() if cursor.description else None

        yield _by(execute)


@way
async def psycopg2_calls(url: str) -> AsyncIterator[Any]:
    async for one in _by_psycopg2(
        url, lambda cursor: cursor.callproc("set_config", ["shop.tenant", "b", False])
    ):
        yield one


@way
async def psycopg2_composes(url: str) -> AsyncIterator[Any]:
    query = sql2.SQL("SET {} = {}").format(sql2.Identifier("shop", "tenant"), sql2.Literal("b"))
    async for one in _by_psycopg2(url, lambda cursor: cursor.execute(query)):
        yield one


@way
async def psycopg2_sends_bytes(url: str) -> AsyncIterator[Any]:
    query = b"SELECT set_config(%(name)s, 'b', false)"
    async for one in _by_psycopg2(
        url, lambda cursor: cursor.execute(query, {"name": "Shop.Tenant"})
    ):
        yield one


def _async_by(execute: Callable[[str], Any], fetch: Callable[[str], Any]) -> list[Act]:
    async def read() -> Any:
        return [name for (name,) in await fetch(READ)]

    async def insert() -> Any:
        await execute(INSERT)

    return [read, insert]


@way
async def asyncpg_initialises(url: str) -> AsyncIterator[Any]:
    async def init(connection: Any) -> None:
        await connection.execute("SELECT set_config($1, 'b', false)", "shop.tenant")

    async def keep(connection: Any) -> None:
        """Unlike asyncpg's own reset, which would forget it."""

    async with asyncpg.create_pool(url, min_size=1, max_size=2, init=init, reset=keep) as pool:
        yield _async_by(pool.execute, pool.fetch)


@way
async def asyncpg_sets(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    await connection.execute("SET shop.other = 1; SET shop.tenant TO b")
    yield _async_by(connection.execute, connection.fetch)
    await connection.close()


@way
async def sqlalchemy_connects(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(url.replace("postgresql", "postgresql+asyncpg"))

    @sa.event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        """As SQLAlchemy's documentation sets search_path."""
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET shop.tenant = 'b'")
        cursor.close()
        connection.autocommit = False

    async def execute(text: str) -> Any:
        async with engine.begin() as connection:
            found = await connection.execute(sa.text(text))
            return found.all() if found.returns_rows else None

    yield _async_by(execute, execute)
    await engine.dispose()


@pytest.mark.parametrize("name", WAYS)
def test_the_tenant_is_the_batchs_as_well(name: str, shop: Any) -> None:
    url, look = shop
    look("DELETE FROM stock", "INSERT INTO stock VALUES ('pear', 'a'), ('plum', 'b')")

    async def go() -> None:
        async with WAYS[name](url) as (read, insert):
            answer = await batch_of(read, insert, read)
            assert _told(answer) == [["plum"], None, ["new", "plum"]]

    asyncio.run(go())
    assert look() == [("pear", "a"), ("new", "b"), ("plum", "b")]


def test_two_connections_keep_tenants_of_their_own(shop: Any) -> None:
    url, look = shop
    look("DELETE FROM stock", "INSERT INTO stock VALUES ('pear', 'a'), ('plum', 'b')")
    with (
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
        psycopg.connect(url, autocommit=True) as third,
    ):
        one.execute("SET shop.tenant = 'a'")
        other.execute("SET shop.tenant = 'b'")

        def mixed() -> Any:
            found = []
            for _ in range(2):
                read = (connection.execute(READ).fetchall() for connection in (one, other, third))
                found.append([[name for (name,) in rows] for rows in read])
                try:
                    with other.transaction():
                        other.execute("INSERT INTO stock VALUES ('no', 'a')")
                except psycopg.errors.InsufficientPrivilege:
                    other.execute(INSERT)
            return found

        alone = mixed()
        look("DELETE FROM stock WHERE name = 'new'")
        answer = asyncio.run(batch_of(mixed))
    assert _told(answer) == [alone]
    assert look() == [("pear", "a"), *[("new", "b")] * 2, ("plum", "b")]


def test_what_is_set_in_a_call_is_known_in_the_next_batch(shop: Any, seen: Names) -> None:
    url, look = shop
    look("DELETE FROM stock", "INSERT INTO stock VALUES ('plum', 'b')")
    with psycopg.connect(url, autocommit=True) as connection:
        read, _ = _by(lambda text: connection.execute(text).fetchall())

        def set_tenant() -> None:
            connection.execute("SELECT set_config(%s, %s, false)", ("shop.tenant", "b"))

        asyncio.run(batch_of(set_tenant))
        assert list(seen) == ["shop.tenant"]
        assert _told(asyncio.run(batch_of(read))) == [["plum"]]


def test_so_many_names_that_they_are_not_all_known_are_refused(shop: Any) -> None:
    url, _ = shop
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(MOST_NAMES + 1):
            note_custom(f"SET shop.tenant_{number} = 'x'")
        answer = asyncio.run(batch_of(lambda: connection.execute(READ).fetchall()))
    assert answer.statuses == [501]
    assert "more than 200 names" in answer.body.decode()


def test_a_name_may_be_too_long() -> None:
    note_custom(f"SET shop.{'t' * 300} = 1")
    assert list(custom_settings.seen) == []
    assert custom_settings.seen.are_too_many


@pytest.mark.parametrize("query", [b"SELECT \xff", sql.SQL("SELECT 1"), None, 5, sql2.SQL("A")])
def test_whatever_is_no_setting_is_passed_over(query: Any) -> None:
    note_custom(query)
    assert list(custom_settings.seen) == []
