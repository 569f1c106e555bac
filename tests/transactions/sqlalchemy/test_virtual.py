"""What a session gets instead of a connection, where several threads have one each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.databases import WITH_MYSQLCLIENT
from tests.transactions.sqlalchemy.oracle import RUN, Databases
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
