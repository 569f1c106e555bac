"""Replay: batches that meet a conflict run again, whole, and end as if they had run in turn."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import BackgroundTasks, HTTPException
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.engine import Replay
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.transactions.sqlalchemy.pooled import PooledLink
from atomicbatch.transactions.sqlalchemy.postgresql import PostgreSQLLink, kind_of_link
from tests.asgi.asking import Answer, ask, call
from tests.transactions.sqlalchemy.oracle import Databases, add
from tests.transactions.sqlalchemy.patterns import busy_elsewhere
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import DRIVERS, Item, SomebodyElse, World

SERVERS = sorted(set(DRIVERS) - {"pysqlite", "aiosqlite"})


class Meeting:
    """Lets as many calls as there are batches meet in their first attempt, so that they collide."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._count = count
        self._arrived = 0
        self._all = asyncio.Event()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            self._arrived += 1
            first = self._arrived <= self._count
        if first:
            self._barrier.wait(20)

    async def wait_async(self) -> None:
        self._arrived += 1
        if self._arrived == self._count:
            self._all.set()
        await self._all.wait()


def app_with(world: World, meeting: Meeting, hide: str = "") -> Any:
    """POST /change?name=...: reads a row, waits for the others, adds one to what it has read."""
    app = app_of(world)

    def answer_of(error: Exception | None) -> Any:
        if error is None:
            return "changed"
        if hide == "as 500":
            raise HTTPException(500)
        if hide == "as 409":
            raise HTTPException(409)
        if hide == "wholly":
            return "fine"
        raise error

    if world.is_async:

        @app.post("/change")
        async def change_async(name: str, background: BackgroundTasks) -> Any:
            background.add_task(RAN.append, name)
            failed = None
            async with AsyncSession(world.async_engine) as session:
                try:
                    item = (await session.scalars(sa.select(Item).where(Item.name == name))).one()
                    await meeting.wait_async()
                    item.n += 1
                    await session.commit()
                except sa.exc.DBAPIError as error:
                    failed = error
                    with suppress(Exception):
                        await session.rollback()
            return answer_of(failed)

    else:

        @app.post("/change")
        def change(name: str, background: BackgroundTasks) -> Any:
            background.add_task(RAN.append, name)
            failed = None
            with Session(world.engine) as session:
                try:
                    item = session.scalars(sa.select(Item).where(Item.name == name)).one()
                    meeting.wait()
                    item.n += 1
                    session.commit()
                except sa.exc.DBAPIError as error:
                    failed = error
                    with suppress(Exception):
                        session.rollback()
            return answer_of(failed)

    return app


RAN: list[str] = []


async def collide(
    world: World, count: int, *, hide: str = "", names: Any = None, **options: Any
) -> list[Answer]:
    replay = options.pop("replay", Replay(max_attempts=10))
    RAN.clear()
    try:
        app = AtomicBatch(
            app_with(world, Meeting(count), hide),
            transaction=SQLAlchemyTransaction(isolation_level="SERIALIZABLE", **options),
            replay=replay,
        )
        calls = [
            [call("POST", f"/change?name={name}") for name in chosen]
            for chosen in (names or [["one", "two"]] * count)
        ]
        return await asyncio.gather(*(ask(app, *batch) for batch in calls))
    finally:
        await world.dispose()


@pytest.mark.parametrize("driver", SERVERS)
@pytest.mark.parametrize("count", [2, 4])
def test_batches_that_collide(driver: str, count: int, databases: Databases) -> None:
    """Batches that read and change the same rows all commit in the end, and none is lost."""
    database = databases(DRIVERS[driver])
    answers = asyncio.run(collide(World(driver, database), count))
    assert [answer.outcome for answer in answers] == ["committed"] * count
    assert database.rows() == [("one", 10 + count), ("two", 20 + count)]
    attempts = [int(answer.headers.get("batch-attempts", "1")) for answer in answers]
    assert max(attempts) > 1
    # Of each attempt that failed the background tasks are forgotten.
    assert sorted(RAN) == sorted(["one", "two"] * count)


@pytest.mark.parametrize("driver", SERVERS)
@pytest.mark.parametrize("hide", ["as 500", "as 409", "wholly"])
def test_a_conflict_that_the_handler_hides(driver: str, hide: str, databases: Databases) -> None:
    """A handler that makes a 500, 409 or 200 of a conflict cannot keep the batch from replay."""
    database = databases(DRIVERS[driver])
    answers = asyncio.run(collide(World(driver, database), 2, hide=hide))
    assert [answer.outcome for answer in answers] == ["committed"] * 2
    assert database.rows() == [("one", 12), ("two", 22)]


@pytest.mark.parametrize("driver", SERVERS)
def test_opposite_lock_order(driver: str, databases: Databases) -> None:
    """Batches that lock rows in opposite order deadlock; the database ends one, which replays."""
    database = databases(DRIVERS[driver])
    names = [["one", "two"], ["two", "one"]]
    answers = asyncio.run(collide(World(driver, database), 2, names=names))
    assert [answer.outcome for answer in answers] == ["committed"] * 2
    assert database.rows() == [("one", 12), ("two", 22)]


@pytest.mark.parametrize("driver", SERVERS)
def test_attempts_are_exhausted(driver: str, databases: Databases) -> None:
    """When no attempt is left the batch is rolled back, and 503 asks the client to retry it."""
    database = databases(DRIVERS[driver])
    answers = asyncio.run(collide(World(driver, database), 2, replay=Replay(max_attempts=1)))
    outcomes = sorted(answer.outcome for answer in answers)
    assert outcomes[0] == "committed"
    assert outcomes[1].startswith("rolled-back")
    lost = next(answer for answer in answers if answer.outcome != "committed")
    assert set(lost.statuses) == {503}
    assert all(b"retry-after" in dict(reply.headers) for reply in lost.replies)
    assert database.rows() == [("one", 11), ("two", 21)]
    assert len(RAN) == 2


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async", "asyncpg"])
def test_write_skew_at_commit(driver: str, databases: Databases) -> None:
    """A conflict that only COMMIT finds replays the batch as well."""
    database = databases("postgresql")
    world = World(driver, database)
    app = app_of(world)
    meeting = Meeting(2)
    read = "SELECT sum(n) FROM item"
    write = "UPDATE item SET n = (SELECT sum(n) FROM item) WHERE name = :name"

    if world.is_async:

        @app.post("/skew")
        async def skew_async(name: str) -> None:
            async with world.async_engine.begin() as connection:
                await connection.execute(sa.text(read))
                await connection.execute(sa.text(write), {"name": name})

        @app.post("/meet")
        async def meet_async() -> None:
            await meeting.wait_async()

    else:

        @app.post("/skew")
        def skew(name: str) -> None:
            with world.engine.begin() as connection:
                connection.execute(sa.text(read))
                connection.execute(sa.text(write), {"name": name})

        @app.post("/meet")
        def meet() -> None:
            meeting.wait()

    async def main() -> list[Answer]:
        batches = AtomicBatch(
            app, transaction=SQLAlchemyTransaction(isolation_level="SERIALIZABLE")
        )
        try:
            return await asyncio.gather(
                *(
                    ask(batches, call("POST", f"/skew?name={name}"), call("POST", "/meet"))
                    for name in ("one", "two")
                )
            )
        finally:
            await world.dispose()

    answers = asyncio.run(main())
    assert [answer.outcome for answer in answers] == ["committed"] * 2
    assert sorted(answer.headers.get("batch-attempts", "1") for answer in answers) == ["1", "2"]
    # One after the other: 30 and then 30 + 20 or 10 + 30 + ...
    assert sorted(n for _, n in database.rows()) in ([30, 50], [30, 40])


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_sqlite_is_busy(driver: str, databases: Databases) -> None:
    """A batch that does not get SQLite's lock in time is run again, and leaks no connection."""
    database = databases("sqlite")
    world = World(driver, database, {"connect_args": {"timeout": 0.02}})
    other = database.connect()
    other.execute("BEGIN IMMEDIATE")
    tried = 0

    async def main() -> Answer:
        app = AtomicBatch(
            app_of(world),
            transaction=SQLAlchemyTransaction(),
            replay=Replay(max_attempts=50, base_seconds=0.02, max_seconds=0.02),
        )

        @event.listens_for(world.engine, "checkout")
        def checkout(*_: object) -> None:
            nonlocal tried
            tried += 1
            if tried == 3:
                other.execute("ROLLBACK")

        try:
            answer = await ask(app, add("new"))
            assert world.checked_out() == 0
            return answer
        finally:
            await world.dispose()

    answer = asyncio.run(main())
    other.close()
    assert answer.outcome == "committed"
    assert answer.headers["batch-attempts"] == "3"
    assert ("new", 0) in database.rows()


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_sqlite_stays_busy(driver: str, databases: Databases) -> None:
    """A batch that never gets SQLite's lock answers 503."""
    database = databases("sqlite")
    world = World(driver, database, {"connect_args": {"timeout": 0.01}})
    other = database.connect()
    other.execute("BEGIN IMMEDIATE")

    async def main() -> Answer:
        try:
            app = AtomicBatch(
                app_of(world), transaction=SQLAlchemyTransaction(), replay=Replay(max_attempts=2)
            )
            answer = await ask(app, add("new"))
            assert world.checked_out() == 0
            return answer
        finally:
            await world.dispose()

    answer = asyncio.run(main())
    other.execute("ROLLBACK")
    other.close()
    assert answer.outcome.startswith("rolled-back")
    assert answer.statuses == [503]
    assert ("new", 0) not in database.rows()


def kill_connections(database: Any) -> None:
    """Kill all other connections to the database, as a failover would."""
    if database.family == "postgresql":
        database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    else:
        name = database.url.database
        rows = database.run(
            f"SELECT id FROM information_schema.processlist WHERE db = '{name}' "
            "AND id <> connection_id()"
        )
        for (number,) in rows:
            with suppress(Exception):
                database.run(f"KILL {number}")


@pytest.mark.parametrize("driver", SERVERS)
def test_a_connection_lost_before_commit(driver: str, databases: Databases) -> None:
    """A connection that is lost before COMMIT took nothing with it: the batch is run again."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    app = app_of(world)
    killed = False

    @app.post("/kill")
    async def kill() -> None:
        nonlocal killed
        if not killed:
            killed = True
            somebody_else.do(lambda: kill_connections(database))

    async def main() -> Answer:
        try:
            batches = AtomicBatch(app, transaction=SQLAlchemyTransaction())
            answer = await ask(batches, add("first"), call("POST", "/kill"), add("second"))
            assert world.checked_out() == 0
            return answer
        finally:
            await world.dispose()

    with SomebodyElse() as somebody_else:
        answer = asyncio.run(main())
    assert answer.outcome == "committed", answer.body
    assert answer.headers["batch-attempts"] == "2"
    assert [name for name, n in database.rows() if n == 0] == ["first", "second"]


@pytest.mark.parametrize("driver", SERVERS)
@pytest.mark.parametrize("stored", [True, False])
def test_a_connection_lost_during_commit(
    driver: str, stored: bool, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of a COMMIT is not known when the connection is lost in it: never run again."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    app = app_of(world)
    commits = 0
    kind: Any = kind_of_link(world.engine.dialect)
    method = "commit" if kind in (PooledLink, PostgreSQLLink) else "commit_after"
    real_commit: Callable[..., None] = getattr(kind, method)

    def commit(link: Any, *args: Any) -> None:
        nonlocal commits
        commits += 1
        if stored:
            real_commit(link, *args)
        kill_connections(database)
        # The answer to COMMIT never comes: what the driver raises then, it raises here.
        cursor = link._fairy.cursor()
        cursor.execute("SELECT 1")
        raise AssertionError("the connection is still there")

    async def main() -> Answer:
        try:
            batches = AtomicBatch(
                app, transaction=SQLAlchemyTransaction(), limits=Limits(timeout_seconds=10)
            )
            monkeypatch.setattr(kind, method, commit)
            answer = await ask(batches, add("new"))
            monkeypatch.undo()
            assert world.checked_out() == 0
            assert (await ask(batches, add("next"))).outcome == "committed"
            return answer
        finally:
            await world.dispose()

    answer = asyncio.run(main())
    assert answer.status == 503
    assert answer.outcome == "unknown"
    assert commits == 1
    assert (("new", 0) in database.rows()) is stored


@pytest.mark.parametrize("driver", ["psycopg", "pymysql", "asyncpg"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_conflict_of_another_database_is_the_handler_s(
    driver: str, grouped: bool, databases: Databases
) -> None:
    """A locked file of the handler's own is no reason to run the batch again."""
    world = World(driver, databases(DRIVERS[driver]))
    shop = app_of(world)
    runs: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/busy":
            await shop(scope, receive, send)
            return
        runs.append("busy")
        try:
            busy_elsewhere()
        except sqlite3.OperationalError as error:
            # No framework makes a reply of it.
            raise ExceptionGroup("tasks", [error]) if grouped else error from None

    async def send() -> Answer:
        try:
            batch = AtomicBatch(app, transaction=SQLAlchemyTransaction())
            return await ask(batch, add("new"), call("POST", "/busy"))
        finally:
            await world.dispose()

    answer = asyncio.run(send())
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert runs == ["busy"]
    assert "batch-attempts" not in answer.headers
