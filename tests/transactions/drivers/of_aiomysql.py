"""The handlers of aiomysql and asyncmy, which are much alike: by a pool, and without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import Any

import aiomysql
import asyncmy
import asyncmy.cursors
import asyncmy.errors
import pymysql

from tests.transactions.drivers.libraries import Handler, UndoError, handler, library
from tests.transactions.drivers.of_pymysql import PROCEDURE
from tests.transactions.drivers.servers import MariaDB

HANDLERS: list[Handler] = []
POOLED: list[Handler] = []
PREPARED: list[Handler] = []
INSERT = "INSERT INTO item (name, n) VALUES (%s, %s)"
COUNT = "SELECT count(*) FROM item"


class World:
    """
    A driver, and where its handlers connect to.

    Attributes:
        cursors: Its module of cursors.
        errors: Its module of errors.
        pool: A pool of one connection.
    """

    def __init__(
        self, driver: ModuleType, cursors: Any, errors: Any, store: MariaDB, **options: Any
    ) -> None:
        self.driver: Any = driver
        self.cursors, self.errors = cursors, errors
        self.parameters = {**store.parameters, **options}
        if driver is aiomysql:
            self.parameters["db"] = self.parameters.pop("database")
        self.pool: Any = None

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Any]:
        connection = await self.driver.connect(**{**self.parameters, **options})
        try:
            yield connection
        finally:
            await connection.ensure_closed()


def flags(connection: Any) -> list[bool]:
    """Whether statements commit by themselves, and whether a transaction is open."""
    return [connection.get_autocommit(), connection.get_transaction_status()]


async def add(world: World, name: str) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, (name, 0))
        await connection.commit()
    return name


@handler(HANDLERS)
async def insert(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        told = [await cursor.execute(INSERT, ("new", 1)), flags(connection)]
        told += [cursor.lastrowid, cursor.rowcount, cursor.description, connection.insert_id()]
        await connection.commit()
        return [*told, flags(connection), connection.affected_rows()]


@handler(HANDLERS)
async def each_commits(world: World) -> Any:
    async with world.connect(autocommit=True) as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        told = flags(connection)
        await connection.rollback()
        return [told, flags(connection)]


@handler(HANDLERS)
async def explicit_begin(world: World) -> Any:
    async with world.connect(autocommit=True) as connection, connection.cursor() as cursor:
        await connection.begin()
        told = [flags(connection)]
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
        told.append(flags(connection))
        await cursor.execute("BEGIN")
        told += [flags(connection), cursor.rowcount, cursor.lastrowid]
        await cursor.execute(INSERT, ("b", 1))
        await cursor.execute("ROLLBACK")
        return [*told, flags(connection)]


@handler(HANDLERS)
async def nested(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await cursor.execute("SAVEPOINT inner_one")
        await cursor.execute(INSERT, ("b", 1))
        await connection._execute_command(3, "ROLLBACK TO SAVEPOINT inner_one")
        await connection._read_ok_packet()
        await connection._execute_command(3, "RELEASE SAVEPOINT inner_one")
        await connection._read_ok_packet()
        await connection.commit()
        await cursor.execute(COUNT)
        return await cursor.fetchall()


@handler(HANDLERS)
async def rollback(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await connection.rollback()
        told = flags(connection)
        await cursor.execute(INSERT, ("b", 1))
        await connection.commit()
    return told


@handler(HANDLERS)
async def forgotten_commit(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        return flags(connection)


@handler(HANDLERS)
async def closed_at_once(world: World) -> Any:
    connection = await world.driver.connect(**world.parameters)
    cursor = await connection.cursor()
    await cursor.execute(INSERT, ("a", 1))
    connection.close()
    async with world.connect() as other, other.cursor() as its:
        await its.execute(INSERT, ("a", 2))
        await other.commit()
        try:
            await cursor.execute(COUNT)
        except world.errors.InterfaceError as error:
            return str(error)


@handler(HANDLERS)
async def an_error_leaves_the_block(world: World) -> Any:
    with suppress(UndoError):
        async with await world.driver.connect(**world.parameters) as connection:
            cursor = await connection.cursor()
            await cursor.execute(INSERT, ("a", 1))
            raise UndoError
    await asyncio.sleep(0)  # only the event loop closes it
    return "done"


@handler(HANDLERS)
async def caught(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        try:
            await cursor.execute(INSERT, ("one", 1))
        except world.errors.IntegrityError as error:
            told = list(error.args)
        await cursor.execute(INSERT, ("b", 1))
        await connection.commit()
    return told


@handler(HANDLERS)
async def autocommit_switched(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await connection.autocommit(True)  # commits
        told = [flags(connection)]
        await cursor.execute(INSERT, ("b", 1))
        await connection.autocommit(False)
        await cursor.execute(INSERT, ("c", 1))
        await connection.rollback()
        await cursor.execute("SET autocommit = 1")
        told.append(flags(connection)[:1])
        await cursor.execute(INSERT, ("d", 1))
        await connection.ping()
        return [*told, flags(connection)]


@handler(HANDLERS)
async def two_connections(world: World) -> Any:
    async with world.connect() as one, world.connect() as other:
        cursor = await one.cursor()
        await cursor.execute(INSERT, ("a", 1))
        await one.commit()
        its = await other.cursor()
        await its.execute(COUNT)
        await other.rollback()
        await cursor.execute(INSERT, ("b", 1))
        await one.rollback()
        return await its.fetchall()


@handler(HANDLERS)
async def each_with_its_settings(world: World) -> Any:
    first = "SET SESSION time_zone = '+03:00'"
    async with world.connect(init_command=first) as one, world.connect() as other:
        told = []
        for command in ("SELECT 1", "SET time_zone = '+05:00'"):
            cursor = await one.cursor()
            await cursor.execute(command)
            for connection in (other, one):
                cursor = await connection.cursor()
                await cursor.execute("SELECT @@time_zone")
                told.append(await cursor.fetchone())
        cursor = await other.cursor()
        await cursor.execute(INSERT, ("a", 1))
        await other.commit()
        return told


@handler(HANDLERS)
async def gather(world: World) -> Any:
    return await asyncio.gather(*(add(world, f"g{one}") for one in range(4)))


@handler(HANDLERS)
async def read_after_write(world: World) -> Any:
    async with (
        world.connect() as connection,
        connection.cursor(world.cursors.DictCursor) as cursor,
    ):
        await cursor.execute(INSERT, ("a", 7))
        await cursor.execute("SELECT name, n FROM item ORDER BY name")
        told = [await cursor.fetchone(), await cursor.fetchmany(1), await cursor.fetchall()]
        await connection.commit()
        return [*told, cursor.rowcount, [column[0] for column in cursor.description]]


@handler(HANDLERS)
async def many(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        told = [await cursor.executemany(INSERT, [(f"n{n}", n) for n in range(5)])]
        told.append(cursor.lastrowid)
        change = "UPDATE item SET n = n + 1 WHERE name = %s"
        told.append(await cursor.executemany(change, [("n1",), ("n2",), ("none",)]))
        await connection.commit()
        return [*told, cursor.rowcount]


@handler(HANDLERS)
async def several_statements(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(
            "INSERT INTO item (name) VALUES ('a'); SELECT name FROM item ORDER BY name; SELECT 5"
        )
        told: list[Any] = [cursor.rowcount]
        while await cursor.nextset():
            told.append(await cursor.fetchall())
        await cursor.execute("SELECT 1; SELECT 2; SELECT 3")
        await cursor.nextset()
        await cursor.execute("SELECT 4")
        told += [await cursor.fetchall(), await cursor.nextset()]
        try:
            await cursor.execute("UPDATE item SET n = 7; INSERT INTO item SET name = 'one'")
            await cursor.nextset()
        except world.errors.IntegrityError as error:
            told += error.args
        await connection.rollback()
        return told


@handler(HANDLERS)
async def unbuffered(world: World) -> Any:
    async with world.connect() as connection, world.connect() as other:
        cursor = await connection.cursor(world.cursors.SSCursor)
        await cursor.execute("SELECT name FROM item ORDER BY name")
        told = [str(cursor.rowcount), await cursor.fetchone()]
        its = await other.cursor()
        await its.execute(INSERT, ("a", 1))
        await other.commit()
        told += [await cursor.fetchmany(5), await cursor.fetchone(), cursor.rownumber]
        await cursor.close()
        async with connection.cursor(world.cursors.SSDictCursor) as rows:
            await rows.execute("SELECT name, n FROM item WHERE name IN ('one', 'two')")
            told.append(await rows.fetchall())
        # The rest is dropped.
        cursor = await connection.cursor(world.cursors.SSCursor)
        await cursor.execute("SELECT name FROM item")
        await cursor.fetchone()
        await cursor.close()
        its = await connection.cursor()
        await its.execute(INSERT, ("b", 1))
        await connection.commit()
        return told


@handler(HANDLERS)
async def procedure(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        told = [await cursor.callproc("more", (3, 0)), await cursor.fetchall()]
        while await cursor.nextset():
            told.append(await cursor.fetchall())
        await cursor.execute("SELECT @_more_1")
        await connection.commit()
        return [*told, await cursor.fetchall()]


@handler(HANDLERS)
async def warnings_shown(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        with suppress(pymysql.Warning):
            await cursor.execute("INSERT IGNORE INTO item (name) VALUES ('one')")
        told = [await connection.show_warnings()]
        await cursor.execute("SELECT 1")
        told.append(await connection.show_warnings())
        await connection.commit()
        return told


@handler(HANDLERS)
async def converters(world: World) -> Any:
    def shout(text: Any) -> str:
        return f"{text}!"

    found = aiomysql.connection.decoders
    if world.driver is asyncmy:
        found = asyncmy.converters.conversions
    told = []
    async with world.connect(conv={**found, 3: shout, 8: shout}) as one, world.connect() as other:
        for connection in (one, other, one):
            cursor = await connection.cursor()
            await cursor.execute("SELECT n, name FROM item ORDER BY n")
            told.append(await cursor.fetchall())
        return told


@handler(HANDLERS)
async def reconnects(world: World) -> Any:
    async with world.connect() as connection:
        cursor = await connection.cursor()
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
        await cursor.execute(INSERT, ("b", 1))
        connection.close()
        await connection.ping()
        told = flags(connection)
        cursor = await connection.cursor()
        await cursor.execute(INSERT, ("c", 1))
        await connection.commit()
        return told


@handler(HANDLERS, because="select_db")
async def another_database(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
        await connection.select_db("information_schema")
    return "done"


@handler(HANDLERS, because="LOAD DATA LOCAL")
async def loads_a_file(world: World) -> Any:
    async with world.connect(local_infile=True) as connection, connection.cursor() as cursor:
        with suppress(Exception):
            await cursor.execute("LOAD DATA LOCAL INFILE '/none' INTO TABLE item")
    return "done"


@handler(HANDLERS)
async def a_database_of_its_own_choice(world: World) -> Any:
    name = "db" if world.driver is aiomysql else "database"
    async with world.connect(**{name: "mysql"}) as connection:
        await connection.select_db(world.parameters[name])
        cursor = await connection.cursor()
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
    return "done"


@handler(HANDLERS)
async def only_reads(world: World) -> Any:
    async with world.connect() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT name, n FROM item ORDER BY name")
        return [row async for row in cursor]


# Pools -------------------------------------------------------------------------------------------


async def add_pooled(world: World, name: str) -> Any:
    async with world.pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, (name, 0))
        await connection.commit()
    return name


@handler(POOLED)
async def pooled_insert(world: World) -> Any:
    async with world.pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
        return [cursor.lastrowid, flags(connection)]


@handler(POOLED)
async def pooled_and_forgotten(world: World) -> Any:
    # The pool closes a connection that comes back with a transaction open.
    async with world.pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
    await add_pooled(world, "a")
    async with world.pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(COUNT)
        await connection.rollback()
        return [await cursor.fetchall(), world.pool.size]


@handler(POOLED)
async def pooled_in_turn(world: World) -> Any:
    await asyncio.gather(*(add_pooled(world, f"g{one}") for one in range(5)))
    return world.pool.size


@handler(POOLED)
async def pooled_and_released(world: World) -> Any:
    connection = await world.pool.acquire()
    cursor = await connection.cursor()
    await cursor.execute(INSERT, ("a", 1))
    await connection.rollback()
    await world.pool.release(connection)
    await add_pooled(world, "a")
    return world.pool.freesize


@handler(POOLED)
async def a_pool_of_its_own(world: World) -> Any:
    async with (
        world.driver.create_pool(**world.parameters, minsize=1, maxsize=2, autocommit=True) as pool,
        pool.acquire() as connection,
        connection.cursor() as cursor,
    ):
        await cursor.execute(INSERT, ("a", 1))
        await cursor.execute("SELECT @@group_concat_max_len")
        return [await cursor.fetchall(), flags(connection)]


async def _aiomysql(store: MariaDB, **options: Any) -> World:
    return World(aiomysql, aiomysql.cursors, pymysql.err, store, **options)


async def _asyncmy(store: MariaDB, **options: Any) -> World:
    return World(asyncmy, asyncmy.cursors, asyncmy.errors, store, **options)


@library("aiomysql", driver="aiomysql", is_async=True, handlers=HANDLERS, add=add)
async def by_aiomysql(store: MariaDB) -> AsyncIterator[World]:
    store.run(*PROCEDURE)
    yield await _aiomysql(store)


@library("asyncmy", driver="asyncmy", is_async=True, handlers=HANDLERS, add=add)
async def by_asyncmy(store: MariaDB) -> AsyncIterator[World]:
    store.run(*PROCEDURE)
    yield await _asyncmy(store)


@asynccontextmanager
async def pooled(world: World) -> AsyncIterator[World]:
    world.parameters["init_command"] = "SET SESSION group_concat_max_len = 99"
    async with world.driver.create_pool(**world.parameters, minsize=1, maxsize=1) as pool:
        world.pool = pool
        yield world


@library("aiomysql-pool", driver="aiomysql", is_async=True, handlers=POOLED, add=add_pooled)
async def pooled_by_aiomysql(store: MariaDB) -> AsyncIterator[World]:
    async with pooled(await _aiomysql(store)) as world:
        yield world


@library("asyncmy-pool", driver="asyncmy", is_async=True, handlers=POOLED, add=add_pooled)
async def pooled_by_asyncmy(store: MariaDB) -> AsyncIterator[World]:
    async with pooled(await _asyncmy(store)) as world:
        yield world


# Statements that the server prepares -------------------------------------------------------------


@handler(PREPARED, because="stmt_cache_size")
async def prepared(world: World) -> Any:
    async with world.connect() as connection:
        statement = await connection.prepare("INSERT INTO item (name) VALUES (?)")
        await statement.execute(("a",))
        await statement.close()
        await connection.commit()
    return "done"


@handler(PREPARED, because="stmt_cache_size")
async def prepared_by_the_driver(world: World) -> Any:
    async with world.connect(stmt_cache_size=10) as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT, ("a", 1))
        await connection.commit()
    return "done"


@library("asyncmy-prepared", driver="asyncmy", is_async=True, handlers=PREPARED, add=add)
async def preparing(store: MariaDB) -> AsyncIterator[World]:
    yield await _asyncmy(store)
