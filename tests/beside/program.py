"""
An app that somebody traces, with batches: run as a program, since tools change a process for ever.

``python -m tests.beside.program SQLITE POSTGRESQL MARIADB`` prints, as JSON, for each tool and
order what each driver's handler came to: alone, in a batch that commits, in one that fails. TOOLS
are the tools; ORDERS say whether they come before atomicbatch or after it. Each has a process of
its own, forked from one that has imported the drivers. The arguments are databases with a table
``t`` (a path, and two URLs).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit


def _opentelemetry() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    for name, kind in (
        ("threading", "ThreadingInstrumentor"),
        ("sqlite3", "SQLite3Instrumentor"),
        ("psycopg", "PsycopgInstrumentor"),
        ("psycopg2", "Psycopg2Instrumentor"),
        ("asyncpg", "AsyncPGInstrumentor"),
        ("pymysql", "PyMySQLInstrumentor"),
        ("mysqlclient", "MySQLClientInstrumentor"),
        ("sqlalchemy", "SQLAlchemyInstrumentor"),
    ):
        module = importlib.import_module(f"opentelemetry.instrumentation.{name}")
        getattr(module, kind)().instrument(skip_dep_check=True)


def _sentry() -> None:
    import sentry_sdk
    from sentry_sdk.integrations.asyncpg import AsyncPGIntegration
    from sentry_sdk.integrations.sqlalchemy import SqlalchemyIntegration
    from sentry_sdk.integrations.threading import ThreadingIntegration

    sentry_sdk.init(
        dsn="http://public@127.0.0.1:9/1",
        traces_sample_rate=1.0,
        transport=lambda _: None,
        integrations=[AsyncPGIntegration(), SqlalchemyIntegration(), ThreadingIntegration()],
    )


def _ddtrace() -> None:
    import ddtrace

    ddtrace.patch(
        asyncio=True,
        futures=True,
        sqlite3=True,
        psycopg=True,
        asyncpg=True,
        pymysql=True,
        mysqldb=True,
        aiomysql=True,
        sqlalchemy=True,
        starlette=True,
    )


TOOLS: dict[str, Callable[[], None]] = {
    "opentelemetry": _opentelemetry,
    "sentry": _sentry,
    "ddtrace": _ddtrace,
}
ORDERS = ("before", "after")
# What takes long to import, and is the same for all.
_IMPORTED = (
    *("aiosqlite", "asyncpg", "psycopg", "psycopg2", "pymysql", "MySQLdb", "sqlalchemy"),
    *("sqlalchemy.dialects.sqlite", "starlette.applications", "starlette.concurrency"),
    *("anyio._backends._asyncio", "sqlite3"),
)
Handler = Callable[[str, str], Any]


def _work(connection: Any, mark: str, name: str) -> Any:
    """By PEP 249: a commit, a rollback, an error that is caught, and what is there then."""
    cursor = connection.cursor()
    cursor.execute(f"INSERT INTO t (name) VALUES ({mark})", (name,))
    connection.commit()
    cursor.execute(f"INSERT INTO t (name) VALUES ({mark})", ("undone",))
    connection.rollback()
    try:
        cursor.execute("INSERT INTO nothing (name) VALUES ('x')")
    except Exception as error:
        found = type(error).__name__
        connection.rollback()
    cursor.execute("SELECT name FROM t WHERE name LIKE 'undone'")
    return [found, list(cursor.fetchall())]


def _sqlite3(path: str, name: str) -> Any:
    import sqlite3

    with closing(sqlite3.connect(path)) as connection:
        return _work(connection, "?", name)


def _psycopg(url: str, name: str) -> Any:
    import psycopg

    with closing(psycopg.connect(url)) as connection:
        return _work(connection, "%s", name)


def _psycopg2(url: str, name: str) -> Any:
    import psycopg2

    with closing(psycopg2.connect(url)) as connection:
        return _work(connection, "%s", name)


def _parts(url: str, password: str, database: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        password: parts.password or "",
        database: parts.path.strip("/"),
    }


def _pymysql(url: str, name: str) -> Any:
    import pymysql

    with closing(pymysql.connect(**_parts(url, "password", "database"))) as connection:
        return _work(connection, "%s", name)


def _mysqlclient(url: str, name: str) -> Any:
    import MySQLdb

    with closing(MySQLdb.connect(**_parts(url, "password", "database"))) as connection:
        return _work(connection, "%s", name)


def _sqlalchemy(path: str, name: str) -> Any:
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("INSERT INTO t (name) VALUES (:name)"), {"name": name})
            connection.commit()
            connection.execute(sa.text("INSERT INTO t (name) VALUES ('undone')"))
            connection.rollback()
            rows = connection.execute(sa.text("SELECT name FROM t WHERE name = 'undone'"))
            return [list(row) for row in rows]
    finally:
        engine.dispose()


async def _asyncpg(url: str, name: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO t (name) VALUES ($1)", name)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO t (name) VALUES ('undone')")
        await transaction.rollback()
        try:
            await connection.execute("INSERT INTO nothing (name) VALUES ('x')")
        except asyncpg.PostgresError as error:
            found = type(error).__name__
        return [found, await connection.fetchval("SELECT count(*) FROM t WHERE name = 'undone'")]
    finally:
        await connection.close()


async def _aiosqlite(path: str, name: str) -> Any:
    import aiosqlite

    async with aiosqlite.connect(path) as connection:
        await connection.execute("INSERT INTO t (name) VALUES (?)", (name,))
        await connection.commit()
        await connection.execute("INSERT INTO t (name) VALUES ('undone')")
        await connection.rollback()
        rows = await connection.execute_fetchall("SELECT name FROM t WHERE name = 'undone'")
        return [list(row) for row in rows]


SYNC: dict[str, tuple[str, Handler]] = {
    "sqlite3": ("sqlite", _sqlite3),
    "sqlalchemy": ("sqlite", _sqlalchemy),
    "psycopg": ("postgresql", _psycopg),
    "psycopg2": ("postgresql", _psycopg2),
    "pymysql": ("mariadb", _pymysql),
    "mysqlclient": ("mariadb", _mysqlclient),
}
ASYNC: dict[str, tuple[str, Callable[[str, str], Awaitable[Any]]]] = {
    "aiosqlite": ("sqlite", _aiosqlite),
    "asyncpg": ("postgresql", _asyncpg),
}
DRIVERS = (*SYNC, *ASYNC)


def _app(databases: dict[str, str]) -> Any:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def run(request: Request) -> JSONResponse:
        driver = request.path_params["driver"]
        name = request.query_params["name"]
        if driver in SYNC:
            kind, act = SYNC[driver]
            return JSONResponse(await run_in_threadpool(act, databases[kind], name))
        kind, awaited = ASYNC[driver]
        return JSONResponse(await awaited(databases[kind], name))

    async def fail(_: Request) -> JSONResponse:
        return JSONResponse({"detail": "no"}, 409)

    return Starlette(
        routes=[Route("/run/{driver}", run, methods=["POST"]), Route("/fail", fail)],
    )


async def _tried(app: Any, batches: Any, driver: str, case: str) -> dict[str, Any]:
    from tests.asgi.asking import Request, ask, call, scope_of

    def one(name: str) -> Any:
        return call("POST", f"/run/{driver}?name={case}-{driver}-{name}")

    alone = one("alone")
    request = Request([b""])
    scope = scope_of(alone.path.decode(), alone.headers, query=alone.query)
    await app(scope, request.receive, request.send)
    committed = await ask(batches, one("a"), one("b"))
    failed = await ask(batches, one("c"), one("d"), call("GET", "/fail"))
    return {
        "alone": request.answer.body.decode(),
        "commits": [committed.outcome, *(reply.body.decode() for reply in committed.replies)],
        "fails": failed.outcome,
    }


def told(tool: str, order: str, databases: dict[str, str]) -> dict[str, Any]:
    """Run everything, and tell what it came to."""
    if order == "before":
        TOOLS[tool]()
    from atomicbatch.asgi import AtomicBatch
    from atomicbatch.transactions import DriverTransaction

    if order == "after":
        TOOLS[tool]()
    app = _app(databases)
    batches = AtomicBatch(app, transaction=DriverTransaction())

    async def run() -> dict[str, Any]:
        case = f"{tool}-{order}"
        return {driver: await _tried(app, batches, driver, case) for driver in DRIVERS}

    return asyncio.run(run())


def _forked(tool: str, order: str, databases: dict[str, str]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, json.dumps(told(tool, order, databases)).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def main(*databases: str) -> None:
    """Run all tools in all orders, and print what they came to."""
    for name in _IMPORTED:
        importlib.import_module(name)
    urls = dict(zip(("sqlite", "postgresql", "mariadb"), databases, strict=True))
    print(
        json.dumps(
            {f"{tool}-{order}": _forked(tool, order, urls) for tool in TOOLS for order in ORDERS}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
