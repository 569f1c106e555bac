"""The handlers of databases."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import asyncmy.errors
import asyncpg
import pymysql
from databases import Database

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import Server

HANDLERS: list[Handler] = []
ERRORS = (
    sqlite3.IntegrityError,
    asyncpg.UniqueViolationError,
    asyncmy.errors.IntegrityError,
    pymysql.err.IntegrityError,
)
_INSERT = "INSERT INTO item (name, n) VALUES (:name, :n)"


async def add(db: Database, name: str) -> Any:
    await db.execute(_INSERT, {"name": name, "n": 0})
    return name


@handler(HANDLERS)
async def insert(db: Database) -> Any:
    return await db.execute(_INSERT, {"name": "new", "n": 1})


@handler(HANDLERS)
async def transaction(db: Database) -> Any:
    async with db.transaction():
        await db.execute(_INSERT, {"name": "a", "n": 1})
        await db.execute(_INSERT, {"name": "b", "n": 2})
    return "done"


@handler(HANDLERS)
async def nested(db: Database) -> Any:
    async with db.transaction():
        await db.execute(_INSERT, {"name": "a", "n": 1})
        try:
            async with db.transaction():
                await db.execute(_INSERT, {"name": "b", "n": 2})
                raise UndoError
        except UndoError:
            pass
    return await db.fetch_val("SELECT count(*) FROM item")


@handler(HANDLERS)
async def rollback(db: Database) -> Any:
    transaction = await db.transaction()
    await db.execute(_INSERT, {"name": "a", "n": 1})
    await transaction.rollback()
    await db.execute(_INSERT, {"name": "b", "n": 2})
    return "done"


@handler(HANDLERS)
async def caught(db: Database) -> Any:
    try:
        await db.execute(_INSERT, {"name": "one", "n": 1})
    except ERRORS as error:
        found = str(error)
    await db.execute(_INSERT, {"name": "b", "n": 2})
    return found


@handler(HANDLERS)
async def read_after_write(db: Database) -> Any:
    await db.execute(_INSERT, {"name": "a", "n": 7})
    return [tuple(row) for row in await db.fetch_all("SELECT name, n FROM item ORDER BY name")]


@handler(HANDLERS)
async def many(db: Database) -> Any:
    await db.execute_many(_INSERT, [{"name": f"n{n}", "n": n} for n in range(5)])
    return await db.fetch_val("SELECT count(*) FROM item")


@handler(HANDLERS)
async def iterate(db: Database) -> Any:
    found = []
    async with db.transaction():
        async for row in db.iterate("SELECT name FROM item ORDER BY name"):
            found.append(row[0])  # noqa: PERF401
    return found


@handler(HANDLERS)
async def connection(db: Database) -> Any:
    async with db.connection() as connection, connection.transaction():
        await connection.execute(_INSERT, {"name": "a", "n": 1})
    return "done"


@library("databases", driver="aiosqlite", is_async=True, handlers=HANDLERS, add=add)
async def databases(file: File) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{file.path}") as db:
        yield db


def register(driver: str, scheme: str, size: int) -> None:
    """Register databases on a server's driver, with a pool of some size."""

    @library(
        f"databases-{driver}" if size > 1 else f"databases-pool-of-one-{driver}",
        driver=driver,
        is_async=True,
        handlers=HANDLERS if size > 1 else [one for one in HANDLERS if one.name in FEW],
        add=add,
    )
    async def on_server(store: Server) -> AsyncIterator[Database]:
        async with Database(store.url_of(scheme), min_size=1, max_size=size) as db:
            yield db


FEW = ("insert", "nested", "caught")
for _driver, _scheme in (
    ("asyncpg", "postgresql"),
    ("aiomysql", "mysql"),
    ("asyncmy", "mysql+asyncmy"),
):
    register(_driver, _scheme, 3)
    register(_driver, _scheme, 1)
