"""The seal: SQL of the batch's own, in its transaction, right before COMMIT, on every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch import Batch, Call, Fate, Outcome, Reply, asgi, wsgi
from atomicbatch.engine import Policy, execute, execute_async
from atomicbatch.engine.policy import NORMAL
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask
from tests.transactions.sqlalchemy import test_oracle_wsgi
from tests.transactions.sqlalchemy.oracle import Databases, add
from tests.transactions.sqlalchemy.patterns import PATTERNS
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import DRIVERS, SEED, SYNC, World, items
from tests.wsgi import asking as wsgi_asking

BATCH = Batch(tuple(Call("POST", b"/", b"", (), b"%d" % i) for i in range(2)))
CALLS = [("call-0", 0), ("call-1", 0)]
RECORD = ("record", 2)


async def store(world: World, name: str, n: int) -> None:
    """Store a row as a handler does, with a connection and a commit of its own."""
    insert = sa.insert(items).values(name=name, n=n)
    if world.is_async:
        async with world.async_engine.begin() as connection:
            await connection.execute(insert)
    else:
        with world.engine.begin() as connection:
            connection.execute(insert)


Seal = Callable[[Outcome, Any], Awaitable[None]]


def run(world: World, seal: Seal, *, policy: Policy = NORMAL, last_status: int = 201) -> Outcome:
    """Run two calls, each of which stores a row, and seal the batch."""

    async def perform(call: Call, joined: Any) -> Reply:
        async with joined.call():
            await store(world, f"call-{call.body.decode()}", 0)
        return Reply(last_status if call is BATCH.calls[-1] else 201, (), b"")

    async def main() -> Outcome:
        try:
            return await execute_async(
                BATCH,
                SQLAlchemyTransaction(),
                perform,
                timeout_seconds=30,
                policy=policy,
                seal=seal,
            )
        finally:
            await world.dispose()

    return asyncio.run(main())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_record_is_stored_with_the_batch(driver: str, databases: Databases) -> None:
    """It sees what the calls have done, nobody else sees it before COMMIT, and it is kept."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    before: list[tuple[str, int]] = []

    async def seal(outcome: Outcome, joined: Any) -> None:
        assert outcome.committed
        async with joined.call():
            await store(world, "record", len(outcome.replies))
        before.extend(database.rows())

    outcome = run(world, seal)
    assert outcome.committed
    assert before == sorted(SEED)
    assert database.rows() == sorted([*SEED, *CALLS, RECORD])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_record_that_the_database_refuses(driver: str, databases: Databases) -> None:
    """Where the record is there already, the batch is rolled back with what its calls have done."""
    database = databases(DRIVERS[driver])
    database.run("INSERT INTO item (name, n) VALUES ('record', 1)")
    world = World(driver, database)

    async def seal(_: Outcome, joined: Any) -> None:
        async with joined.call():
            await store(world, "record", 2)

    outcome = run(world, seal)
    assert (outcome.fate, outcome.failed) == (Fate.ROLLED_BACK, None)
    assert outcome.error is not None
    assert isinstance(outcome.error.__cause__, sa.exc.IntegrityError)
    assert database.rows() == sorted([*SEED, ("record", 1)])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_record_of_a_batch_that_is_undone(driver: str, databases: Databases) -> None:
    """A failed batch stores none, and a dry run loses it with everything else."""
    database = databases(DRIVERS[driver])
    sealed: list[Fate] = []

    def sealing(world: World) -> Seal:
        async def seal(outcome: Outcome, joined: Any) -> None:
            sealed.append(outcome.fate)
            async with joined.call():
                await store(world, "record", 2)

        return seal

    world = World(driver, database)
    assert run(world, sealing(world), last_status=409).failed == 1
    assert sealed == []
    assert database.rows() == sorted(SEED)
    world = World(driver, database)
    assert run(world, sealing(world), policy=Policy(keeps=False)).fate is Fate.DRY_RUN
    assert sealed == [Fate.DRY_RUN]
    assert database.rows() == sorted(SEED)


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite", "asyncpg", "asyncmy"])
def test_behind_an_asgi_endpoint(
    driver: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What AtomicBatch hands to a seal has ``call()``, inside of which its SQL takes part."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    async def seal(outcome: Outcome, dispatcher: Any) -> None:
        async with dispatcher.call():
            await store(world, "record", len(outcome.replies))

    monkeypatch.setattr(asgi.app, "execute_async", partial(execute_async, seal=seal))
    app = asgi.AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())

    async def main() -> list[Answer]:
        try:
            return [await ask(app, add("call-0"), add(name)) for name in ("call-0", "call-1")]
        finally:
            await world.dispose()

    failed, committed = asyncio.run(main())
    assert failed.outcome == "rolled-back; failed=2; status=500"
    assert committed.outcome == "committed"
    assert database.rows() == sorted([*SEED, *CALLS, RECORD])


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg", "pymysql"])
def test_behind_a_wsgi_endpoint(
    driver: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the thread of a WSGI request."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    def seal(outcome: Outcome, dispatcher: Any) -> None:
        with dispatcher.call(), world.engine.begin() as connection:
            connection.execute(sa.insert(items).values(name="record", n=len(outcome.replies)))

    monkeypatch.setattr(wsgi.app, "execute", partial(execute, seal=seal))
    app = wsgi.AtomicBatch(
        test_oracle_wsgi.app_of(world, PATTERNS[0]), transaction=SQLAlchemyTransaction()
    )
    answer = wsgi_asking.ask(app, add("call-0"), add("call-1"))
    world.engine.dispose()
    assert answer.outcome == "committed"
    assert database.rows() == sorted([*SEED, *CALLS, RECORD])


@pytest.mark.parametrize("driver", SYNC)
def test_in_a_thread_without_an_event_loop(driver: str, databases: Databases) -> None:
    """The sync shell seals in the same way."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    def store_here(joined: Any, name: str, n: int) -> None:
        with joined.call(), world.engine.begin() as connection:
            connection.execute(sa.insert(items).values(name=name, n=n))

    def perform(call: Call, joined: Any) -> Reply:
        store_here(joined, f"call-{call.body.decode()}", 0)
        return Reply(201, (), b"")

    def seal(outcome: Outcome, joined: Any) -> None:
        store_here(joined, "record", len(outcome.replies))

    def refuse(outcome: Outcome, joined: Any) -> None:
        seal(outcome, joined)
        raise ValueError

    transaction = SQLAlchemyTransaction()
    for sealing, stored in ((refuse, SEED), (seal, [*SEED, *CALLS, RECORD])):
        outcome = execute(BATCH, transaction, perform, timeout_seconds=30, seal=sealing)
        assert outcome.committed is (sealing is seal)
        assert database.rows() == sorted(stored)
    world.engine.dispose()
