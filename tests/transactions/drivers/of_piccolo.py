"""Piccolo's handlers."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from piccolo.columns import Integer, Varchar
from piccolo.engine.postgres import PostgresEngine
from piccolo.engine.sqlite import SQLiteEngine
from piccolo.table import Table

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.servers import Server

HANDLERS: list[Handler] = []


async def add(item: Any, name: str) -> Any:
    await item.insert(item(name=name, n=0))
    return name


@handler(HANDLERS)
async def insert(item: Any) -> Any:
    return await item.insert(item(name="new", n=1))


@handler(HANDLERS)
async def transaction(item: Any) -> Any:
    async with item._meta.db.transaction():
        await item.insert(item(name="a", n=1))
        await item.insert(item(name="b", n=2))
    return "done"


@handler(HANDLERS)
async def atomic(item: Any) -> Any:
    queries = item._meta.db.atomic()
    queries.add(item.insert(item(name="a", n=1)), item.insert(item(name="b", n=2)))
    await queries.run()
    return "done"


@handler(HANDLERS)
async def savepoint(item: Any) -> Any:
    async with item._meta.db.transaction() as transaction:
        await item.insert(item(name="a", n=1))
        savepoint = await transaction.savepoint()
        await item.insert(item(name="b", n=2))
        await savepoint.rollback_to()
    return await item.count()


@handler(HANDLERS)
async def rollback(item: Any) -> Any:
    async with item._meta.db.transaction() as transaction:
        await item.insert(item(name="a", n=1))
        await transaction.rollback()
    await item.insert(item(name="b", n=2))
    return "done"


@handler(HANDLERS)
async def undone(item: Any) -> Any:
    try:
        async with item._meta.db.transaction():
            await item.insert(item(name="a", n=1))
            raise UndoError
    except UndoError:
        await item.insert(item(name="b", n=2))
    return "done"


@handler(HANDLERS)
async def caught(item: Any) -> Any:
    try:
        await item.insert(item(name="one", n=1))
    except (sqlite3.IntegrityError, asyncpg.UniqueViolationError) as error:
        found = str(error)
    await item.insert(item(name="b", n=2))
    return found


@handler(HANDLERS)
async def read_after_write(item: Any) -> Any:
    await item.insert(item(name="a", n=7))
    return await item.select(item.name, item.n).order_by(item.name)


@handler(HANDLERS)
async def update_and_delete(item: Any) -> Any:
    await item.update({item.n: item.n + 5}).where(item.name == "one")
    await item.delete().where(item.name == "two")
    return await item.count()


@handler(HANDLERS)
async def only_reads(item: Any) -> Any:
    return sorted(await item.select(item.name).output(as_list=True))


def _item(engine: Any) -> Any:
    class PiccoloItem(Table, tablename="item", db=engine):
        name = Varchar(unique=True)
        n = Integer()

    return PiccoloItem


@library("piccolo", driver="aiosqlite", is_async=True, handlers=HANDLERS, add=add)
async def piccolo(file: File) -> AsyncIterator[Any]:
    yield _item(SQLiteEngine(path=file.path))


@library("piccolo-asyncpg", driver="asyncpg", is_async=True, handlers=HANDLERS, add=add)
async def on_postgresql(store: Server) -> AsyncIterator[Any]:
    # A connection for each query or transaction.
    yield _item(PostgresEngine(config=store.parameters))


@library("piccolo-pool-asyncpg", driver="asyncpg", is_async=True, handlers=HANDLERS, add=add)
async def pooled(store: Server) -> AsyncIterator[Any]:
    engine = PostgresEngine(config=store.parameters)
    await engine.start_connection_pool(min_size=1, max_size=1)
    yield _item(engine)
    await engine.close_connection_pool()
