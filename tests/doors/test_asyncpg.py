"""Ways to write by asyncpg beside an INSERT, ways to read that pass, and what stays its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from atomicbatch import Batch, doors, guard
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ('x')"
WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "fetch": lambda one: one.fetch(f"{INSERT} RETURNING id"),
    "executemany": lambda one: one.executemany("INSERT INTO t (name) VALUES ($1)", [("x",)]),
    "prepare": lambda one: one.prepare(INSERT),
    "copy_to_table": lambda one: one.copy_to_table("t", source=io.BytesIO(b"1\tx\n")),
    "copy_records": lambda one: one.copy_records_to_table("t", records=[(1, "x")]),
    "copy_from_query": lambda one: one.copy_from_query(
        f"{INSERT} RETURNING id", output=io.BytesIO()
    ),
}


def _name(store: Store) -> str:
    return store.url.rpartition("/")[2]


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, postgresql_store: Store) -> None:
    """Each way is refused where nobody joins the connection."""
    doors.install()

    async def write() -> None:
        connection = await asyncpg.connect(postgresql_store.url)
        try:
            await WAYS[way](connection)
        finally:
            await connection.close()

    assert f"{_name(postgresql_store)} by asyncpg, at " in refused(lambda: asyncio.run(write()))
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
