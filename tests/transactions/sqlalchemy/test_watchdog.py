"""Sync engines on the event loop: batches and others wait for one another, and nobody for ever."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import Limits, on_commit
from atomicbatch.asgi import AtomicBatch
from atomicbatch.engine import Replay
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.transactions.sqlalchemy.watchdog import watchdog
from tests.asgi.asking import ask, call
from tests.databases import WITH_MYSQLCLIENT
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.test_oracle import ask_plainly
from tests.transactions.sqlalchemy.worlds import DRIVERS, Item, World

FAMILIES = {**DRIVERS, "mysqldb": "mysql"}
SYNC = ["pysqlite", "psycopg2", "psycopg", "pymysql"]
if WITH_MYSQLCLIENT:
    SYNC.append("mysqldb")

# One of each kind: PostgreSQL's waits for ever, SQLite's five seconds, MariaDB's fifty.
FEW = ["pysqlite", "psycopg2", "pymysql"]
ADD = sa.text("UPDATE item SET n = n + 1 WHERE name = :name")
GOOD, OLD, READ = call("POST", "/good"), call("POST", "/old"), call("GET", "/read")


def slow(seconds: float) -> Any:
    return call("POST", f"/slow?seconds={seconds}")


def house(engine: sa.Engine) -> FastAPI:
    """An app with one sync engine, used by ``def`` handlers and on the event loop."""
    app = FastAPI()
    app.state.mails = []

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
            session.commit()

    @app.post("/behind")
    def behind(session: Any = Depends(session)) -> None:  # noqa: B008
        session.execute(ADD, {"name": "one"})

    @app.post("/mail")
    def mail(text: str) -> None:
        on_commit(app.state.mails.append, text)

    @app.post("/uow")
    async def uow(name: str = "one") -> None:
        with Session(engine) as session:
            session.execute(ADD, {"name": name})
            await asyncio.sleep(0.3)
            session.commit()

    return app


def wrapped(app: FastAPI, **options: Any) -> AtomicBatch:
    return AtomicBatch(app, transaction=SQLAlchemyTransaction(), **options)


async def heartbeat(longest: list[float]) -> None:
    """Take down for how long the event loop has stood still."""
    while True:
        start = time.monotonic()
        await asyncio.sleep(0.01)
        longest[0] = max(longest[0], time.monotonic() - start)


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
            app = wrapped(house(world.engine))
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
            both = wrapped(app)
            new = call("POST", "/new")
            batch, (old, seconds), (read, _) = await asyncio.gather(
                ask(both, new, slow(0.5), new),
                after(0.2, ask_plainly(both, OLD)),
                after(0.3, ask_plainly(both, READ)),
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert (old.status, read.status) == (200, 200)
            assert seconds < 3
            assert world.checked_out() == 0

    run(main)
    assert ("one", 13) in database.rows()


BEHIND = call("POST", "/behind")


@pytest.mark.parametrize("driver", FEW)
def test_handlers_behind_async_dependencies(driver: str, databases: Databases) -> None:
    """Batches and requests at the same time, in a process that has seen none of it yet."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine))
            for _ in range(2):
                answers = await asyncio.gather(
                    *(ask(app, BEHIND, OLD, BEHIND) for _ in range(3)),
                    *(ask_plainly(app, BEHIND) for _ in range(3)),
                )
                assert [answer.outcome for answer in answers[:3]] == ["committed"] * 3
                assert [answer.status for answer in answers[3:]] == [200] * 3
            assert world.checked_out() == 0

    run(main)
    assert ("one", 10 + 2 * (9 + 3)) in database.rows()


@pytest.mark.parametrize("driver", FEW)
def test_the_first_batch_of_a_process_needs_one_attempt(driver: str, databases: Databases) -> None:
    """It begins on the event loop, where nothing is in the way, and is not run again for that."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine), replay=Replay(max_attempts=1))
            for _ in range(2):
                assert (await ask(app, BEHIND, OLD)).outcome == "committed"

    run(main)
    assert ("one", 14) in database.rows()


@pytest.mark.parametrize("driver", ["psycopg2", "pymysql"])
def test_what_is_not_in_the_way_changes_nothing(driver: str, databases: Databases) -> None:
    """Requests that read, and that write another row, on the loop: no attempt too many."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    times = 0

    async def attempts() -> str | None:
        transaction = SQLAlchemyTransaction()
        app = AtomicBatch(house(world.engine), transaction=transaction)
        two = call("POST", "/old?name=two")
        batch, *others = await asyncio.gather(
            ask(app, GOOD, slow(0.5), GOOD),
            *(after(0.02 * n, ask_plainly(app, READ)) for n in range(20)),
            *(after(0.02 * n, ask_plainly(app, two)) for n in range(20)),
        )
        assert batch.outcome == "committed"
        assert {answer.status for answer, _ in others} == {200}
        found: str | None = batch.headers.get("batch-attempts")
        assert transaction.wants_alone() == (found is not None)
        return found

    async def main() -> None:
        nonlocal times
        async with disposing(world):
            # On a machine that is busy, a statement may take as long as one that waits.
            while times < 3:
                times += 1
                if await attempts() is None:
                    return
            raise AssertionError("the batch was undone for nothing")

    run(main)
    assert database.rows() == [("one", 10 + 2 * times), ("two", 20 + 20 * times)]


def test_another_database_is_not_in_the_way(databases: Databases) -> None:
    """A batch of an async engine is not undone for a wait in another database."""
    postgresql, mysql = databases("postgresql"), databases("mysql")
    world, other = World("asyncpg", postgresql), World("pymysql", mysql)
    app = house(other.engine)
    holder = mysql.connect()
    holder.autocommit(False)

    @app.post("/new")
    async def new() -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(ADD, {"name": "one"})
            await session.commit()

    async def main() -> None:
        async with disposing(world, other):
            both = wrapped(app)
            holder.cursor().execute("UPDATE item SET n = 0 WHERE name = 'one'")
            threading.Timer(0.8, holder.commit).start()
            batch, (old, _) = await asyncio.gather(
                ask(both, call("POST", "/new"), slow(0.3), call("POST", "/new")),
                after(0.1, ask_plainly(both, OLD)),
            )
            assert (batch.outcome, old.status) == ("committed", 200)
            assert "batch-attempts" not in batch.headers

    run(main)
    holder.close()
    assert ("one", 12) in postgresql.rows()
    assert ("one", 1) in mysql.rows()


@pytest.mark.parametrize("driver", ["psycopg2", "pymysql"])
def test_a_pool_that_is_used_up(driver: str, databases: Databases) -> None:
    """
    Requests in threads wait for the batch and have all connections: the event loop gets one.
    """
    database = databases(FAMILIES[driver])
    world = World(driver, database, {"pool_size": 3, "max_overflow": 0})

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine))
            batch, *others = await asyncio.gather(
                ask(app, GOOD, slow(0.6), GOOD),
                after(0.2, ask_plainly(app, GOOD)),
                after(0.2, ask_plainly(app, GOOD)),
                after(0.4, ask_plainly(app, READ)),
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert [answer.status for answer, _ in others] == [200] * 3
            assert others[-1][1] < 5
            assert world.checked_out() == 0

    run(main)
    assert ("one", 14) in database.rows()


@pytest.mark.parametrize("driver", FEW)
def test_a_batch_does_not_wait_for_its_turn_on_the_loop(driver: str, databases: Databases) -> None:
    """Another batch has the only slot: the loop goes on, and the batch begins in a thread."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            transaction = SQLAlchemyTransaction(max_batches=1)
            app = AtomicBatch(house(world.engine), transaction=transaction)
            assert (await ask(app, GOOD)).outcome == "committed"  # what is slow but once
            longest = [0.0]
            beating = asyncio.create_task(heartbeat(longest))
            first, (second, seconds) = await asyncio.gather(
                ask(app, GOOD, slow(1)), after(0.2, ask(app, OLD))
            )
            beating.cancel()
            assert (first.outcome, second.outcome) == ("committed", "committed")
            assert second.headers["batch-attempts"] == "2"
            assert seconds > 0.5
            assert longest[0] < 0.4

    run(main)
    assert ("one", 13) in database.rows()


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "pymysql"])
def test_the_batch_waits_on_the_loop_for_a_row(driver: str, databases: Databases) -> None:
    """A request holds a row over an await, and can let go of it only when the batch gives way."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine))
            (uow, _), (batch, _) = await asyncio.gather(
                after(0, ask_plainly(app, call("POST", "/uow"))),
                after(0.1, ask(app, OLD, OLD)),
            )
            assert (uow.status, batch.outcome) == (200, "committed")
            assert world.checked_out() == 0

    run(main)
    assert ("one", 13) in database.rows()


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg2"])
def test_work_on_the_loop_takes_its_time(driver: str, databases: Databases) -> None:
    """A call that blocks the loop, but does not wait for the batch, commits at its own pace."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine))
            batch = await ask(app, GOOD, call("POST", "/block?seconds=1.5"), GOOD)
            assert batch.outcome == "committed"
            assert "batch-attempts" not in batch.headers

    run(main)
    assert ("one", 12) in database.rows()


@pytest.mark.parametrize("driver", [*FEW, "aiosqlite", "asyncpg", "aiomysql"])
def test_work_on_the_loop_beyond_the_limit(driver: str, databases: Databases) -> None:
    """The locks are free within a second after the limit; the answer follows."""
    database = databases(FAMILIES[driver])
    world = World(driver, database)
    app = house(world.engine)
    free: list[float] = []
    start = time.monotonic()

    @app.post("/new")
    async def new() -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(ADD, {"name": "one"})
            await session.commit()

    def other() -> None:
        with closing(database.connect()) as connection:
            cursor = connection.cursor()
            while not free and time.monotonic() < start + 20:
                with suppress(sqlite3.OperationalError):
                    cursor.execute("UPDATE item SET n = n + 100 WHERE name = 'one'")
                    free.append(time.monotonic())

    async def main() -> None:
        async with disposing(world):
            both = wrapped(app, limits=Limits(timeout_seconds=1))
            (thread := threading.Timer(0.5, other)).start()
            first = call("POST", "/new" if world.is_async else "/good")
            batch = await ask(both, first, call("POST", "/block?seconds=3"))
            assert batch.outcome == "rolled-back; failed=2; status=504"
            assert b"the event loop stood still, in house.<locals>.block (" in batch.body
            await asyncio.to_thread(thread.join)
            assert 1 < free[0] - start < 2.8
            # What was left behind is cleared away.
            while world.checked_out():
                await asyncio.sleep(0.01)

    run(main)
    assert ("one", 110) in database.rows()


def test_what_an_attempt_wanted_is_forgotten(databases: Databases) -> None:
    """A batch that gave way does after COMMIT what its last attempt has wanted, once."""
    database = databases("postgresql")
    world = World("psycopg2", database)

    async def main() -> None:
        async with disposing(world):
            app = house(world.engine)
            both = wrapped(app)
            batch, _ = await asyncio.gather(
                ask(both, call("POST", "/mail?text=once"), GOOD, slow(0.5)),
                after(0.2, ask_plainly(both, OLD)),
            )
            assert batch.headers["batch-attempts"] == "2"
            assert app.state.mails == ["once"]

    run(main)


def test_who_waits_is_named(databases: Databases) -> None:
    """A batch that may not be run again says which function made it give way."""
    database = databases("postgresql")
    world = World("psycopg2", database)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine), replay=Replay(max_attempts=1))
            batch, _ = await asyncio.gather(
                ask(app, GOOD, slow(0.5), GOOD), after(0.2, ask_plainly(app, OLD))
            )
            assert batch.statuses == [503] * 3
            assert b"house.<locals>.add (test_watchdog.py:" in batch.body

    run(main)
    assert ("one", 11) in database.rows()


def test_it_sleeps_while_nothing_is_open(databases: Databases) -> None:
    """The thread looks only while batches are open, and soon sleeps again."""
    # Batches that earlier tests have left hanging on purpose are looked after for ever.
    watchdog._watched.clear()
    database = databases("sqlite")
    world = World("pysqlite", database)

    async def main() -> None:
        async with disposing(world):
            assert (await ask(wrapped(house(world.engine)), GOOD)).outcome == "committed"
            assert watchdog.is_awake
            while watchdog.is_awake:
                await asyncio.sleep(0.05)

    run(main)


@pytest.mark.parametrize("driver", SYNC)
def test_many_at_a_time(driver: str, databases: Databases) -> None:
    """Whatever gives way to whom: what is answered for is stored, and nothing else, and once."""
    storm(driver, databases, batches=6, requests=30)


@pytest.mark.prove
@pytest.mark.parametrize("driver", SYNC)
def test_very_many_at_a_time(driver: str, databases: Databases) -> None:
    """The same with more of everything."""
    storm(driver, databases, batches=40, requests=400)


def storm(driver: str, databases: Databases, *, batches: int, requests: int) -> None:
    database = databases(FAMILIES[driver])
    world = World(driver, database)
    seconds = batches / 8
    # Those that hold a row over an await would wait for one another without any batch.
    kinds = (GOOD, OLD, READ)

    async def main() -> None:
        async with disposing(world):
            app = wrapped(house(world.engine))
            pause = slow(0.05)
            programs = ([GOOD, pause, GOOD], [BEHIND, pause, OLD], [OLD, pause, READ, GOOD])
            found = await asyncio.gather(
                *(after(seconds * n / batches, ask(app, *programs[n % 3])) for n in range(batches)),
                *(
                    after(seconds * n / requests, ask_plainly(app, kinds[n % 3]))
                    for n in range(requests)
                ),
            )
            committed = [answer.outcome == "committed" for answer, _ in found[:batches]]
            stored = [answer.status == 200 for answer, _ in found[batches:]]
            expected = 10 + 2 * sum(committed)
            expected += sum(done for n, done in enumerate(stored) if kinds[n % 3] is not READ)
            # None is held for longer than a few batches take, nor beyond what a door may hold it.
            assert max(seconds for _, seconds in found[batches:]) < 15
            assert ("one", expected) in database.rows()
            # SQLite's own waiting ends after five seconds; elsewhere nothing fails.
            assert all(committed)
            assert driver == "pysqlite" or all(stored)
            assert world.checked_out() == 0

    run(main)
