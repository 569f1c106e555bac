"""SQLModel's handlers, on every driver that SQLAlchemy can use; by the drivers' doors alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, Session, SQLModel, create_engine, select
from sqlmodel.ext.asyncio.session import AsyncSession

from tests.databases import DIALECT
from tests.transactions.drivers.files import File, Store
from tests.transactions.drivers.libraries import (
    DATABASES,
    SERVERS,
    Handler,
    UndoError,
    early_of,
    handler,
    library,
)
from tests.transactions.drivers.servers import Server

HANDLERS: list[Handler] = []
ASYNC: list[Handler] = []
COUNT = sa.text("SELECT count(*) FROM item")
INSERT = "INSERT INTO item (name, n) VALUES ('a', 1)"


class Item(SQLModel, table=True):
    """A row of ``item``."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=60, unique=True)
    n: int = 0


def _count(session: Any) -> Any:
    return session.execute(COUNT).scalar_one()


# Sync --------------------------------------------------------------------------------------------


def add(engine: Any, name: str) -> Any:
    with Session(engine) as session:
        session.add(Item(name=name))
        session.commit()
    return name


@handler(HANDLERS)
def insert(engine: Any) -> Any:
    with Session(engine) as session:
        item = Item(name="new", n=1)
        session.add(item)
        session.commit()
        session.refresh(item)
        return item.model_dump()


@handler(HANDLERS)
def begin_block(engine: Any) -> Any:
    with Session(engine) as session, session.begin():
        session.add(Item(name="a"))
        session.add(Item(name="b"))
    return "done"


@handler(HANDLERS)
def nested(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="a"))
        try:
            with session.begin_nested():
                session.add(Item(name="b"))
                session.flush()
                raise UndoError
        except UndoError:
            pass
        session.commit()
        return _count(session)


@handler(HANDLERS)
def rollback(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="a"))
        session.flush()
        session.rollback()
        session.add(Item(name="b"))
        session.commit()
    return "done"


@handler(HANDLERS)
def forgotten_commit(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="a"))
        session.flush()
        return _count(session)


@handler(HANDLERS)
def caught(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="one"))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
        session.add(Item(name="b"))
        session.commit()
    return "done"


@handler(HANDLERS)
def caught_in_savepoint(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="a"))
        try:
            with session.begin_nested():
                session.add(Item(name="one"))
        except IntegrityError:
            session.add(Item(name="b"))
        session.commit()
    return "done"


@handler(HANDLERS)
def read_after_write(engine: Any) -> Any:
    with Session(engine) as session:
        session.add(Item(name="a", n=7))
        session.commit()
        return [item.model_dump() for item in session.exec(select(Item).order_by("name"))]


@handler(HANDLERS)
def autocommit(engine: Any) -> Any:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        connection.execute(sa.insert(Item), {"name": "a", "n": 1})
        connection.rollback()
    return "done"


@handler(HANDLERS)
def many(engine: Any) -> Any:
    with engine.begin() as connection:
        connection.execute(sa.insert(Item), [{"name": f"n{n}", "n": n} for n in range(5)])
        return connection.execute(COUNT).scalar_one()


@handler(HANDLERS)
def two_sessions(engine: Any) -> Any:
    with Session(engine) as outer:
        found = outer.exec(select(Item).where(Item.name == "one")).one()
        with Session(engine) as inner:
            inner.add(Item(name="a"))
            inner.commit()
        return found.n


# What no batch can do, on each driver -------------------------------------------------------------


@handler(HANDLERS, because="SERIALIZABLE", on=SERVERS)
def stricter_isolation(engine: Any) -> Any:
    with engine.connect() as connection:
        connection.execution_options(isolation_level="SERIALIZABLE")
        connection.execute(sa.insert(Item), {"name": "a", "n": 1})
        connection.commit()
    return "done"


@handler(HANDLERS, because="listens for notifications", on=("postgresql",))
def listens(engine: Any) -> Any:
    with engine.begin() as connection:
        connection.execute(sa.text("LISTEN channel"))
    return "done"


@handler(HANDLERS, because="two-phase", on=("postgresql",))
def two_phases(engine: Any) -> Any:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        for text in ("BEGIN", INSERT, "PREPARE TRANSACTION 'it'", "COMMIT PREPARED 'it'"):
            connection.execute(sa.text(text))
    return "done"


@handler(HANDLERS, because="two-phase", on=("mariadb",))
def two_phases_of_mysql(engine: Any) -> Any:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        for text in ("XA START 'it'", INSERT, "XA END 'it'", "XA PREPARE 'it'", "XA COMMIT 'it'"):
            connection.execute(sa.text(text))
    return "done"


@handler(HANDLERS)
def only_reads(engine: Any) -> Any:
    with Session(engine) as session:
        return sorted(
            name for (name,) in session.execute(sa.select(sa.column("name")).select_from(Item))
        )


# Async -------------------------------------------------------------------------------------------


async def add_async(engine: Any, name: str) -> Any:
    async with AsyncSession(engine) as session:
        session.add(Item(name=name))
        await session.commit()
    return name


@handler(ASYNC)
async def insert_async(engine: Any) -> Any:
    async with AsyncSession(engine) as session:
        item = Item(name="new", n=1)
        session.add(item)
        await session.commit()
        await session.refresh(item)
        return item.model_dump()


@handler(ASYNC)
async def nested_async(engine: Any) -> Any:
    async with AsyncSession(engine) as session:
        session.add(Item(name="a"))
        try:
            async with session.begin_nested():
                session.add(Item(name="b"))
                await session.flush()
                raise UndoError
        except UndoError:
            pass
        await session.commit()
        return await session.run_sync(_count)


@handler(ASYNC)
async def rollback_async(engine: Any) -> Any:
    async with AsyncSession(engine) as session:
        session.add(Item(name="a"))
        await session.flush()
        await session.rollback()
        session.add(Item(name="b"))
        await session.commit()
    return "done"


@handler(ASYNC)
async def caught_async(engine: Any) -> Any:
    async with AsyncSession(engine) as session:
        session.add(Item(name="one"))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
        session.add(Item(name="b"))
        await session.commit()
    return "done"


@handler(ASYNC)
async def read_after_write_async(engine: Any) -> Any:
    async with AsyncSession(engine) as session:
        session.add(Item(name="a", n=7))
        await session.commit()
        found = await session.exec(select(Item).order_by("name"))
        return [item.model_dump() for item in found]


@handler(ASYNC, because="SERIALIZABLE", on=SERVERS)
async def stricter_isolation_async(engine: Any) -> Any:
    # Not an option of the engine: where that fails, SQLAlchemy loses the connection.
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="SERIALIZABLE")
        await connection.execute(sa.insert(Item), {"name": "a", "n": 1})
        await connection.commit()
    return "done"


@handler(ASYNC, because="listens for notifications", on=("postgresql",))
async def listens_async(engine: Any) -> Any:
    async with engine.begin() as connection:
        await connection.execute(sa.text("LISTEN channel"))
    return "done"


@handler(ASYNC, because="two-phase", on=("mariadb",))
async def two_phases_of_mysql_async(engine: Any) -> Any:
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with own.connect() as connection:
        for text in ("XA START 'it'", INSERT, "XA END 'it'", "XA PREPARE 'it'", "XA COMMIT 'it'"):
            await connection.execute(sa.text(text))
    return "done"


@handler(ASYNC)
async def stream_async(engine: Any) -> Any:
    async with engine.connect() as connection:
        found = await connection.stream(sa.text("SELECT name FROM item ORDER BY name"))
        return [name async for (name,) in found]


@handler(ASYNC)
async def many_async(engine: Any) -> Any:
    async with engine.begin() as connection:
        await connection.execute(sa.insert(Item), [{"name": f"n{n}", "n": n} for n in range(5)])
    return "done"


# Drivers -----------------------------------------------------------------------------------------

DIALECTS = {
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite+aiosqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg-async": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": f"{DIALECT}+pymysql",
    "mysqlclient": f"{DIALECT}+mysqldb",
    "aiomysql": f"{DIALECT}+aiomysql",
    "asyncmy": f"{DIALECT}+asyncmy",
}


def _url(driver: str, store: Store) -> str:
    if isinstance(store, File):
        return f"{DIALECTS[driver]}:///{store.path}"
    assert isinstance(store, Server)
    return store.url_of(DIALECTS[driver])


def register_sync(driver: str) -> None:
    """Register SQLModel on a sync driver."""
    options: dict[str, Any] = {}
    if DATABASES[driver] != "sqlite":
        options = {"pool_size": 2, "max_overflow": 0}
    if driver == "pymysql":
        options["connect_args"] = {"ssl_disabled": True}

    @library(
        f"sqlmodel-{driver}",
        driver=driver,
        is_async=False,
        handlers=HANDLERS,
        add=add,
        early=early_of(driver),  # its pool keeps them
    )
    async def in_threads(store: Store) -> AsyncIterator[Any]:
        engine = create_engine(_url(driver, store), **options)
        yield engine
        engine.dispose()


def register_async(driver: str) -> None:
    """Register SQLModel on an async driver."""

    @library(f"sqlmodel-{driver}", driver=driver, is_async=True, handlers=ASYNC, add=add_async)
    async def on_loop(store: Store) -> AsyncIterator[Any]:
        engine = create_async_engine(_url(driver, store))
        yield engine
        await engine.dispose()


for _driver in ("sqlite3", "psycopg", "psycopg2", "pymysql", "mysqlclient"):
    register_sync(_driver)
for _driver in ("aiosqlite", "psycopg-async", "asyncpg", "aiomysql", "asyncmy"):
    register_async(_driver)
