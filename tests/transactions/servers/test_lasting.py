"""What a handler sets beyond its transactions stays on the app's connection, as it does alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import asyncpg
import psycopg
import psycopg2
import psycopg_pool
import pytest

from tests.doors.in_batches import batch_of
from tests.stores import Store

Act = Callable[[], Any]
NAMES = ("shop.tenant", "statement_timeout", "search_path", "role")
READ = "SELECT concat_ws('|', {})".format(
    ", ".join(f"current_setting('{name}', true)" for name in NAMES)
)
# What is committed after it is rolled back.
FAILS = "SELECT 1 / 0"
# In turn, each a call: what it sends, with "COMMIT" or "ROLLBACK" for the driver's own.
CALLS = [
    ("SET statement_timeout = '50s'", "COMMIT"),
    ("SELECT set_config('shop.tenant', 'a', false)", "SET search_path = pg_catalog, x", "COMMIT"),
    ("SET LOCAL shop.tenant = 'local'", "SET SESSION statement_timeout = '40s'", "ROLLBACK"),
    ("SET shop.tenant = 'b'", "SAVEPOINT a", "SET shop.tenant = 'c'", "ROLLBACK TO a", "COMMIT"),
    ("SET statement_timeout = '30s'", "SET shop.tenant = 'd'", FAILS, "COMMIT"),
    ("SET ROLE pg_read_all_data", "SET LOCAL statement_timeout = '1s'", "COMMIT"),
    ("RESET ROLE", "RESET shop.tenant", "COMMIT"),
    ("SET shop.tenant TO DEFAULT", "RESET statement_timeout", "COMMIT"),
]


class Kept:
    """A connection that the app keeps, by any driver."""

    def __init__(self, send: Callable[[str], Any], close: Callable[[], Any]) -> None:
        self.send = send
        self.close = close


def sync_of(connection: Any) -> Kept:
    cursor = connection.cursor()

    async def send(text: str) -> Any:
        if text in ("COMMIT", "ROLLBACK"):
            return getattr(connection, text.lower())()
        cursor.execute(text)
        return cursor.fetchone()[0] if cursor.description else None

    async def close() -> None:
        connection.close()

    return Kept(send, close)


async def by_psycopg(url: str) -> Kept:
    return sync_of(psycopg.connect(url))


async def by_psycopg2(url: str) -> Kept:
    return sync_of(psycopg2.connect(url))


async def by_psycopg_async(url: str) -> Kept:
    connection = await psycopg.AsyncConnection.connect(url)

    async def send(text: str) -> Any:
        if text in ("COMMIT", "ROLLBACK"):
            return await getattr(connection, text.lower())()
        cursor = await connection.execute(text)
        return (await cursor.fetchone())[0] if cursor.description else None  # type: ignore[index]

    return Kept(send, connection.close)


async def by_asyncpg(url: str) -> Kept:
    connection = await asyncpg.connect(url)

    async def send(text: str) -> Any:
        if not connection.is_in_transaction() and text != READ:
            await connection.execute("BEGIN")
        if text.startswith("SELECT"):
            return await connection.fetchval(text)
        return await connection.execute(text)

    return Kept(send, connection.close)


DRIVERS = {
    "psycopg": by_psycopg,
    "psycopg2": by_psycopg2,
    "psycopg-async": by_psycopg_async,
    "asyncpg": by_asyncpg,
}


def acts_of(kept: Kept) -> list[Act]:
    """Each sends what a call sends, and tells before and after what is set."""

    def act_of(texts: tuple[str, ...]) -> Act:
        async def act() -> Any:
            found = [await kept.send(READ)]
            await kept.send("ROLLBACK")
            for text in texts:
                with suppress(Exception) if text is FAILS else nullcontext():
                    await kept.send(text)
            found.append(await kept.send(READ))
            await kept.send("ROLLBACK")
            return found

        return act

    return [act_of(texts) for texts in CALLS]


async def told(kept: Kept) -> Any:
    found = await kept.send(READ)
    await kept.send("ROLLBACK")
    return found


@pytest.mark.parametrize("driver", DRIVERS)
def test_as_alone(driver: str, postgresql_store: Store) -> None:
    async def go() -> None:
        alone, batched = [await DRIVERS[driver](postgresql_store.url) for _ in range(2)]
        expected = [await act() for act in acts_of(alone)]
        answer = await batch_of(*acts_of(batched))
        assert [json.loads(reply.body) for reply in answer.replies] == expected
        assert await told(batched) == await told(alone)
        await batch_of(*acts_of(batched)[:2])  # and it is left like that
        assert (await told(batched)).startswith("a|50s|pg_catalog, x|")
        for kept in (alone, batched):
            await kept.close()

    asyncio.run(go())


def test_what_a_pool_resets_is_not_there_in_the_next_call(postgresql_store: Store) -> None:
    """It does so on the app's connection, where the batch does not see it."""

    def reset(connection: Any) -> None:
        connection.execute("RESET ALL")
        connection.commit()

    url = postgresql_store.url
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=1, reset=reset) as pool:

        def set_tenant() -> Any:
            with pool.connection() as connection:
                connection.execute("SET shop.tenant = 'a'")
                return connection.execute(READ).fetchone()

        def read() -> Any:
            with pool.connection() as connection:
                return connection.execute(READ).fetchone()

        alone = [[one[0]] for one in (set_tenant(), read())]
        answer = asyncio.run(batch_of(set_tenant, read))
    assert [json.loads(reply.body) for reply in answer.replies] == alone
