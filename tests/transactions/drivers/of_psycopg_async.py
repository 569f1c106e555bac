"""The handlers of psycopg's async connections: of a pool, kept, one for each call, autocommit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.of_psycopg import COUNT, INSERT, state_of
from tests.transactions.drivers.servers import PostgreSQL

Take = Callable[[], AbstractAsyncContextManager[Any]]
"""Lends a connection."""

EVERYWHERE: list[Handler] = []
IN_TRANSACTIONS: list[Handler] = []
IN_AUTOCOMMIT: list[Handler] = []
SEVERAL: list[Handler] = []
OPENED: list[Handler] = []


async def add(take: Take, name: str) -> Any:
    async with take() as connection, connection.transaction():
        await connection.execute(INSERT, (name, 0))
    return name


async def one(connection: Any, query: str, *params: Any) -> Any:
    return await (await connection.execute(query, params or None)).fetchone()


async def failed(what: Awaitable[Any]) -> str:
    try:
        await what
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "nothing"


# Transactions ------------------------------------------------------------------------------------


@handler(EVERYWHERE)
async def block(take: Take) -> Any:
    async with take() as connection:
        states = [state_of(connection)]
        async with connection.transaction() as transaction:
            await connection.execute(INSERT, ("new", 1))
            states.append(state_of(connection))
        return [*states, state_of(connection), transaction.status.value]


@handler(EVERYWHERE)
async def blocks_in_blocks(take: Take) -> Any:
    async with take() as connection:
        async with connection.transaction():
            await connection.execute(INSERT, ("a", 1))
            async with connection.transaction():
                await connection.execute(INSERT, ("b", 1))
                raise psycopg.Rollback
            with suppress(psycopg.errors.UniqueViolation):
                async with connection.transaction():
                    await connection.execute(INSERT, ("one", 1))
            async with connection.transaction(force_rollback=True):
                await connection.execute(INSERT, ("c", 1))
            await connection.execute(INSERT, ("d", 1))
        with suppress(UndoError):
            async with connection.transaction():
                await connection.execute(INSERT, ("e", 1))
                raise UndoError
        return await one(connection, COUNT)


@handler(EVERYWHERE)
async def raw_control(take: Take) -> Any:
    async with take() as connection:
        found = []
        for text in ("BEGIN", INSERT, "SAVEPOINT x", "ROLLBACK TO x", "RELEASE x", "COMMIT"):
            params = ("a", 1) if text == INSERT else None
            cursor = await connection.execute(text, params)
            found.append([cursor.statusmessage, state_of(connection)])
        return found


@handler(IN_TRANSACTIONS)
async def commits_and_rolls_back(take: Take) -> Any:
    async with take() as connection:
        await connection.execute(INSERT, ("a", 1))
        await connection.commit()
        await connection.execute(INSERT, ("b", 1))
        states = [state_of(connection)]
        await connection.rollback()
        return [*states, state_of(connection)]


@handler(IN_TRANSACTIONS)
async def caught(take: Take) -> Any:
    async with take() as connection:
        await connection.execute(INSERT, ("a", 1))
        found = [await failed(connection.execute(INSERT, ("one", 1))), state_of(connection)]
        found.append(await failed(connection.execute(COUNT)))
        await connection.rollback()
        await connection.execute(INSERT, ("b", 1))
        await connection.commit()
        return found


@handler(IN_AUTOCOMMIT)
async def each_commits(take: Take) -> Any:
    async with take() as connection:
        await connection.execute(INSERT, ("a", 1))
        found = [state_of(connection), await failed(connection.execute(INSERT, ("one", 1)))]
        await connection.execute(INSERT, ("b", 1))
        await connection.set_autocommit(False)
        await connection.execute(INSERT, ("c", 1))
        found.append(await failed(connection.set_autocommit(True)))
        await connection.rollback()
        await connection.set_autocommit(True)
        return found


# Tasks -------------------------------------------------------------------------------------------


@handler(EVERYWHERE)
async def gathered(take: Take) -> Any:
    async with take() as connection, connection.transaction():
        await asyncio.gather(*(connection.execute(INSERT, (f"t{n}", n)) for n in range(5)))
        return await one(connection, COUNT + " WHERE name LIKE 't_'")


@handler(SEVERAL)
async def gathered_by_several(take: Take) -> Any:
    async def work(name: str) -> None:
        async with take() as connection, connection.transaction():
            await connection.execute(INSERT, (name, 1))

    await asyncio.gather(*(work(f"t{n}") for n in range(3)))
    return "done"


@handler(SEVERAL)
async def reader_beside_a_writer(take: Take) -> Any:
    async with take() as reader, take() as writer:
        before = await one(reader, COUNT)
        async with writer.transaction():
            await writer.execute(INSERT, ("a", 1))
        return [before, await one(reader, COUNT)]


@handler(SEVERAL)
async def copied_while_another_reads(take: Take) -> Any:
    async with take() as source, take() as target, target.transaction():
        names = source.cursor()
        query = "SELECT name FROM item WHERE name IN ('one', 'two') ORDER BY id"
        async with target.cursor().copy("COPY item (name) FROM STDIN") as copy:
            async for (name,) in names.stream(query):
                await copy.write_row([f"{name}-again"])
    return "done"


@handler(EVERYWHERE, because="was cancelled while it ran")
async def given_up(take: Take) -> Any:
    async with take() as connection:
        found = ""
        try:
            await asyncio.wait_for(connection.execute("SELECT pg_sleep(20)"), 0.05)
        except TimeoutError:
            found = "too late"
        await connection.rollback()
        return found


# Statements --------------------------------------------------------------------------------------


@handler(EVERYWHERE)
async def cursors(take: Take) -> Any:
    async with take() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT name, n FROM item ORDER BY id")
        found: list[Any] = [cursor.rowcount, cursor.connection is connection]
        found += [await cursor.fetchone(), await cursor.fetchall(), cursor.description[0].name]
        by_name = connection.cursor(row_factory=dict_row)
        await by_name.execute("SELECT name FROM item ORDER BY id")
        found += [row async for row in by_name]
        raw = psycopg.AsyncRawCursor(connection)
        await raw.execute("SELECT $1::int", (5,))
        client = psycopg.AsyncClientCursor(connection)
        await client.execute("SELECT %s", ("x",))
        return [*found, await raw.fetchone(), await client.fetchone()]


@handler(EVERYWHERE)
async def many(take: Take) -> Any:
    async with take() as connection, connection.transaction():
        cursor = connection.cursor()
        await cursor.executemany(INSERT, [(f"n{n}", n) for n in range(5)])
        found: list[Any] = [cursor.rowcount]
        query = f"{INSERT} RETURNING name"
        await cursor.executemany(query, [("x", 1), ("y", 2)], returning=True)
        return found + [await result.fetchall() async for result in cursor.results()]


@handler(EVERYWHERE)
async def streams(take: Take) -> Any:
    async with take() as connection, connection.transaction():
        cursor = connection.cursor()
        found = [row async for row in cursor.stream("SELECT name FROM item ORDER BY id")]
        query = f"{INSERT} RETURNING name"
        return found + [row async for row in cursor.stream(query, ("a", 1))]


@handler(EVERYWHERE)
async def copies(take: Take) -> Any:
    async with take() as connection, connection.transaction():
        cursor = connection.cursor()
        async with cursor.copy("COPY item (name, n) FROM STDIN") as copy:
            for n in range(3):
                await copy.write_row((f"n{n}", n))
        found: list[Any] = [cursor.rowcount]
        async with cursor.copy("COPY (SELECT name FROM item ORDER BY id) TO STDOUT") as copy:
            found += [bytes(block).decode() async for block in copy]
        async with cursor.copy("COPY (SELECT 1, 'x'::text) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            found += [row async for row in copy.rows()]
        return [*found, cursor.rowcount]


@handler(EVERYWHERE)
async def cursors_in_the_server(take: Take) -> Any:
    async with take() as connection, connection.transaction():
        async with connection.cursor("c") as cursor:
            cursor.itersize = 1
            query = "SELECT name FROM item WHERE name IN ('one', 'two') ORDER BY id"
            await cursor.execute(query)
            found = []
            async for row in cursor:
                await connection.execute(INSERT, (f"{row[0]}-again", 1))
                found.append(row)
        return found


@handler(EVERYWHERE)
async def cancelled(take: Take) -> Any:
    async with take() as connection:
        await connection.execute("SELECT 1")

        over = asyncio.Event()

        async def cancel() -> None:
            while not over.is_set():
                # A request that is there before its statement stops nothing.
                if state_of(connection) == "ACTIVE":
                    await connection.cancel_safe()
                await asyncio.sleep(0.01)

        task = asyncio.create_task(cancel())
        found = await failed(connection.execute("SELECT pg_sleep(20)"))
        over.set()
        await task
        await connection.rollback()
        return found


@handler(EVERYWHERE, because="pipeline()")
async def pipelines(take: Take) -> Any:
    async with take() as connection:
        async with connection.pipeline():
            await connection.execute("SELECT 1")
        await connection.rollback()
    return "done"


@handler(EVERYWHERE, because="notifications")
async def listens(take: Take) -> Any:
    async with take() as connection:
        return [notify async for notify in connection.notifies(timeout=0)]


# A connection for each call ----------------------------------------------------------------------


@handler(OPENED)
async def opened(url: str) -> Any:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(INSERT, ("a", 1))
    with suppress(UndoError):
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute(INSERT, ("b", 1))
            raise UndoError
    other = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await other.execute(INSERT, ("c", 1))
    await other.close()
    return [connection.closed, await failed(other.execute(COUNT))]


@handler(OPENED)
async def pool_opened_in_the_call(url: str) -> Any:
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        async with pool.connection() as connection:
            await connection.execute(INSERT, ("a", 1))
        async with pool.connection() as one_more, pool.connection() as another:
            await one_more.execute(INSERT, ("b", 1))
            return await one(another, "SELECT 1")


async def add_by_url(url: str, name: str) -> Any:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(INSERT, (name, 0))
    return name


@library("psycopg-async", driver="psycopg-async", is_async=True, handlers=OPENED, add=add_by_url)
async def by_url(store: PostgreSQL) -> AsyncIterator[str]:
    yield store.url


POOLED = [*EVERYWHERE, *IN_TRANSACTIONS]
AUTO = [*EVERYWHERE, *IN_AUTOCOMMIT]


@library(
    "psycopg-async-pool",
    driver="psycopg-async",
    is_async=True,
    handlers=[*POOLED, *SEVERAL],
    add=add,
)
async def by_pool(store: PostgreSQL) -> AsyncIterator[Take]:
    async with AsyncConnectionPool(store.url, min_size=0, max_size=4, open=False) as pool:
        yield pool.connection


@library(
    "psycopg-async-null-pool",
    driver="psycopg-async",
    is_async=True,
    handlers=POOLED[:4],
    add=add,
)
async def by_null_pool(store: PostgreSQL) -> AsyncIterator[Take]:
    async with AsyncNullConnectionPool(
        store.url, max_size=2, open=False, check=AsyncConnectionPool.check_connection
    ) as pool:
        yield pool.connection


@library(
    "psycopg-async-autocommit",
    driver="psycopg-async",
    is_async=True,
    handlers=[*IN_AUTOCOMMIT, *SEVERAL],
    add=add,
)
async def by_autocommit(store: PostgreSQL) -> AsyncIterator[Take]:
    options = {"autocommit": True}
    async with AsyncConnectionPool(
        store.url, min_size=0, max_size=4, open=False, kwargs=options
    ) as pool:
        yield pool.connection


@library("psycopg-async-kept", driver="psycopg-async", is_async=True, handlers=AUTO, add=add)
async def by_kept(store: PostgreSQL) -> AsyncIterator[Take]:
    async with await psycopg.AsyncConnection.connect(store.url, autocommit=True) as connection:

        @asynccontextmanager
        async def take() -> AsyncIterator[Any]:
            yield connection

        yield take
