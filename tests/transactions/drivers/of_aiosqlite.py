"""The handlers of aiosqlite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import aiosqlite

from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler, handler, library

HANDLERS: list[Handler] = []
KEPT: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (?, ?)"
COUNT = "SELECT count(*) FROM item"


async def add(path: str, name: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute(INSERT, (name, 0))
        await connection.commit()
    return name


@handler(HANDLERS)
async def insert(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        cursor = await connection.execute(INSERT, ("new", 1))
        await connection.commit()
        return [cursor.lastrowid, cursor.rowcount]


@handler(HANDLERS)
async def explicit_begin(path: str) -> Any:
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("BEGIN")
        await connection.execute(INSERT, ("a", 1))
        await connection.execute("COMMIT")
        await connection.execute("BEGIN")
        await connection.execute(INSERT, ("b", 1))
        state = connection.in_transaction
        await connection.execute("ROLLBACK")
        return [state, connection.in_transaction]


@handler(HANDLERS)
async def nested(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute(INSERT, ("a", 1))
        await connection.execute("SAVEPOINT inner")
        await connection.execute(INSERT, ("b", 1))
        await connection.execute("ROLLBACK TO inner")
        await connection.execute("RELEASE inner")
        await connection.commit()
        return await connection.execute_fetchall(COUNT)


@handler(HANDLERS)
async def rollback(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute(INSERT, ("a", 1))
        await connection.rollback()
        await connection.execute(INSERT, ("b", 1))
        await connection.commit()
    return "done"


@handler(HANDLERS)
async def forgotten_commit(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute(INSERT, ("a", 1))
        return connection.total_changes


@handler(HANDLERS)
async def caught(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        try:
            await connection.execute(INSERT, ("one", 1))
        except sqlite3.IntegrityError as error:
            found = str(error)
        await connection.execute(INSERT, ("b", 1))
        await connection.commit()
    return found


@handler(HANDLERS)
async def read_after_write(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute(INSERT, ("a", 7))
        await connection.commit()
        connection.row_factory = aiosqlite.Row
        async with connection.execute("SELECT name, n FROM item ORDER BY name") as cursor:
            return [dict(row) async for row in cursor]


@handler(HANDLERS)
async def many(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.executemany(INSERT, [(f"n{n}", n) for n in range(5)])
        await connection.commit()
        async with connection.execute(COUNT) as cursor:
            return await cursor.fetchone()


@handler(HANDLERS)
async def script(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.executescript(
            "INSERT INTO item (name) VALUES ('a;'); BEGIN; INSERT INTO item (name) VALUES ('b');"
            " ROLLBACK; INSERT INTO item (name) VALUES ('c');"
        )
    return "done"


@handler(HANDLERS)
async def insert_and_fetch(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        row = await connection.execute_insert(INSERT, ("a", 1))
        await connection.commit()
        return list(row or ())


@handler(HANDLERS)
async def functions(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.create_function("shout", 1, str.upper)
        return await connection.execute_fetchall("SELECT shout(name) FROM item ORDER BY name")


@handler(HANDLERS, because="PRAGMA foreign_keys")
async def foreign_keys(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA foreign_keys = ON")
        try:
            await connection.execute("INSERT INTO line (item) VALUES (999)")
        except sqlite3.IntegrityError as error:
            return str(error)
    return "not reached"


@handler(HANDLERS)
async def gather(path: str) -> Any:
    async def one(name: str) -> None:
        async with aiosqlite.connect(path) as connection:
            await connection.execute(INSERT, (name, 1))
            await connection.commit()

    await asyncio.gather(*(one(f"g{number}") for number in range(4)))
    return "done"


@handler(HANDLERS, because="backup()")
async def backup(path: str) -> Any:
    async with (
        aiosqlite.connect(":memory:") as source,
        aiosqlite.connect(path) as target,
    ):
        await target.backup(source)
        await source.backup(target)
    return "done"


@handler(HANDLERS)
async def only_reads(path: str) -> Any:
    async with aiosqlite.connect(path) as connection:
        return await connection.execute_fetchall("SELECT name FROM item ORDER BY name")


async def add_to_kept(connection: Any, name: str) -> Any:
    await connection.execute(INSERT, (name, 0))
    await connection.commit()
    return name


@handler(KEPT)
async def kept_insert(connection: Any) -> Any:
    cursor = await connection.execute(INSERT, ("a", 1))
    await connection.commit()
    return cursor.lastrowid


@handler(KEPT)
async def kept_rollback(connection: Any) -> Any:
    await connection.execute(INSERT, ("a", 1))
    await connection.rollback()
    return [tuple(row) for row in await connection.execute_fetchall(COUNT)]


@handler(KEPT)
async def kept_rows(connection: Any) -> Any:
    async with connection.execute("SELECT name FROM item ORDER BY name") as cursor:
        return [row["name"] async for row in cursor]


@library("aiosqlite", driver="aiosqlite", is_async=True, handlers=HANDLERS, add=add)
async def per_request(file: File) -> AsyncIterator[str]:
    yield file.path


@library("aiosqlite-kept", driver="aiosqlite", is_async=True, handlers=KEPT, add=add_to_kept)
async def kept(file: File) -> AsyncIterator[Any]:
    async with aiosqlite.connect(file.path) as connection:
        connection.row_factory = aiosqlite.Row
        yield connection
