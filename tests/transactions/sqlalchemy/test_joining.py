"""A batch in a thread without an event loop, as a WSGI app runs it: ``with`` and ``execute()``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool

from atomicbatch import Batch, Call, Reply
from atomicbatch.engine import execute
from atomicbatch.errors import NotBatchableError, TimeoutExceededError
from atomicbatch.model import Outcome
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.transactions.sqlalchemy.attempt import SQLAlchemyAttempt
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.worlds import ASYNC, SEED, SYNC, Item, World

Handler = Callable[[], int]


def batch_of(*handlers: Handler) -> tuple[Batch, dict[bytes, Handler]]:
    calls = [Call("POST", b"/%d" % number, b"", (), b"") for number in range(len(handlers))]
    return Batch(tuple(calls)), {call.path: act for call, act in zip(calls, handlers, strict=True)}


def run(*handlers: Handler, seconds: float = 30) -> Outcome:
    """Run handlers as the calls of a batch; each tells its reply's status."""
    batch, acts = batch_of(*handlers)

    def perform(call: Call, joined: SQLAlchemyAttempt) -> Reply:
        with joined.call():
            return Reply(acts[call.path](), (), b"")

    return execute(batch, SQLAlchemyTransaction(), perform, timeout_seconds=seconds)


@pytest.fixture(params=list(SYNC))
def world(request: pytest.FixtureRequest, databases: Databases) -> Iterator[World]:
    world = World(request.param, databases(SYNC[request.param]))
    yield world
    world.engine.dispose()


def adding(world: World, name: str, status: int = 201) -> Handler:
    def add() -> int:
        with Session(world.engine) as session:
            session.add(Item(name=name, n=0))
            session.commit()
        return status

    return add


def test_a_batch_commits_or_nothing_is_stored(world: World) -> None:
    """What handlers have committed is stored when all have succeeded, and else is not."""
    outcome = run(adding(world, "a"), adding(world, "b", 409))
    assert not outcome.committed
    assert world.database.rows() == sorted(SEED)
    outcome = run(adding(world, "a"), adding(world, "b"))
    assert outcome.committed
    assert world.database.rows() == sorted([*SEED, ("a", 0), ("b", 0)])
    assert world.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_what_a_call_leaves_open_is_rolled_back_at_its_end(world: World) -> None:
    """A session that nobody has committed stores nothing, and cannot be used in the next call."""
    left: list[Session] = []

    def leave() -> int:
        session = Session(world.engine)
        session.add(Item(name="left", n=0))
        session.flush()
        left.append(session)
        return 201

    assert run(leave, adding(world, "kept")).committed
    assert world.database.rows() == sorted([*SEED, ("kept", 0)])

    def go_on() -> int:
        left[-1].execute(sa.text("SELECT 1"))
        return 200

    outcome = run(leave, go_on)
    assert isinstance(outcome.error, NotBatchableError)
    assert "outlives the call" in str(outcome.error)
    for session in left:
        session.close()


def test_the_time_limit_stops_a_statement(world: World) -> None:
    """A statement that waits for somebody else's lock ends at the limit; nothing is stored."""
    if world.family == "sqlite":
        pytest.skip("SQLite's batch has the only lock")

    with holding(world, "UPDATE item SET n = 11 WHERE name = 'one'"):

        def update() -> int:
            with world.engine.begin() as connection:
                connection.execute(sa.text("UPDATE item SET n = 12 WHERE name = 'one'"))
            return 200

        start = time.monotonic()
        outcome = run(adding(world, "a"), update, seconds=0.5)
        assert time.monotonic() - start < 5
    assert isinstance(outcome.error, TimeoutExceededError)
    assert world.database.rows() == sorted(SEED)


@contextmanager
def holding(world: World, sql: str) -> Iterator[None]:
    """Somebody else has changed a row and does not commit."""
    connection = world.database.connect()
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    cursor.execute(sql)
    try:
        yield
    finally:
        cursor.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "asyncmy"])
def test_an_async_engine_is_refused(driver: str, databases: Databases) -> None:
    """A handler that makes an event loop for an async engine is told what to do instead."""
    world = World(driver, databases(ASYNC[driver]))

    def handle() -> int:
        async def read() -> None:
            async with world.async_engine.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))

        asyncio.run(read())
        return 200

    outcome = run(handle)
    assert isinstance(outcome.error, NotBatchableError)
    assert "use a sync engine there" in str(outcome.error)
    asyncio.run(world.async_engine.dispose())


def test_a_thread_with_an_event_loop_is_told_so() -> None:
    """Waiting in it would stop the loop: nothing is begun."""

    async def main() -> None:
        begun = SQLAlchemyTransaction().begin(batch_of()[0], deadline=time.monotonic() + 1)
        with pytest.raises(RuntimeError, match="async with"), begun:
            pass

    asyncio.run(main())


def test_sqlite_in_memory_is_used_in_its_own_thread() -> None:
    """Its connections may be a thread's own: BEGIN, COMMIT and ROLLBACK stay there."""
    engine = sa.create_engine("sqlite://", poolclass=SingletonThreadPool)
    Item.metadata.create_all(engine)

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM item")).scalar_one())

    def add(status: int) -> Handler:
        def handle() -> int:
            with Session(engine) as session:
                session.add(Item(name="a", n=0))
                session.commit()
            return status

        return handle

    assert not run(add(409)).committed
    assert count() == 0
    assert run(add(201)).committed
    assert count() == 1
    engine.dispose()


def test_what_the_block_raises_is_raised(world: World) -> None:
    """Leaving the block by an exception rolls back and lets the exception pass."""
    begun: Any = SQLAlchemyTransaction().begin(batch_of()[0], deadline=time.monotonic() + 30)

    def act() -> None:
        with begun:
            adding(world, "a")()
            raise LookupError

    with pytest.raises(LookupError):
        act()
    assert world.database.rows() == sorted(SEED)
