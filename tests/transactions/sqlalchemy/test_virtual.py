"""What a session gets instead of a connection, where several threads have one each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.asgi.asking import ask as ask_asgi
from tests.databases import WITH_MYSQLCLIENT
from tests.transactions.sqlalchemy.oracle import RUN, Databases
from tests.transactions.sqlalchemy.test_lifecycle import joined
from tests.transactions.sqlalchemy.test_lifecycle import run as run_async
from tests.transactions.sqlalchemy.worlds import Database, World
from tests.wsgi.asking import Answer, ask

# mysqlclient refuses a connection that another thread is using; in older versions it crashes.
DRIVERS = {"pymysql": "mysql", "psycopg2": "postgresql"}
if WITH_MYSQLCLIENT:
    DRIVERS["mysqldb"] = "mysql"
SLEEP = {"mysql": "SELECT sleep(0.3)", "postgresql": "SELECT pg_sleep(0.3)"}
RUNNING = {
    "mysql": "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT sleep%'",
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    " AND state = 'active'",
}


@pytest.fixture(params=DRIVERS)
def world(request: pytest.FixtureRequest, databases: Databases) -> Iterator[World]:
    driver: str = request.param
    world = World(driver, databases(DRIVERS[driver]))
    yield world
    world.engine.dispose()


def run(world: World, act: Callable[[], None]) -> Answer:
    """Act in the only call of a batch."""

    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        act()
        start_response("200 OK", [])
        return [b""]

    return ask(AtomicBatch(app, transaction=SQLAlchemyTransaction()), RUN)


@contextmanager
def sleeping(database: Database, connection: sa.Connection) -> Iterator[None]:
    """The connection is in a statement, sent by another thread."""
    text = sa.text(SLEEP[database.family])
    thread = threading.Thread(target=lambda: connection.execute(text))
    thread.start()
    until = time.monotonic() + 20
    while not database.run(RUNNING[database.family]):
        assert time.monotonic() < until, "the statement does not run"
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize("use", ["close", "nextset"])
def test_cursor_while_another_thread_is_in_a_statement(world: World, use: str) -> None:
    """Cursors use the connection for more than statements; that waits for its turn."""

    def act() -> None:
        with world.engine.connect() as mine, world.engine.connect() as other:
            cursor: Any = mine.connection.cursor()
            cursor.execute("INSERT INTO item (name) VALUES ('new')")
            mine.connection.commit()
            with sleeping(world.database, other):
                if use == "close":
                    cursor.close()
                elif world.driver != "psycopg2":  # it has none
                    assert not cursor.nextset()

    assert run(world, act).outcome == "committed"
    assert ("new", 0) in world.database.rows()


def test_cursor_that_is_closed_after_the_batch(world: World) -> None:
    """The connection is somebody else's by then, and is let alone."""
    with ExitStack() as left:
        kept: list[Any] = []

        def act() -> None:
            connection = left.enter_context(world.engine.connect())
            cursor: Any = connection.connection.cursor()
            cursor.execute("SELECT 1")
            kept.append(cursor)

        assert run(world, act).outcome == "committed"
        with world.engine.connect() as other, sleeping(world.database, other):
            kept.pop().close()
            assert world.checked_out() == 1


@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
@pytest.mark.filterwarnings("ignore:the server-side cursor")
def test_stream_that_is_closed_after_the_batch(driver: str, databases: Databases) -> None:
    """CLOSE would break the transaction of whoever has the connection by then."""
    world = World(driver, databases("postgresql"), {"pool_size": 1, "max_overflow": 0})
    left: list[tuple[AsyncSession, Any]] = []

    async def act(world: World) -> None:
        session = AsyncSession(world.async_engine)
        rows = await session.stream(sa.text("SELECT generate_series(1, 50)"))
        await rows.fetchone()
        left.append((session, rows))

    async def main() -> Any:
        answer = await ask_asgi(joined(world, act), RUN)
        assert answer.outcome == "committed"
        async with AsyncSession(world.async_engine) as other:
            await other.execute(sa.text("SELECT 1"))
            for session, rows in left:
                await rows.close()
                with suppress(Exception):
                    await session.close()
            return await other.scalar(sa.text("SELECT 2"))

    assert run_async(world, main) == 2
