"""Libraries that take no part in a batch: each inserts a row of ``t`` as its own docs say."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.databases import WITH_MYSQLCLIENT

Insert = Callable[[str], None] | Callable[[str], Coroutine[Any, Any, None]]


class Stranger(NamedTuple):
    """One library on one database."""

    name: str
    database: str
    """``sqlite``, ``postgresql`` or ``mariadb``."""
    library: str
    """As the message names it, and as it can be allowed."""
    open: Callable[[str], AbstractAsyncContextManager[Insert]]
    """Given the database's URL (or path), opens it and gives a handler's body."""


STRANGERS: list[Stranger] = []


def stranger(database: str, library: str) -> Callable[[Any], Any]:
    def take_down(make: Any) -> Any:
        opened = asynccontextmanager(make)
        if library != "MySQLdb" or WITH_MYSQLCLIENT:
            STRANGERS.append(Stranger(make.__name__, database, library, opened))
        return make

    return take_down


def server(url: str) -> dict[str, Any]:
    """What most drivers' connect() wants."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password or "",
        "database": parts.path.strip("/"),
    }


# peewee ------------------------------------------------------------------------------------------


def _of_peewee(db: Any) -> Any:
    import peewee

    class Row(peewee.Model):
        name = peewee.CharField()

        class Meta:
            database = db
            table_name = "t"

    return Row


@stranger("sqlite", "peewee")
async def peewee_sqlite(url: str) -> AsyncIterator[Insert]:
    import peewee

    db = peewee.SqliteDatabase(url)
    row = _of_peewee(db)

    def insert(name: str) -> None:
        with db.connection_context():
            row.create(name=name)

    yield insert


@stranger("sqlite", "peewee")
async def peewee_kept(url: str) -> AsyncIterator[Insert]:
    import peewee

    db = peewee.SqliteDatabase(url)
    row = _of_peewee(db)

    async def insert(name: str) -> None:
        db.connect(reuse_if_open=True)
        with db.atomic():
            row.create(name=name)

    yield insert
    db.close()


@stranger("postgresql", "peewee")
async def peewee_postgresql(url: str) -> AsyncIterator[Insert]:
    import peewee

    db = peewee.PostgresqlDatabase(**server(url))
    row = _of_peewee(db)

    def insert(name: str) -> None:
        with db.connection_context():
            row.create(name=name)

    yield insert


@stranger("mariadb", "peewee")
async def peewee_mariadb(url: str) -> AsyncIterator[Insert]:
    import peewee

    db = peewee.MySQLDatabase(**server(url))
    row = _of_peewee(db)

    def insert(name: str) -> None:
        with db.connection_context():
            row.create(name=name)

    yield insert


# Pony --------------------------------------------------------------------------------------------


def _of_pony(**binding: Any) -> tuple[Any, Insert]:
    from pony import orm

    db = orm.Database()
    db.bind(**binding)

    class Row(db.Entity):  # type: ignore[name-defined,misc]
        _table_ = "t"
        id = orm.PrimaryKey(int, auto=True)
        name = orm.Required(str)

    db.generate_mapping()

    def insert(name: str) -> None:
        with orm.db_session:
            Row(name=name)

    return db, insert


@stranger("sqlite", "pony")
async def pony_sqlite(url: str) -> AsyncIterator[Insert]:
    db, insert = _of_pony(provider="sqlite", filename=url)
    yield insert
    db.disconnect()


@stranger("sqlite", "pony")
async def pony_on_the_loop(url: str) -> AsyncIterator[Insert]:
    # By the connection that bind() has made.
    db, insert = _of_pony(provider="sqlite", filename=url)

    async def insert_on_loop(name: str) -> None:
        insert(name)

    yield insert_on_loop
    db.disconnect()


@stranger("postgresql", "pony")
async def pony_postgresql(url: str) -> AsyncIterator[Insert]:
    db, insert = _of_pony(provider="postgres", **server(url))
    yield insert
    db.disconnect()


@stranger("mariadb", "pony")
async def pony_mariadb(url: str) -> AsyncIterator[Insert]:
    of = server(url)
    of["db"], of["passwd"] = of.pop("database"), of.pop("password")
    db, insert = _of_pony(provider="mysql", **of)
    yield insert
    db.disconnect()


# Tortoise ----------------------------------------------------------------------------------------


async def _of_tortoise(url: str) -> AsyncIterator[Insert]:
    from tortoise import Tortoise
    from tortoise.backends.base.executor import EXECUTOR_CACHE

    from tests.doors.tortoise_models import Row

    EXECUTOR_CACHE.clear()  # SQL of another database's
    await Tortoise.init(
        db_url=url,
        modules={"models": ["tests.doors.tortoise_models"]},
    )

    async def insert(name: str) -> None:
        await Row.create(name=name)

    try:
        yield insert
    finally:
        await Tortoise.close_connections()


@stranger("sqlite", "tortoise")
async def tortoise_sqlite(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_tortoise(f"sqlite://{url}"):
        yield insert


@stranger("postgresql", "tortoise")
async def tortoise_asyncpg(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_tortoise(url.replace("postgresql://", "asyncpg://")):
        yield insert


@stranger("postgresql", "tortoise")
async def tortoise_psycopg(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_tortoise(url.replace("postgresql://", "psycopg://")):
        yield insert


@stranger("mariadb", "tortoise")
async def tortoise_mariadb(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_tortoise(url):
        yield insert


# Piccolo -----------------------------------------------------------------------------------------


def _of_piccolo(engine: Any) -> Insert:
    from piccolo.columns import Varchar
    from piccolo.table import Table

    class Row(Table, tablename="t", db=engine):
        name = Varchar()

    async def insert(name: str) -> None:
        await Row.insert(Row(name=name))

    return insert


@stranger("sqlite", "piccolo")
async def piccolo_sqlite(url: str) -> AsyncIterator[Insert]:
    from piccolo.engine.sqlite import SQLiteEngine

    yield _of_piccolo(SQLiteEngine(path=url))


@stranger("postgresql", "piccolo")
async def piccolo_postgresql(url: str) -> AsyncIterator[Insert]:
    from piccolo.engine.postgres import PostgresEngine

    engine = PostgresEngine(config=server(url), extensions=(), log_queries=False)
    await engine.start_connection_pool()
    yield _of_piccolo(engine)
    await engine.close_connection_pool()


# databases ---------------------------------------------------------------------------------------


async def _of_databases(url: str) -> AsyncIterator[Insert]:
    from databases import Database

    async with Database(url) as db:

        async def insert(name: str) -> None:
            async with db.transaction():
                await db.execute("INSERT INTO t (name) VALUES (:name)", {"name": name})

        yield insert


@stranger("sqlite", "databases")
async def databases_sqlite(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_databases(f"sqlite:///{url}"):
        yield insert


@stranger("postgresql", "databases")
async def databases_postgresql(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_databases(url):
        yield insert


@stranger("mariadb", "databases")
async def databases_aiomysql(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_databases(url.replace("mysql://", "mysql+aiomysql://")):
        yield insert


@stranger("mariadb", "databases")
async def databases_asyncmy(url: str) -> AsyncIterator[Insert]:
    async for insert in _of_databases(url.replace("mysql://", "mysql+asyncmy://")):
        yield insert


# SQLite's drivers --------------------------------------------------------------------------------


@stranger("sqlite", "sqlite3")
async def raw_sqlite3(url: str) -> AsyncIterator[Insert]:
    def insert(name: str) -> None:
        with closing(sqlite3.connect(url)) as connection, connection:
            connection.execute("INSERT INTO t (name) VALUES (?)", [name])

    yield insert


@stranger("sqlite", "sqlite3")
async def raw_sqlite3_script(url: str) -> AsyncIterator[Insert]:
    def insert(name: str) -> None:
        with closing(sqlite3.connect(url)) as connection:
            connection.executescript(f"BEGIN; INSERT INTO t (name) VALUES ('{name}'); COMMIT")

    yield insert


@stranger("sqlite", "sqlite3")
async def raw_sqlite3_many(url: str) -> AsyncIterator[Insert]:
    class Connection(sqlite3.Connection):
        def cursor(self) -> sqlite3.Cursor:  # type: ignore[override]
            return super().cursor(Cursor)

    class Cursor(sqlite3.Cursor):
        pass

    def insert(name: str) -> None:
        with closing(sqlite3.connect(url, 5.0, 0, "DEFERRED", True, Connection)) as connection:
            cursor = connection.cursor()
            assert type(connection).__name__ == "Connection"
            assert isinstance(cursor, Cursor)
            cursor.executemany("INSERT INTO t (name) VALUES (?)", [[name]])
            connection.commit()

    yield insert


@stranger("sqlite", "sqlite3")
async def raw_sqlite3_backup(url: str) -> AsyncIterator[Insert]:
    def insert(name: str) -> None:
        with closing(sqlite3.connect(":memory:")) as source:
            source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(99) NOT NULL)")
            source.execute("INSERT INTO t (name) VALUES (?)", [name])
            source.commit()
            with closing(sqlite3.connect(url)) as target:
                source.backup(target)

    yield insert


@stranger("sqlite", "sqlite3")
async def attached(url: str) -> AsyncIterator[Insert]:
    def insert(name: str) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("ATTACH ? AS other", [url])
            connection.execute("INSERT INTO other.t (name) VALUES (?)", [name])
            connection.commit()

    yield insert


@stranger("sqlite", "sqlite3")
async def in_a_thread(url: str) -> AsyncIterator[Insert]:
    async def insert(name: str) -> None:
        errors: list[Exception] = []

        def work() -> None:
            try:
                with closing(sqlite3.connect(url)) as connection, connection:
                    connection.execute("INSERT INTO t (name) VALUES (?)", [name])
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)

    yield insert


@stranger("sqlite", "aiosqlite")
async def raw_aiosqlite(url: str) -> AsyncIterator[Insert]:
    import aiosqlite

    async def insert(name: str) -> None:
        async with aiosqlite.connect(url) as connection:
            await connection.execute("INSERT INTO t (name) VALUES (?)", [name])
            await connection.commit()

    yield insert


@stranger("sqlite", "aiosqlite")
async def raw_aiosqlite_kept(url: str) -> AsyncIterator[Insert]:
    import aiosqlite

    async with aiosqlite.connect(url) as connection:

        async def insert(name: str) -> None:
            await connection.execute_insert("INSERT INTO t (name) VALUES (?)", [name])
            await connection.commit()

        yield insert


@stranger("sqlite", "sqlite3")
async def sqlalchemy_dialect(url: str) -> AsyncIterator[Insert]:
    # By SQLAlchemy, but neither by an engine nor by its pool.
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{url}")

    def insert(name: str) -> None:
        with closing(engine.dialect.connect(url)) as connection:
            connection.cursor().execute("INSERT INTO t (name) VALUES (?)", [name])
            connection.commit()

    yield insert
    engine.dispose()


# PostgreSQL's drivers ----------------------------------------------------------------------------


@stranger("postgresql", "asyncpg")
async def asyncpg_pool(url: str) -> AsyncIterator[Insert]:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:

        async def insert(name: str) -> None:
            await pool.execute("INSERT INTO t (name) VALUES ($1)", name)

        yield insert


@stranger("postgresql", "asyncpg")
async def asyncpg_simple(url: str) -> AsyncIterator[Insert]:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:

        async def insert(name: str) -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(f"INSERT INTO t (name) VALUES ('{name}')")

        yield insert


@stranger("postgresql", "asyncpg")
async def asyncpg_prepared(url: str) -> AsyncIterator[Insert]:
    import asyncpg

    connection = await asyncpg.connect(url)
    statement = await connection.prepare("INSERT INTO t (name) VALUES ($1)")

    async def insert(name: str) -> None:
        await statement.fetch(name)

    yield insert
    await connection.close()


@stranger("postgresql", "asyncpg")
async def asyncpg_copy(url: str) -> AsyncIterator[Insert]:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:

        async def insert(name: str) -> None:
            await pool.copy_records_to_table("t", records=[(name,)], columns=["name"])

        yield insert


@stranger("postgresql", "psycopg")
async def psycopg_sync(url: str) -> AsyncIterator[Insert]:
    import psycopg

    def insert(name: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO t (name) VALUES (%s)", [name])

    yield insert


@stranger("postgresql", "psycopg")
async def psycopg_composed(url: str) -> AsyncIterator[Insert]:
    import psycopg
    from psycopg import sql

    def insert(name: str) -> None:
        with psycopg.connect(url) as connection:
            query = sql.SQL("INSERT INTO {} (name) VALUES (%s)").format(sql.Identifier("t"))
            connection.cursor().executemany(query, [[name]])

    yield insert


@stranger("postgresql", "psycopg")
async def psycopg_copy(url: str) -> AsyncIterator[Insert]:
    import psycopg

    def insert(name: str) -> None:
        with (
            psycopg.connect(url) as connection,
            connection.cursor() as cursor,
            cursor.copy("COPY t (name) FROM STDIN") as copy,
        ):
            copy.write_row([name])

    yield insert


@stranger("postgresql", "psycopg")
async def psycopg_async(url: str) -> AsyncIterator[Insert]:
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url)

    async def insert(name: str) -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t (name) VALUES (%s)", [name])

    yield insert
    await connection.close()


@stranger("postgresql", "psycopg")
async def psycopg_pooled(url: str) -> AsyncIterator[Insert]:
    from psycopg_pool import ConnectionPool

    with ConnectionPool(url, min_size=1, open=False) as pool:

        def insert(name: str) -> None:
            with pool.connection() as connection:
                connection.execute("INSERT INTO t (name) VALUES (%s)", [name])

        yield insert


@stranger("postgresql", "psycopg2")
async def psycopg2_sync(url: str) -> AsyncIterator[Insert]:
    import psycopg2

    def insert(name: str) -> None:
        connection = psycopg2.connect(url)
        with closing(connection), connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO t (name) VALUES (%s)", [name])

    yield insert


@stranger("postgresql", "psycopg2")
async def psycopg2_copy(url: str) -> AsyncIterator[Insert]:
    import io

    import psycopg2

    def insert(name: str) -> None:
        connection = psycopg2.connect(url)
        with closing(connection), connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY t (name) FROM STDIN", io.StringIO(f"{name}\n"))

    yield insert


@stranger("postgresql", "psycopg2")
async def psycopg2_extras(url: str) -> AsyncIterator[Insert]:
    import psycopg2
    from psycopg2.extras import RealDictCursor, execute_values

    def insert(name: str) -> None:
        connection = psycopg2.connect(url, cursor_factory=RealDictCursor)
        with closing(connection), connection, connection.cursor() as cursor:
            assert isinstance(cursor, RealDictCursor)
            execute_values(cursor, "INSERT INTO t (name) VALUES %s", [(name,)])

    yield insert


# MariaDB's drivers -------------------------------------------------------------------------------


@stranger("mariadb", "pymysql")
async def pymysql_sync(url: str) -> AsyncIterator[Insert]:
    import pymysql

    def insert(name: str) -> None:
        connection = pymysql.connect(**server(url))
        with connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO t (name) VALUES (%s)", [[name]])
            connection.commit()

    yield insert


@stranger("mariadb", "MySQLdb")
async def mysqlclient(url: str) -> AsyncIterator[Insert]:
    import MySQLdb

    def insert(name: str) -> None:
        with closing(MySQLdb.connect(**server(url))) as connection:
            connection.cursor().execute("INSERT INTO t (name) VALUES (%s)", [name])
            connection.commit()

    yield insert


@stranger("mariadb", "aiomysql")
async def raw_aiomysql(url: str) -> AsyncIterator[Insert]:
    import aiomysql

    of = server(url)
    of["db"] = of.pop("database")
    async with aiomysql.create_pool(**of, autocommit=True) as pool:

        async def insert(name: str) -> None:
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("INSERT INTO t (name) VALUES (%s)", [name])

        yield insert


@stranger("mariadb", "asyncmy")
async def raw_asyncmy(url: str) -> AsyncIterator[Insert]:
    import asyncmy

    async with asyncmy.create_pool(**server(url), autocommit=True) as pool:

        async def insert(name: str) -> None:
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("INSERT INTO t (name) VALUES (%s)", [name])

        yield insert
