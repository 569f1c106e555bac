"""Handlers by raw drivers, whose round trips are counted, alone and as calls of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import ask, call

CALLS = 100
INSERT = "INSERT INTO t (name) VALUES ('a')"
SELECT = "SELECT count(*) FROM t"
CREATE = {
    "postgresql": "CREATE TABLE IF NOT EXISTS t (id serial PRIMARY KEY, name text)",
    "mariadb": "CREATE TABLE IF NOT EXISTS t (id int AUTO_INCREMENT PRIMARY KEY, name text)",
}
Count = Callable[[], int]


class Handler(NamedTuple):
    """
    What is counted.

    Attributes:
        server: ``postgresql`` or ``mariadb``.
        statements: How many it executes, without the ends of transactions.
        is_async: It awaits.
        connect: Opens a connection.
        act: Uses it.
    """

    server: str
    statements: int
    is_async: bool
    connect: Callable[[str], Any]
    act: Callable[[Any], Any]


def _psycopg(url: str, **options: Any) -> Any:
    import psycopg

    return psycopg.connect(url, **options)


def _psycopg2(url: str) -> Any:
    import psycopg2

    return psycopg2.connect(url)


async def _psycopg_async(url: str) -> Any:
    import psycopg

    return await psycopg.AsyncConnection.connect(url)


async def _asyncpg(url: str) -> Any:
    import asyncpg

    return await asyncpg.connect(url)


def _of(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password or "",
        "db": "mysql",
    }


def _pymysql(url: str) -> Any:
    import pymysql

    return pymysql.connect(**_of(url))


def _mysqlclient(url: str) -> Any:
    import MySQLdb

    return MySQLdb.connect(**_of(url))


async def _aiomysql(url: str) -> Any:
    import aiomysql

    return await aiomysql.connect(**_of(url))


async def _asyncmy(url: str) -> Any:
    import asyncmy

    return await asyncmy.connect(**_of(url))


def _commit(connection: Any) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(INSERT)
        cursor.execute(SELECT)
        cursor.fetchall()
    connection.commit()


def _one(connection: Any) -> None:
    connection.cursor().execute(INSERT)


async def _commit_async(connection: Any) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute(INSERT)
        await cursor.execute(SELECT)
        await cursor.fetchall()
    await connection.commit()


async def _fetch(connection: Any) -> None:
    await connection.execute(INSERT)
    await connection.fetchval(SELECT)


async def _in_transaction(connection: Any) -> None:
    async with connection.transaction():
        await _fetch(connection)


HANDLERS: dict[str, Handler] = {
    "psycopg, two statements, commit": Handler("postgresql", 2, False, _psycopg, _commit),
    "psycopg, autocommit": Handler(
        "postgresql", 1, False, lambda url: _psycopg(url, autocommit=True), _one
    ),
    "psycopg async, two statements, commit": Handler(
        "postgresql", 2, True, _psycopg_async, _commit_async
    ),
    "psycopg2, two statements, commit": Handler("postgresql", 2, False, _psycopg2, _commit),
    "asyncpg, two statements": Handler("postgresql", 2, True, _asyncpg, _fetch),
    "asyncpg, transaction()": Handler("postgresql", 2, True, _asyncpg, _in_transaction),
    "PyMySQL, two statements, commit": Handler("mariadb", 2, False, _pymysql, _commit),
    "mysqlclient, two statements, commit": Handler("mariadb", 2, False, _mysqlclient, _commit),
    "aiomysql, two statements, commit": Handler("mariadb", 2, True, _aiomysql, _commit_async),
    "asyncmy, two statements, commit": Handler("mariadb", 2, True, _asyncmy, _commit_async),
}


def trips_alone(handler: Handler, url: str, count: Count) -> float:
    """Round trips of one run, on a connection that is kept."""

    async def go() -> float:
        connection = await _connected(handler, url)
        for _ in range(3):
            await _acted(handler, connection)
        before = count()
        for _ in range(CALLS):
            await _acted(handler, connection)
        trips = (count() - before) / CALLS
        await _closed(connection)
        return trips

    return asyncio.run(go())


def trips_in_a_batch(handler: Handler, url: str, count: Count) -> tuple[float, float]:
    """Round trips of one call in a batch, and of the batch itself."""

    async def go() -> tuple[float, float]:
        connection = await _connected(handler, url)

        async def run(_: Request) -> JSONResponse:
            await _acted(handler, connection)
            return JSONResponse({})

        app = AtomicBatch(
            Starlette(routes=[Route("/run", run, methods=["POST"])]),
            transaction=DriverTransaction(),
        )

        async def trips(calls: int) -> int:
            before = count()
            answer = await ask(app, *[call("POST", "/run")] * calls)
            assert answer.outcome == "committed", answer.body
            return count() - before

        await trips(3)
        few, many = await trips(10), await trips(10 + CALLS)
        each = (many - few) / CALLS
        await _closed(connection)
        return each, few - 10 * each

    return asyncio.run(go())


async def _connected(handler: Handler, url: str) -> Any:
    connection = handler.connect(url)
    if handler.is_async:
        connection = await connection
    if hasattr(connection, "fetchval"):
        await connection.execute(CREATE[handler.server])
    elif handler.is_async:
        async with connection.cursor() as cursor:
            await cursor.execute(CREATE[handler.server])
        await connection.commit()
    else:
        connection.cursor().execute(CREATE[handler.server])
        connection.commit()
    return connection


async def _acted(handler: Handler, connection: Any) -> None:
    if handler.is_async:
        await handler.act(connection)
    else:
        await run_in_threadpool(handler.act, connection)


async def _closed(connection: Any) -> None:
    closing_ = connection.close()
    if closing_ is not None:
        await closing_
