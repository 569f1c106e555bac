"""A batch that gives way is undone at whatever it is about, or has been committed: never both."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import ConflictError
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.transactions.sqlalchemy.attempt import SQLAlchemyAttempt
from tests.asgi.asking import ask, call
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.worlds import DRIVERS, World

SLOW = {"postgresql": "SELECT pg_sleep(5)", "mysql": "SELECT sleep(5)"}
ALL = [
    *("pysqlite", "aiosqlite", "psycopg2", "psycopg", "psycopg_async", "asyncpg"),
    *("pymysql", "aiomysql", "asyncmy"),
]


class Push(ConflictError):
    """Why the batch is to give way here; it may be run again."""


class Pushing(SQLAlchemyTransaction):
    """Lets a test get hold of the attempts at a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[SQLAlchemyAttempt] = []

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        begun = super().begin(*args, **kwargs)

        @asynccontextmanager
        async def block() -> Any:
            async with begun as joined:
                self.attempts.append(joined)
                yield joined

        return block()

    def push(self) -> bool:
        """Let the attempt of now give way, as the watchdog does; in another thread."""
        return self.attempts[-1].give_way(Push("pushed"), None)


def run(world: World, main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            async with asyncio.timeout(60):
                await main()
        finally:
            await world.dispose()

    asyncio.run(whole())


def adding(world: World) -> FastAPI:
    """An app that adds 1 to a row, by one handler of each kind of engine."""
    app = FastAPI()
    add = sa.text("UPDATE item SET n = n + 1 WHERE name = 'one'")

    if world.is_async:

        @app.post("/add")
        async def add_async() -> None:
            async with AsyncSession(world.async_engine) as session:
                await session.execute(add)
                await session.commit()
    else:

        @app.post("/add")
        def add_sync() -> None:
            with Session(world.engine) as session:
                session.execute(add)
                session.commit()

    return app


ADD, PAUSE = call("POST", "/add"), call("POST", "/pause")


@pytest.mark.parametrize("driver", ALL)
def test_between_two_calls(driver: str, databases: Databases) -> None:
    """The row is free at once, although the event loop stands still; then the batch runs again."""
    database = databases(DRIVERS[driver])
    world, transaction = World(driver, database), Pushing()
    app = adding(world)
    pushed: list[bool] = []

    @app.post("/pause")
    async def pause() -> None:
        if not pushed:
            # The loop stands still, so that nobody but the other thread can undo anything.
            thread = threading.Thread(target=push)
            Context().run(thread.start)  # no part of the call
            thread.join()

    def push() -> None:
        pushed.append(transaction.push())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(Exception):
                database.run(*patience(database.family), ADD_TEN)
                return

    async def main() -> None:
        answer = await ask(AtomicBatch(app, transaction=transaction), ADD, PAUSE, ADD)
        assert answer.outcome == "committed"
        assert answer.headers["batch-attempts"] == "2"
        assert pushed == [True]
        assert world.checked_out() == 0

    run(world, main)
    assert ("one", 22) in database.rows()


ADD_TEN = "UPDATE item SET n = n + 10 WHERE name = 'one'"


def patience(family: str) -> list[str]:
    return {
        "postgresql": ["SET lock_timeout = 500"],
        "mysql": ["SET innodb_lock_wait_timeout = 1"],
        "sqlite": [],
    }[family]


@pytest.mark.parametrize("driver", [driver for driver in ALL if DRIVERS[driver] != "sqlite"])
def test_in_the_middle_of_a_statement(driver: str, databases: Databases) -> None:
    """It is stopped, wherever it runs."""
    database = databases(DRIVERS[driver])
    world, transaction = World(driver, database), Pushing()
    app = adding(world)
    slow = sa.text(SLOW[database.family])
    timers: list[threading.Timer] = []

    def soon() -> bool:
        if timers:
            return False
        timers.append(threading.Timer(0.3, transaction.push))
        timers[0].start()
        return True

    if world.is_async:

        @app.post("/pause")
        async def pause() -> None:
            async with AsyncSession(world.async_engine) as session:
                if soon():
                    await session.execute(slow)
    else:

        @app.post("/pause")
        def pause_in_thread() -> None:
            with Session(world.engine) as session:
                if soon():
                    session.execute(slow)

    async def main() -> None:
        start = time.monotonic()
        answer = await ask(AtomicBatch(app, transaction=transaction), ADD, PAUSE, ADD)
        assert answer.outcome == "committed"
        assert answer.headers["batch-attempts"] == "2"
        assert time.monotonic() - start < 4
        assert world.checked_out() == 0

    run(world, main)
    timers[0].join()
    assert ("one", 12) in database.rows()


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "psycopg_async", "asyncpg"])
def test_during_commit(driver: str, databases: Databases) -> None:
    """COMMIT that has begun is through: it does not give way, and is not run again."""
    database = databases("postgresql")
    database.run(
        "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_sleep(1); RETURN NULL; END$$",
        "CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    world, transaction = World(driver, database), Pushing()
    pushed: list[bool] = []

    async def main() -> None:
        app = AtomicBatch(adding(world), transaction=transaction)
        batch = asyncio.create_task(ask(app, ADD))
        while not database.run(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%COMMIT' AND state = 'active' "
            "AND datname = current_database()"
        ):
            await asyncio.sleep(0.02)
        pushed.append(await asyncio.to_thread(transaction.push))
        answer = await batch
        assert answer.outcome == "committed"
        assert "batch-attempts" not in answer.headers
        assert pushed == [False]

    try:
        run(world, main)
    finally:
        database.run("DROP TRIGGER dawdle ON item")
    assert ("one", 11) in database.rows()


@pytest.mark.parametrize("batches", [15, pytest.param(40, marks=pytest.mark.prove)])
@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite", "psycopg2", "asyncpg", "aiomysql"])
def test_at_any_moment(driver: str, batches: int, databases: Databases) -> None:
    """Pushed at random: what is answered for is stored, and nothing else, and once."""
    database = databases(DRIVERS[driver])
    world, transaction = World(driver, database), Pushing()
    ended = threading.Event()
    pushes: list[bool] = []

    def push() -> None:
        delay = 0.0
        while not ended.wait(delay % 0.011):
            delay += 0.00037
            with suppress(IndexError):
                pushes.append(transaction.push())

    async def main() -> None:
        app = AtomicBatch(adding(world), transaction=transaction)
        thread = threading.Thread(target=push)
        thread.start()
        committed = 0
        try:
            for _ in range(batches):
                answer = await ask(app, ADD, ADD, ADD)
                committed += answer.outcome == "committed"
                assert ("one", 10 + 3 * committed) in database.rows(), answer.body
        finally:
            ended.set()
            thread.join()
        assert True in pushes
        assert world.checked_out() == 0

    run(world, main)


def test_two_databases(databases: Databases) -> None:
    """Both are undone, the one that was read and the one that was written."""
    one, two = databases("postgresql"), databases("mysql")
    world, other, transaction = World("psycopg2", one), World("asyncmy", two), Pushing()
    app = adding(world)
    pushed: list[bool] = []

    @app.post("/pause")
    async def pause() -> None:
        async with AsyncSession(other.async_engine) as session:
            await session.execute(sa.text("SELECT n FROM item WHERE name = 'one' FOR UPDATE"))
            if not pushed:
                pushed.append(await asyncio.to_thread(transaction.push))

    async def main() -> None:
        answer = await ask(AtomicBatch(app, transaction=transaction), ADD, PAUSE, ADD)
        assert answer.outcome == "committed"
        assert answer.headers["batch-attempts"] == "2"
        await other.dispose()

    run(world, main)
    assert ("one", 12) in one.rows()
