"""Ways to write by asyncpg and psycopg2 beside an INSERT, and ways to read that pass."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import asyncpg
import psycopg2
import pytest
from psycopg2.extras import NamedTupleCursor

from atomicbatch import Batch, doors, guard
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ('x')"
BY_ASYNCPG: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "fetch": lambda one: one.fetch(f"{INSERT} RETURNING id"),
    "executemany": lambda one: one.executemany("INSERT INTO t (name) VALUES ($1)", [("x",)]),
    "prepare": lambda one: one.prepare(INSERT),
    "copy_to_table": lambda one: one.copy_to_table("t", source=io.BytesIO(b"1\tx\n")),
    "copy_from_query": lambda one: one.copy_from_query(
        f"{INSERT} RETURNING id", output=io.BytesIO()
    ),
}
BY_PSYCOPG2: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda one: one.cursor().execute(INSERT.encode()),
    "executemany": lambda one: one.cursor().executemany(
        "INSERT INTO t (name) VALUES (%s)", [["x"]]
    ),
    "callproc": lambda one: one.cursor().callproc("setval", ["t_id_seq", 5]),
    "copy_from": lambda one: one.cursor().copy_from(io.StringIO("x\n"), "t", columns=["name"]),
    "by class": lambda one: one.cursor(cursor_factory=NamedTupleCursor).execute(INSERT),
    "by place": lambda one: one.cursor(None, NamedTupleCursor).execute(INSERT),
    "named": lambda one: one.cursor("c").execute("SELECT setval('t_id_seq', 5)"),
    "lobject": lambda one: one.lobject(0, "w"),
}


def _name(store: Store) -> str:
    return store.url.rpartition("/")[2]


@pytest.mark.parametrize("way", BY_ASYNCPG)
def test_asyncpg(way: str, postgresql_store: Store) -> None:
    """Each way is refused."""
    doors.install()

    async def write() -> None:
        connection = await asyncpg.connect(postgresql_store.url)
        try:
            await BY_ASYNCPG[way](connection)
        finally:
            await connection.close()

    assert f"{_name(postgresql_store)} by asyncpg, at " in refused(lambda: asyncio.run(write()))
    assert postgresql_store.rows() == []


@pytest.mark.parametrize("way", BY_PSYCOPG2)
def test_psycopg2(way: str, postgresql_store: Store) -> None:
    """Each way is refused."""
    doors.install()
    with closing(psycopg2.connect(postgresql_store.url)) as connection:
        assert f"{_name(postgresql_store)} by psycopg2, at " in refused(
            lambda: BY_PSYCOPG2[way](connection)
        )
        connection.commit()
    assert postgresql_store.rows() == []


def test_reading_passes(postgresql_store: Store) -> None:
    """Queries, cursors in the server, copies out, listening, and what pools reset by."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    url = postgresql_store.url

    async def read() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            assert await pool.fetchval("SELECT count(*) FROM t") == 0
            async with pool.acquire() as connection, connection.transaction():
                assert [row async for row in connection.cursor("SELECT * FROM t")] == []
                await connection.copy_from_table("t", output=io.BytesIO())
            async with pool.acquire() as connection:
                await connection.add_listener("channel", lambda *_: None)
                await connection.reset()

    with watched.begin(Batch(()), deadline=0):
        asyncio.run(read())
        with closing(psycopg2.connect(url)) as two:
            server_side = two.cursor("c")
            server_side.execute("SELECT * FROM t")
            assert server_side.fetchall() == []
            two.cursor().copy_to(io.StringIO(), "t")
            two.cursor().copy_expert("COPY (SELECT * FROM t) TO STDOUT", io.StringIO())
