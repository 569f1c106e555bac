"""Sync engines on the event loop: batches and others wait for one another, and nobody for ever."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import ask, call
from tests.transactions.sqlalchemy.test_oracle import Databases, ask_plainly
from tests.transactions.sqlalchemy.worlds import DRIVERS, Item, World

FAMILIES = {**DRIVERS, "mysqldb": "mysql"}
SYNC = ["pysqlite", "psycopg2", "psycopg", "pymysql"]
if importlib.util.find_spec("MySQLdb"):
    SYNC.append("mysqldb")

ADD = sa.text("UPDATE item SET n = n + 1 WHERE name = :name")
GOOD, OLD, READ = call("POST", "/good"), call("POST", "/old"), call("GET", "/read")


def slow(seconds: float) -> Any:
    return call("POST", f"/slow?seconds={seconds}")


def house(engine: sa.Engine) -> FastAPI:
    """An app with one sync engine, used by ``def`` handlers and on the event loop."""
    app = FastAPI()

    def add(name: str = "one") -> None:
        with Session(engine) as session:
            session.execute(ADD, {"name": name})
            session.commit()

    @app.post("/good")
    def good(name: str = "one") -> None:
        add(name)

    @app.post("/old")
    async def old(name: str = "one") -> None:
        add(name)

    @app.get("/read")
    async def read() -> int:
        with Session(engine) as session:
            count: int = session.execute(sa.text("SELECT count(*) FROM item")).scalar_one()
            return count

    @app.post("/slow")
    async def slow(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @app.post("/block")
    async def block(seconds: float) -> None:
        time.sleep(seconds)

    async def session() -> AsyncIterator[Session]:
        with Session(engine) as session:
            session.execute(sa.select(Item)).all()
            yield session

    @app.post("/behind")
    def behind(session: Annotated[Session, Depends(session)]) -> None:
        session.execute(ADD, {"name": "one"})
        session.commit()

    @app.post("/uow")
    async def uow(name: str = "one") -> None:
        with Session(engine) as session:
            session.execute(ADD, {"name": name})
            await asyncio.sleep(0.3)
            session.commit()

    return app


async def after(seconds: float, answer: Awaitable[Any]) -> tuple[Any, float]:
    """Await something after a time; tell how long it took."""
    await asyncio.sleep(seconds)
    start = time.monotonic()
    return await answer, time.monotonic() - start


@asynccontextmanager
async def disposing(*worlds: World) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for world in worlds:
            await world.dispose()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(bounded())


@pytest.mark.parametrize("driver", SYNC)
def test_the_loop_waits_for_a_row_of_the_batch(driver: str, databases: Databases) -> None:
    """
    A plain request waits on the event loop for a row that a batch holds: the batch gives way.

    It is then run again, and both have done what they were to do.
    """
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            app = AtomicBatch(house(world.engine), transaction=SQLAlchemyTransaction())
            batch, (old, seconds), (read, _) = await asyncio.gather(
                ask(app, GOOD, slow(0.5), GOOD),
                after(0.2, ask_plainly(app, OLD)),
                after(0.3, ask_plainly(app, READ)),
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert (old.status, read.status) == (200, 200)
            assert seconds < 3
            assert world.checked_out() == 0

    run(main)
    assert ("one", 13) in database.rows()


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg_async", "aiomysql", "asyncmy"])
def test_an_async_batch_and_a_sync_engine_on_the_loop(driver: str, databases: Databases) -> None:
    """A batch of an async engine gives way to a sync engine of the same database as well."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)
    other = World(
        {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql"}[database.family],
        database,
    )
    app = house(other.engine)

    @app.post("/new")
    async def new() -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(ADD, {"name": "one"})
            await session.commit()

    async def main() -> None:
        async with disposing(world, other):
            wrapped = AtomicBatch(app, transaction=SQLAlchemyTransaction())
            new = call("POST", "/new")
            batch, (old, seconds), (read, _) = await asyncio.gather(
                ask(wrapped, new, slow(0.5), new),
                after(0.2, ask_plainly(wrapped, OLD)),
                after(0.3, ask_plainly(wrapped, READ)),
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert (old.status, read.status) == (200, 200)
            assert seconds < 3
            assert world.checked_out() == 0

    run(main)
    assert ("one", 13) in database.rows()
