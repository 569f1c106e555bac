"""A statement on a connection of a pool is stopped; ``drivers/test_stopper.py`` has the rest."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from atomicbatch.drivers.stopper import Stopper
from atomicbatch.transactions.sqlalchemy.links import stopper_of
from tests.transactions.sqlalchemy.worlds import DRIVERS, Database, World

LONG = {
    "sqlite": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) "
    "SELECT max(n) FROM t",
    "postgresql": "SELECT pg_sleep(60)",
    "mysql": "SELECT sleep(60) FROM item",
}
RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
    "AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid() AND datname = current_database()",
    "mysql": "SELECT count(*) FROM information_schema.processlist "
    "WHERE info LIKE '%sleep%' AND id <> connection_id() AND db = database()",
}
# An answer takes milliseconds; what is stuck would take a minute.
SOON = 5


@contextmanager
def running(world: World) -> Iterator[tuple[Stopper, Callable[..., Any]]]:
    """A long statement in another thread; gives what stops it, and what waits for its exception."""
    found: list[Any] = []
    linked = threading.Event()

    def statement() -> None:
        fairy = world.engine.raw_connection()
        try:
            stopper = stopper_of(world.engine.dialect, world.engine.pool, fairy)
            found.append(stopper)
            linked.set()
            cursor = fairy.cursor()
            try:
                cursor.execute(LONG[world.family])
                found.append(cursor.fetchall())
            except Exception as error:
                found.append(error)
            stopper.close()
        finally:
            fairy.invalidate()

    async def on_a_loop() -> None:
        await greenlet_spawn(statement)
        await world.async_engine.dispose()

    thread = threading.Thread(
        target=(lambda: asyncio.run(on_a_loop())) if world.is_async else statement
    )
    thread.start()
    assert linked.wait(30)

    def end(seconds: float = SOON) -> Any:
        thread.join(seconds)
        assert not thread.is_alive(), "it still waits"
        return found[1]

    try:
        yield found[0], end
    finally:
        found[0].sever()
        thread.join(90)
        if not world.is_async:
            world.engine.dispose()


def wait_until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_running_statement_is_stopped(driver: str, databases: Callable[[str], Database]) -> None:
    """The statement ends in the server as well, whichever thread asks for it."""
    database = databases(DRIVERS[driver])
    family = database.family
    with running(World(driver, database)) as (stopper, end):
        if family == "sqlite":
            # Nobody can ask SQLite whether it has begun; one that comes too early is lost.
            wait_until(lambda: stopper.interrupt() and bool(_results(end)))
        else:
            wait_until(lambda: database.run(RUNNING[family])[0][0] >= 1)
            assert stopper.interrupt(SOON)
            wait_until(lambda: database.run(RUNNING[family])[0][0] == 0)
        result = end()
        # MariaDB's sleep() answers that it was interrupted, if it stands alone.
        assert isinstance(result, Exception) or family == "mysql"


def _results(end: Callable[..., Any]) -> list[Any]:
    try:
        return [end(0.05)]
    except AssertionError:
        return []
