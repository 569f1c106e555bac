"""The time limit of a batch whose database falls silent, at each step, on every driver."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import Call, Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, scope_of
from tests.proxies import At, Fault, Proxy, proxied
from tests.transactions.sqlalchemy.oracle import RUN, Databases, add
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_lifecycle import FAIL
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import ASYNC, DRIVERS, SYNC, Database, World

SERVERS = [driver for driver, family in DRIVERS.items() if family != "sqlite"]
LIMIT = 0.4
# A busy machine may need longer to come to what is tested: then there is another round.
LIMITS = (LIMIT, 4 * LIMIT, 16 * LIMIT)
# The contract says within a second of the limit; the rest is for a machine that is busy.
LATE = 1 + 4
TOO_EARLY = ("not-started", "rolled-back; failed=1; status=504")
STAGES = {
    "connect": None,
    "begin": (b"BEGIN", At.REQUEST),
    "savepoint": (b"SAVEPOINT ", At.REQUEST),
    "statement": (b"first", At.REQUEST),
    "statement's answer": (b"first", At.ANSWER),
    "commit": (b"COMMIT", At.REQUEST),
    "commit's answer": (b"COMMIT", At.ANSWER),
    "rollback": (b"ROLLBACK", At.REQUEST),
}
# MySQL's drivers send none: they have switched autocommit off when they connected.
CASES = [
    # Each stage with half of the drivers, in turn.
    pytest.param(driver, stage, marks=pytest.mark.prove if (turn + number) % 2 else ())
    for turn, driver in enumerate(SERVERS)
    for number, stage in enumerate(STAGES)
    if stage != "begin" or DRIVERS[driver] != "mysql"
]


@contextmanager
def behind_a_proxy(driver: str, databases: Databases) -> Iterator[tuple[Proxy, World, Database]]:
    database = databases(DRIVERS[driver])
    with proxied(database.url.render_as_string(hide_password=False)) as (proxy, url):
        yield proxy, World(driver, Database(database.family, sa.make_url(url))), database


def limited(world: World, act: Any = None, seconds: float = LIMIT) -> AtomicBatch:
    pattern = None if act is None else Pattern(act, (), (), "")
    return AtomicBatch(
        app_of(world, pattern),
        transaction=SQLAlchemyTransaction(),
        limits=Limits(timeout_seconds=seconds),
    )


async def timed(answer: Awaitable[Answer]) -> tuple[Answer, float]:
    began = time.monotonic()
    return await answer, time.monotonic() - began


async def in_time(world: World, act: Any, *calls: Call) -> Answer:
    """The answer to a batch whose limit passes after its first call."""
    for limit in LIMITS:
        answer, seconds = await timed(ask(limited(world, act, limit), *calls))
        assert seconds < limit + LATE
        if answer.outcome not in TOO_EARLY:
            break
    return answer


async def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def note(**measured: Any) -> None:
    """For the table in docs/explanation/time-and-bounds.md."""
    if path := os.environ.get("ATOMICBATCH_TEST_TIMES"):
        with open(path, "a") as file:
            file.write(json.dumps(measured) + "\n")


@pytest.mark.parametrize(("driver", "stage"), CASES)
def test_a_database_that_falls_silent(driver: str, stage: str, databases: Databases) -> None:
    """The client is told in time and the truth; the next batch finds a database in order."""
    with behind_a_proxy(driver, databases) as (proxy, world, database):

        async def main() -> None:
            patient = limited(world, seconds=30)
            if STAGES[stage] is not None:
                assert (await ask(patient, add("before"))).outcome == "committed"
            answer = await silenced(driver, stage, proxy, world)
            if stage.startswith("commit"):
                assert answer.status == 503
                assert answer.outcome == "unknown"
            elif stage == "rollback":
                assert answer.outcome == "rolled-back; failed=3; status=409"
            else:
                assert answer.outcome == "rolled-back; failed=1; status=504"
            proxy.resume()
            await until(lambda: transactions(database) == 0)
            stored = {name for name, _ in database.rows()} & {"first", "second"}
            assert stored in (set(), {"first", "second"})
            if not stage.startswith("commit"):
                assert not stored
            if stage == "commit's answer":
                assert stored
            assert (await ask(patient, add("after"))).outcome == "committed"
            await until(lambda: world.checked_out() == 0 or stage == "connect")
            with suppress(Exception):
                await world.dispose()

        asyncio.run(main())
        assert "after" in {name for name, _ in database.rows()}


async def silenced(driver: str, stage: str, proxy: Proxy, world: World) -> Answer:
    """The answer to a batch whose database falls silent at a stage."""
    calls = [add("first"), add("second"), *([FAIL] if stage == "rollback" else [])]
    where = STAGES[stage]
    for limit in LIMITS:
        if where is None:
            proxy.silence()
        else:
            proxy.when(where[0], Fault.STOP, at=where[1])
        answer, seconds = await timed(ask(limited(world, seconds=limit), *calls))
        assert seconds < limit + LATE
        note(driver=driver, stage=stage, limit=limit, seconds=seconds, outcome=answer.outcome)
        if not is_too_early(stage, proxy, answer.outcome):
            break
        proxy.resume()
    return answer


def is_too_early(stage: str, proxy: Proxy, outcome: str) -> bool:
    """Whether the limit has passed before the stage at which the database falls silent."""
    after_the_calls = stage in ("commit", "commit's answer", "rollback")
    if STAGES[stage] is None or (
        proxy.happened.is_set() and not (after_the_calls and "status=504" in outcome)
    ):
        return False
    assert outcome == "not-started" or outcome.endswith("status=504")
    return True


def transactions(database: Database) -> int:
    """How many others have a transaction open."""
    if database.family == "postgresql":
        found = database.run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return int(found[0][0])
    threads = database.run("SELECT id FROM information_schema.processlist WHERE db = database()")
    # information_schema.innodb_trx stays as it is while somebody looks all the time.
    ((_, _, status),) = database.run("SHOW ENGINE INNODB STATUS")
    active = re.findall(r"(?ms)^---TRANSACTION \d+, ACTIVE.*?thread id (\d+)", status)
    return sum((int(number),) in threads for number in active)


# Statements that run, and threads that do something else ----------------------------------------

ENDLESS = {
    "postgresql": "SELECT pg_sleep(60)",
    "mysql": "SELECT sleep(60) FROM item",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT max(i) FROM n",
}


def writing_then(text: str, is_async: bool) -> Any:
    """A handler that locks a row, then runs a statement."""

    async def act_async(world: World) -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(sa.text("UPDATE item SET n = 5 WHERE name = 'one'"))
            await session.execute(sa.text(text))

    def act(world: World) -> None:
        with Session(world.engine) as session:
            session.execute(sa.text("UPDATE item SET n = 5 WHERE name = 'one'"))
            session.execute(sa.text(text))

    return act_async if is_async else act


def write_beside(database: Database) -> None:
    """What waits for the batch's lock, on a connection of its own."""
    database.run("UPDATE item SET n = n + 1 WHERE name = 'one'")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("end", ["limit", "hang-up"])
def test_a_statement_that_does_not_end(end: str, driver: str, databases: Databases) -> None:
    """It ends in the server too, at the limit and when the client is gone: its locks are free."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    act = writing_then(ENDLESS[world.family], world.is_async)

    async def main() -> None:
        if end == "limit":
            answer = await in_time(world, act, add("first"), RUN)
            assert answer.outcome == "rolled-back; failed=2; status=504"
        else:
            content_type, body = write_batch([add("first"), RUN])
            request = Request([body])
            scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
            app = limited(world, act, 60)
            batch = asyncio.create_task(app(scope, request.receive, request.send))
            await until(lambda: world.checked_out() == 1)
            await asyncio.sleep(0.2)  # well into the statement, or it is not interrupted at all
            request.hang_up()
            began = time.monotonic()
            await batch
            assert time.monotonic() - began < LATE
            assert not request.sent
        began = time.monotonic()
        await asyncio.to_thread(write_beside, database)
        assert time.monotonic() - began < 5
        if world.family != "sqlite":
            await until(lambda: transactions(database) == 0)
        assert (await ask(limited(world, seconds=30), add("after"))).outcome == "committed"
        assert world.checked_out() == 0
        await world.dispose()

    asyncio.run(main())
    names = {name for name, _ in database.rows()}
    assert "after" in names
    assert "first" not in names
    assert ("one", 11) in database.rows()


SYNC_DRIVERS = [driver for driver in DRIVERS if driver in SYNC]


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_a_thread_that_does_something_else(driver: str, databases: Databases) -> None:
    """A handler that sleeps while it holds locks is left behind, without them."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    wake = threading.Event()
    refused: list[Exception] = []

    def act(_: World) -> None:
        with Session(world.engine) as session:
            session.execute(sa.text("UPDATE item SET n = 5 WHERE name = 'one'"))
            wake.wait(60)
            try:
                session.execute(sa.text("UPDATE item SET n = 6 WHERE name = 'one'"))
                session.commit()
            except Exception as error:
                refused.append(error)
                raise

    async def main() -> None:
        answer = await in_time(world, act, add("first"), RUN)
        assert answer.outcome == "rolled-back; failed=2; status=504"
        await asyncio.to_thread(write_beside, database)
        assert (await ask(limited(world, seconds=30), add("after"))).outcome == "committed"
        wake.set()
        await until(lambda: bool(refused))
        assert "is over" in str(refused[0])
        await until(lambda: world.checked_out() == 0)
        await world.dispose()

    asyncio.run(main())
    assert database.rows() == [("after", 0), ("one", 11), ("two", 20)]


@pytest.mark.parametrize("driver", [driver for driver in DRIVERS if driver in ASYNC])
def test_an_event_loop_that_stands_still(driver: str, databases: Databases) -> None:
    """The batch's locks are free half a second after the limit, although nobody can be answered."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    begun, written = threading.Event(), threading.Event()

    def beside() -> None:
        if not begun.wait(60):
            return
        deadline = time.monotonic() + 20
        while not written.is_set() and time.monotonic() < deadline:
            with suppress(Exception):  # SQLite's lock is waited for half a second at a time
                write_beside(database)
                written.set()

    async def act(_: World) -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(sa.text("UPDATE item SET n = 5 WHERE name = 'one'"))
            begun.set()
            written.wait(30)  # the loop does nothing else until the other has had the lock
            await session.commit()

    async def main() -> None:
        # Not in the call, or it would be a part of the batch.
        threading.Thread(target=beside, daemon=True).start()
        for limit in LIMITS:
            answer, seconds = await timed(ask(limited(world, act, limit), RUN))
            assert seconds < limit + LATE
            if begun.is_set():
                break
        assert written.is_set()
        assert answer.outcome == "rolled-back; failed=1; status=504"
        assert (await ask(limited(world, seconds=30), add("after"))).outcome == "committed"
        assert world.checked_out() == 0
        await world.dispose()

    asyncio.run(main())
    assert ("one", 11) in database.rows()


# SQLite's lock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
@pytest.mark.parametrize("end", ["limit", "hang-up"])
def test_begin_waits_for_the_lock(end: str, driver: str, databases: Databases) -> None:
    """However patient the app is, and nothing runs once the lock is free."""
    database = databases("sqlite")
    world = World(driver, database, {"connect_args": {"timeout": 60}})

    async def main() -> None:
        seconds = LIMIT if end == "limit" else 60
        app = limited(world, writing_then(ENDLESS["sqlite"], world.is_async), seconds)
        with closing(database.connect()) as other:
            other.execute("BEGIN IMMEDIATE")
            if end == "limit":
                answer, seconds = await timed(ask(app, RUN))
                assert answer.replies[0].status in (503, 504)
                assert seconds < LIMIT + LATE
            else:
                content_type, body = write_batch([RUN])
                request = Request([body])
                scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
                batch = asyncio.create_task(app(scope, request.receive, request.send))
                await until(lambda: world.checked_out() == 1)
                request.hang_up()
                began = time.monotonic()
                await batch
                assert time.monotonic() - began < LATE
            other.execute("ROLLBACK")
        patient = limited(world, seconds=30)
        answer, seconds = await timed(ask(patient, add("after")))
        assert answer.outcome == "committed"
        assert seconds < 10
        await until(lambda: world.checked_out() == 0)
        await world.dispose()

    asyncio.run(main())
    assert database.rows() == [("after", 0), ("one", 10), ("two", 20)]


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_commit_waits_for_readers(driver: str, tmp_path: Path) -> None:
    """With a rollback journal COMMIT waits for readers: at the limit it is refused, for sure."""
    database = Database("sqlite", sa.make_url(f"sqlite:///{tmp_path / 'journal.sqlite'}"))
    database.create()
    world = World(driver, database, {"connect_args": {"timeout": 60}})

    async def main() -> None:
        with closing(database.connect()) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM item").fetchall()
            answer = await in_time(world, None, add("first"))
            assert answer.outcome.startswith("rolled-back; failed=commit; status=50")
            reader.execute("ROLLBACK")
        assert (await ask(limited(world, seconds=30), add("after"))).outcome == "committed"
        if not world.is_async:
            with world.engine.connect() as connection:  # which the batch has given back
                assert connection.execute(sa.text("PRAGMA busy_timeout")).scalar() == 60000
        await world.dispose()

    asyncio.run(main())
    assert database.rows() == [("after", 0)]
