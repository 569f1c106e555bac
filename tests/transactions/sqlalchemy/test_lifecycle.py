"""What outlives a call or a batch, what is cancelled, and what two requests do at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any, cast

import anyio.to_thread
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from atomicbatch import Batch, Limits, TransactionError
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction, hook
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.transactions.sqlalchemy.oracle import RUN, Databases, add
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle import app_of, ask_plainly
from tests.transactions.sqlalchemy.worlds import ASYNC, DRIVERS, SYNC, Item, World

FAIL = call("POST", "/fail")
SLEEP = {
    "postgresql": "SELECT pg_sleep(10)",
    "mysql": "SELECT sleep(10)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000)"
    " SELECT count(*) FROM n",
}


def joined(world: World, act: Callable[[World], Any] | None = None, **options: Any) -> AtomicBatch:
    pattern = None if act is None else Pattern(act, (), (), "")
    transaction = SQLAlchemyTransaction(**options)
    return AtomicBatch(app_of(world, pattern), transaction=transaction)


def run(world: World, main: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await main()
        finally:
            await world.dispose()

    return asyncio.run(whole())


# Left behind by a call ---------------------------------------------------------------------------


def test_a_session_kept_for_the_next_call(databases: Databases) -> None:
    """A session that stays open from one call to the next is refused, and says why."""
    database = databases("sqlite")
    world = World("pysqlite", database)
    kept: list[Session] = []

    def act(_: World) -> None:
        if not kept:
            kept.append(Session(world.engine))
            kept[0].add(Item(name="first", n=0))
            kept[0].flush()
        else:
            kept[0].add(Item(name="second", n=0))
            kept[0].commit()

    answer: Answer = run(world, lambda: ask(joined(world, act), RUN, RUN))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"outlives the call" in answer.body
    with suppress(TransactionError):
        kept[0].close()
    assert ("first", 0) not in database.rows()


def test_a_session_from_before_the_batch(databases: Databases) -> None:
    """A session that a plain request left open would carry its work past the batch: refused."""
    database = databases("sqlite")
    world = World("pysqlite", database)
    kept = Session(world.engine)
    kept.scalars(sa.select(Item)).all()

    def act(_: World) -> None:
        kept.add(Item(name="past the batch", n=0))
        kept.commit()

    answer: Answer = run(world, lambda: ask(joined(world, act), add("new"), RUN))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"opened before the batch" in answer.body
    kept.close()
    assert [name for name, _ in database.rows()] == ["one", "two"]


_OPEN: list[Any] = []


def _flushed(world: World) -> Callable[[], Any]:
    _OPEN.append(session := Session(world.engine))
    session.add(Item(name="past the batch", n=0))
    session.flush()
    return session.commit


def _raw(world: World) -> Callable[[], Any]:
    _OPEN.append(raw := world.engine.raw_connection())

    def act() -> None:
        cursor = raw.cursor()
        cursor.execute("INSERT INTO item (name, n) VALUES ('past the batch', 0)")
        raw.commit()

    return act


def _cursor(world: World) -> Callable[[], Any]:
    _OPEN.append(older := world.engine.connect())
    connection: Any = older.connection

    def act() -> None:
        connection.cursor().execute("INSERT INTO item (name, n) VALUES ('past the batch', 0)")
        connection.commit()

    return act


def _pool(world: World) -> Callable[[], Any]:
    def act() -> None:
        raw = world.engine.pool.connect()
        raw.cursor().execute("INSERT INTO item (name, n) VALUES ('past the batch', 0)")
        cast(Any, raw.driver_connection).commit()
        raw.close()

    return act


def _older_method(world: World) -> Callable[[], Any]:
    hook.uninstall()
    get = world.engine.raw_connection
    hook.install()

    def act() -> None:
        raw = get()
        raw.cursor().execute("INSERT INTO item (name, n) VALUES ('past the batch', 0)")
        cast(Any, raw.driver_connection).commit()
        raw.close()

    return act


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pymysql"])
@pytest.mark.parametrize("door", [_flushed, _raw, _cursor, _pool, _older_method])
def test_side_doors_are_shut(
    door: Callable[[World], Callable[[], Any]], driver: str, databases: Databases
) -> None:
    """What would carry work past the batch is refused, whichever way it was taken out."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {"pool_size": 3})
    act = door(world)
    answer: Answer = run(world, lambda: ask(joined(world, lambda _: act()), add("new"), RUN, FAIL))
    assert answer.outcome == "rolled-back; failed=2; status=501", answer.body
    assert [name for name, _ in database.rows()] == ["one", "two"]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy", "aiomysql"])
@pytest.mark.parametrize("how", ["statement", "commit"])
def test_an_async_session_from_before_the_batch(
    how: str, driver: str, databases: Databases
) -> None:
    """It is refused, and what it had not committed is rolled back."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {"pool_size": 3})

    async def main() -> None:
        kept = AsyncSession(world.async_engine)
        kept.add(Item(name="past the batch", n=0))
        await kept.flush()

        async def act(_: World) -> None:
            if how == "statement":
                kept.add(Item(name="as well", n=0))
                await kept.flush()
            await kept.commit()

        answer = await ask(joined(world, act), add("new"), RUN, FAIL)
        assert answer.outcome == "rolled-back; failed=2; status=501", answer.body
        await kept.close()
        assert world.checked_out() == 0
        assert (await ask_plainly(app_of(world), add("plain"))).status == 201

    run(world, main)
    assert [name for name, _ in database.rows()] == ["one", "plain", "two"]


@pytest.mark.parametrize("driver", sorted(SYNC))
def test_a_thread_that_outlives_a_rolled_back_batch(driver: str, databases: Databases) -> None:
    """It may store nothing, however late it comes; after COMMIT it is on its own."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    go_on, errors, threads = threading.Event(), list[str](), list[threading.Thread]()

    def late() -> None:
        go_on.wait(30)
        try:
            with Session(world.engine) as session:
                session.add(Item(name=f"late {len(threads)}", n=0))
                session.commit()
        except TransactionError as error:
            errors.append(str(error))

    def act(_: World) -> None:
        threads.append(threading.Thread(target=late))
        threads[-1].start()

    async def main() -> None:
        app = joined(world, act)
        for calls in ((RUN, FAIL), (RUN, add("committed"))):
            go_on.clear()
            await ask(app, *calls)
            go_on.set()
            await asyncio.to_thread(threads[-1].join)
        assert world.checked_out() == 0

    run(world, main)
    assert [error for error in errors if "rolled back" in error] == errors
    assert len(errors) == 1
    assert [name for name, n in database.rows() if n == 0] == ["committed", "late 2"]


def test_a_connection_asked_for_while_the_batch_is_rolled_back(databases: Databases) -> None:
    """Whoever waited at the gate meanwhile begins nothing, which nobody would end."""
    world = World("pysqlite", databases("sqlite"))

    async def main() -> None:
        transaction = SQLAlchemyTransaction()
        batch = Batch((call("POST", "/"),))
        for used in (True, False):
            with suppress(ZeroDivisionError):
                begun = transaction.begin(batch, deadline=time.monotonic() + 60)
                async with begun as attempt, attempt.call():
                    if used:
                        world.engine.connect().close()
                    raise ZeroDivisionError
            with pytest.raises(TransactionError, match="over"):
                attempt.connection(world.engine, attempt.call())
        assert world.checked_out() == 0

    run(world, main)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy", "aiomysql"])
def test_an_event_loop_of_its_own(driver: str, databases: Databases) -> None:
    """asyncio.run() in a def handler: the connection would be its loop's, and end with it."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {"poolclass": NullPool})

    async def work() -> None:
        async with AsyncSession(world.async_engine) as session:
            session.add(Item(name="new", n=0))
            await session.commit()

    app = FastAPI()

    @app.post("/run")
    def handler() -> None:
        asyncio.run(work())

    async def main() -> None:
        answer = await ask(AtomicBatch(app, transaction=SQLAlchemyTransaction()), RUN)
        assert answer.outcome == "rolled-back; failed=1; status=501", answer.body
        assert b"event loop of its own" in answer.body

    run(world, main)
    assert [name for name, _ in database.rows()] == ["one", "two"]


def test_a_session_is_of_no_use_after_the_batch(databases: Databases) -> None:
    """A session left open cannot be used once its batch is over, and commits nothing."""
    database = databases("sqlite")
    world = World("pysqlite", database)
    kept: list[Session] = []

    def act(_: World) -> None:
        kept.append(Session(world.engine))
        kept[0].add(Item(name="never committed", n=0))
        kept[0].flush()

    async def main() -> None:
        assert (await ask(joined(world, act), RUN)).outcome == "committed"
        with pytest.raises(sa.exc.StatementError, match="over"):
            kept[0].execute(sa.text("SELECT 1"))
        with pytest.raises(TransactionError, match="over"):
            kept[0].commit()
        kept[0].rollback()
        kept[0].add(Item(name="on its own", n=0))
        kept[0].commit()
        kept[0].close()

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["on its own"]


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg_async", "asyncmy"])
def test_a_task_left_behind_in_the_batch(driver: str, databases: Databases) -> None:
    """A task that uses the database after its call, while the batch runs, fails the batch."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    tasks: list[asyncio.Task[None]] = []
    over = asyncio.Event()

    async def left_behind() -> None:
        await over.wait()
        async with AsyncSession(world.async_engine) as session:
            session.add(Item(name="left behind", n=0))
            await session.commit()

    async def act(_: World) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(left_behind()))
        else:
            over.set()
            with suppress(TransactionError):
                await tasks[0]

    answer: Answer = run(world, lambda: ask(joined(world, act), RUN, RUN))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"left a task behind" in answer.body
    assert ("left behind", 0) not in database.rows()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy", "psycopg"])
def test_a_task_that_gets_its_connection_after_its_call(driver: str, databases: Databases) -> None:
    """A task or thread that began to wait for a connection within its call gets none after it."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    errors: list[Exception] = []
    left: list[Any] = []

    async def left_behind() -> None:
        try:
            async with AsyncSession(world.async_engine) as session:
                session.add(Item(name="left behind", n=0))
                await session.commit()
        except Exception as error:
            errors.append(error)

    async def act_async(_: World) -> None:
        left.append(asyncio.create_task(left_behind()))

    def in_a_thread() -> None:
        try:
            with Session(world.engine) as session:
                session.add(Item(name="left behind", n=0))
                session.commit()
        except Exception as error:
            errors.append(error)

    def act(_: World) -> None:
        left.append(threading.Thread(target=in_a_thread))
        left[0].start()

    async def main() -> None:
        app = joined(world, act_async if world.is_async else act)
        answer = await ask(app, RUN, add("after"), add("later"))
        await (left[0] if world.is_async else anyio.to_thread.run_sync(left[0].join))
        stored = ("left behind", 0) in database.rows()
        # A thread may have been quick enough; else nothing of it is kept.
        assert stored == (answer.outcome == "committed" and not errors)
        assert world.checked_out() == 0

    run(world, main)


@pytest.mark.parametrize("driver", ["aiosqlite", "asyncpg", "psycopg_async", "asyncmy"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_task_after_the_batch(driver: str, fails: bool, databases: Databases) -> None:
    """A task left behind is on its own after COMMIT; after a rollback it may store nothing."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    tasks: list[asyncio.Task[None]] = []
    over = asyncio.Event()

    async def left_behind() -> None:
        await over.wait()
        async with AsyncSession(world.async_engine) as session:
            session.add(Item(name="later", n=0))
            await session.commit()

    async def act(_: World) -> None:
        tasks.append(asyncio.create_task(left_behind()))

    async def main() -> None:
        await ask(joined(world, act), RUN, *([FAIL] if fails else []))
        over.set()
        with pytest.raises(TransactionError, match="rolled back") if fails else nullcontext():
            await tasks[0]

    run(world, main)
    assert (("later", 0) in database.rows()) is not fails


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg", "psycopg2", "pymysql"])
def test_a_statement_that_still_runs_at_the_end(driver: str, databases: Databases) -> None:
    """A thread left behind in a statement: COMMIT waits for it, and does not keep its work."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    threads: list[threading.Thread] = []
    text = {
        "postgresql": "SELECT pg_sleep(0.5)",
        "mysql": "SELECT sleep(0.5)",
        "sqlite": SLEEP["sqlite"].replace("300000000", "3000000"),
    }[world.family]
    refused: list[Exception] = []

    def act(_: World) -> None:
        begun = threading.Event()

        def left_behind() -> None:
            with suppress(Exception), Session(world.engine) as session:
                session.add(Item(name="left behind", n=0))
                session.flush()
                begun.set()
                session.execute(sa.text(text))
                try:
                    session.commit()
                except Exception as error:
                    refused.append(error)

        threads.append(threading.Thread(target=left_behind))
        threads[0].start()
        begun.wait()

    async def main() -> None:
        answer = await ask(joined(world, act), add("first"), RUN)
        await anyio.to_thread.run_sync(threads[0].join)
        # The thread is closed either before its COMMIT or after: then the batch has failed.
        assert answer.outcome == "committed" or b"outlives the call" in answer.body
        assert refused
        assert world.checked_out() == 0

    run(world, main)
    assert ("left behind", 0) not in database.rows()


# Cancelled ---------------------------------------------------------------------------------------


# Not aiosqlite, whose statements cannot be cancelled.
@pytest.mark.parametrize("driver", sorted(set(ASYNC) - {"aiosqlite"}))
def test_a_statement_that_is_cancelled(driver: str, databases: Databases) -> None:
    """A handler that hides a timeout in the middle of a statement cannot make the batch commit."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    async def act(_: World) -> str:
        async with AsyncSession(world.async_engine) as session:
            session.add(Item(name="before", n=0))
            await session.commit()
            with suppress(TimeoutError, Exception):
                async with asyncio.timeout(0.2):
                    await session.execute(sa.text(SLEEP[world.family]))
        return "fine"

    async def main() -> None:
        app = joined(world, act)
        answer = await ask(app, add("first"), RUN)
        assert answer.outcome == "rolled-back; failed=2; status=500", answer.body
        assert b"cancelled" in answer.body
        assert world.checked_out() == 0
        assert (await ask(app, add("after"))).outcome == "committed"

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["after"]


# Not PyMySQL: it cannot stop a running statement, so the rollback waits for its end.
@pytest.mark.parametrize("driver", sorted(set(DRIVERS) - {"pymysql"}))
def test_a_batch_that_runs_out_of_time(driver: str, databases: Databases) -> None:
    """Time runs out in the middle of a statement: all is rolled back, the pool is clean."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    begun = threading.Event()

    async def act_async(_: World) -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(sa.text(SLEEP[world.family]))

    def act(_: World) -> None:
        with Session(world.engine) as session:
            begun.set()
            session.execute(sa.text(SLEEP[world.family]))

    async def main() -> None:
        pattern = Pattern(act_async if world.is_async else act, (), (), "")
        app = AtomicBatch(
            app_of(world, pattern),
            transaction=SQLAlchemyTransaction(),
            limits=Limits(timeout_seconds=0.5),
        )
        answer = await ask(app, add("first"), RUN)
        assert answer.outcome == "rolled-back; failed=2; status=504"
        assert (await ask(app, add("after"))).outcome == "committed"
        assert world.checked_out() == 0

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["after"]


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg", "psycopg2", "pymysql"])
def test_a_client_that_hangs_up_during_a_def_handler(driver: str, databases: Databases) -> None:
    """A worker thread in a statement, and the rollback, never use the connection at once."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    begun, errors = threading.Event(), []
    text = {"mysql": "SELECT sleep(1)"}.get(world.family, SLEEP[world.family])

    def act(_: World) -> None:
        with Session(world.engine) as session:
            session.add(Item(name="in the thread", n=0))
            session.flush()
            begun.set()
            try:
                session.execute(sa.text(text))
                session.commit()
            except Exception as error:
                errors.append(error)
                raise

    async def main() -> None:
        app = joined(world, act)
        content_type, body = write_batch([add("first"), RUN])
        request = Request([body])
        scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
        batch = asyncio.create_task(app(scope, request.receive, request.send))
        await anyio.to_thread.run_sync(begun.wait)
        request.hang_up()
        await batch
        assert not request.sent
        assert (await ask(app, add("after"))).outcome == "committed"
        for _ in range(1000):
            if errors:
                break
            await asyncio.sleep(0.01)
        assert errors, "the thread has not ended"
        assert world.checked_out() == 0

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["after"]


# At a time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "asyncmy"])
def test_nobody_sees_what_is_not_committed(driver: str, databases: Databases) -> None:
    """A plain request in the middle of a batch sees none of its rows, and is no part of it."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    arrived, go_on = asyncio.Event(), asyncio.Event()
    plain = app_of(world)

    @plain.post("/wait")
    async def wait() -> None:
        arrived.set()
        await go_on.wait()

    async def main() -> None:
        app = AtomicBatch(plain, transaction=SQLAlchemyTransaction())
        batch = asyncio.create_task(ask(app, add("batched"), call("POST", "/wait"), FAIL))
        await arrived.wait()
        assert ("batched", 0) not in database.rows()
        assert (await ask_plainly(app, add("plain"))).status == 201
        assert ("plain", 0) in database.rows()
        go_on.set()
        assert (await batch).outcome != "committed"

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["plain"]


def test_threads_that_wait_for_the_batch(databases: Databases) -> None:
    """Plain requests that wait for the batch's rows cannot take the threads it needs to go on."""
    database = databases("postgresql")
    world = World("psycopg", database, {"pool_size": 20})
    plain = app_of(world)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    @plain.post("/one")
    def one() -> None:
        with Session(world.engine) as session:
            item = session.scalars(sa.select(Item).where(Item.name == "one").with_for_update())
            item.one().n += 1
            session.commit()

    @plain.post("/wait")
    async def wait() -> None:
        arrived.set()
        await go_on.wait()

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 4
        app = AtomicBatch(plain, transaction=SQLAlchemyTransaction())
        one = call("POST", "/one")
        batch = asyncio.create_task(ask(app, one, call("POST", "/wait"), one))
        await arrived.wait()
        others = [asyncio.create_task(ask_plainly(app, one)) for _ in range(6)]
        while limiter.borrowed_tokens < 4:
            await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(20):
            assert (await batch).outcome == "committed"
            assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 6

    run(world, main)
    assert ("one", 18) in database.rows()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_batches_leave_a_connection_for_others(driver: str, databases: Databases) -> None:
    """Batches take all connections of a pool but one; those beyond stand in line."""
    database = databases("postgresql")
    world = World(driver, database, {"pool_size": 3, "max_overflow": 0, "pool_timeout": 5})
    plain = app_of(world)
    waiting, go_on = 0, asyncio.Event()

    @plain.post("/wait")
    async def wait() -> None:
        nonlocal waiting
        waiting += 1
        await go_on.wait()

    async def main() -> None:
        app = AtomicBatch(plain, transaction=SQLAlchemyTransaction())
        batches = [
            asyncio.create_task(ask(app, add(f"b{number}"), call("POST", "/wait")))
            for number in range(6)
        ]
        while waiting < 2:
            await asyncio.sleep(0)
        assert (await ask_plainly(app, add("plain"))).status == 201
        assert waiting == 2
        go_on.set()
        answers = await asyncio.gather(*batches)
        assert [answer.outcome for answer in answers] == ["committed"] * 6

    run(world, main)
    assert len(database.rows()) == 2 + 6 + 1


def test_no_slot_in_time(databases: Databases) -> None:
    """A batch that gets no connection before its time is over is told that the database is busy."""
    database = databases("postgresql")
    world = World("asyncpg", database)
    plain = app_of(world)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    @plain.post("/wait")
    async def wait() -> None:
        arrived.set()
        await go_on.wait()

    async def main() -> None:
        transaction = SQLAlchemyTransaction(max_batches=1)
        app = AtomicBatch(plain, transaction=transaction)
        first = asyncio.create_task(ask(app, add("first"), call("POST", "/wait")))
        await arrived.wait()
        hurried = AtomicBatch(plain, transaction=transaction, limits=Limits(timeout_seconds=0.2))
        answer = await ask(hurried, add("second"))
        assert answer.outcome.startswith("rolled-back"), answer.outcome
        assert answer.statuses[0] in (503, 504)
        go_on.set()
        assert (await first).outcome == "committed"
        assert (await ask(app, add("third"))).outcome == "committed"

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["first", "third"]


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_batches_stand_in_line_on_sqlite(driver: str, databases: Databases) -> None:
    """Twenty batches at a time on one SQLite file all commit, none meets a lock."""
    database = databases("sqlite")
    world = World(driver, database, {"connect_args": {"timeout": 0.01}})

    async def main() -> None:
        app = joined(world)
        answers = await asyncio.gather(
            *(ask(app, add(f"{number}a"), add(f"{number}b")) for number in range(20))
        )
        assert [answer.outcome for answer in answers] == ["committed"] * 20
        assert not any("batch-attempts" in answer.headers for answer in answers)

    run(world, main)
    assert len(database.rows()) == 2 + 40


# COMMIT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async", "asyncpg", "pysqlite"])
def test_a_constraint_checked_at_commit(driver: str, databases: Databases) -> None:
    """A deferred constraint that breaks at COMMIT rolls the batch back, and no 2xx is seen."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {"pool_size": 1, "max_overflow": 0})
    database.run(
        "DROP TABLE IF EXISTS child",
        "CREATE TABLE child (item INTEGER REFERENCES item DEFERRABLE INITIALLY DEFERRED)",
    )

    @sa.event.listens_for(world.engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        if driver == "pysqlite":
            connection.execute("PRAGMA foreign_keys = ON")

    insert = sa.text("INSERT INTO child VALUES (77)")

    def act(_: World) -> None:
        with world.engine.begin() as connection:
            connection.execute(insert)

    async def act_async(_: World) -> None:
        async with world.async_engine.begin() as connection:
            await connection.execute(insert)

    async def main() -> None:
        app = joined(world, act_async if world.is_async else act)
        answer = await ask(app, add("new"), RUN)
        assert answer.outcome == "rolled-back; failed=commit; status=409"
        assert world.checked_out() == 0

    try:
        run(world, main)
        assert ("new", 0) not in database.rows()
        assert database.run("SELECT * FROM child") == []
    finally:
        database.run("DROP TABLE child")


def test_the_pragma_that_sqlite_ignores(databases: Databases) -> None:
    """PRAGMA foreign_keys within a batch would be ignored without a word: refused."""
    world = World("pysqlite", databases("sqlite"))

    def act(_: World) -> None:
        with world.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")

    answer: Answer = run(world, lambda: ask(joined(world, act), RUN))
    assert answer.outcome == "rolled-back; failed=1; status=501"
    assert b"foreign_keys" in answer.body


@pytest.mark.parametrize("driver", DRIVERS)
def test_dispose_in_a_batch(driver: str, databases: Databases) -> None:
    """An engine that a handler disposes of goes on in the same transaction."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    def act(_: World) -> None:
        world.engine.dispose()

    async def act_async(_: World) -> None:
        await world.async_engine.dispose()

    async def main() -> None:
        app = joined(world, act_async if world.is_async else act)
        answer = await ask(app, add("before"), RUN, add("after"), FAIL)
        assert answer.outcome == "rolled-back; failed=4; status=409"
        assert [name for name, n in database.rows() if n == 0] == []
        assert (await ask(app, add("before"), RUN, add("after"))).outcome == "committed"

    run(world, main)
    assert [name for name, n in database.rows() if n == 0] == ["after", "before"]


def test_on_conflict_rollback(databases: Databases) -> None:
    """A statement that ends SQLite's transaction cannot leave the second half of a batch stored."""
    database = databases("sqlite")
    world = World("pysqlite", database)

    def act(_: World) -> str:
        with world.engine.connect() as connection:
            with suppress(sa.exc.IntegrityError):
                connection.exec_driver_sql(
                    "INSERT OR ROLLBACK INTO item (name, n) VALUES ('one', 1)"
                )
            connection.commit()
        return "fine"

    answer: Answer = run(world, lambda: ask(joined(world, act), add("new"), RUN, add("newer")))
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert [name for name, _ in database.rows()] == ["one", "two"]
