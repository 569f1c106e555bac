"""Statements stopped, and connections cut off, from a thread that has nothing to do with them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.util import greenlet_spawn

from atomicbatch.transactions.sqlalchemy.links import Link
from tests.proxies import proxied
from tests.transactions.sqlalchemy.worlds import DRIVERS, Database, World

SERVERS = [driver for driver, family in DRIVERS.items() if family != "sqlite"]
LONG = {
    "sqlite": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) "
    "SELECT max(n) FROM t",
    "postgresql": "SELECT pg_sleep(60)",
    "mysql": "SELECT sleep(60) FROM item",
}
RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
    "AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist "
    "WHERE info LIKE '%sleep%' AND id <> connection_id()",
}
# An answer takes milliseconds; what is stuck would take a minute.
SOON = 5


@contextmanager
def running(world: World) -> Iterator[tuple[Link, Callable[[], Any]]]:
    """A long statement in another thread; gives its link, and what waits for its exception."""
    found: list[Any] = []
    linked = threading.Event()

    def statement() -> None:
        fairy = world.engine.raw_connection()
        try:
            link = Link(world.engine.dialect, world.engine.pool, fairy)
            found.append(link)
            linked.set()
            cursor = fairy.cursor()
            try:
                cursor.execute(LONG[world.family])
                found.append(cursor.fetchall())
            except Exception as error:
                found.append(error)
            link.close()
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

    def end() -> Any:
        thread.join(SOON)
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
    with running(World(driver, database)) as (link, end):
        if family == "sqlite":
            # Nobody can ask SQLite whether it has begun; one that comes too early is lost.
            wait_until(lambda: link.interrupt() and bool(len(_results(end))))
        else:
            wait_until(lambda: database.run(RUNNING[family])[0][0] >= 1)
            assert link.interrupt(SOON)
            wait_until(lambda: database.run(RUNNING[family])[0][0] == 0)
        result = end()
        # MariaDB's sleep() answers that it was interrupted, if it stands alone.
        assert isinstance(result, Exception) or family == "mysql"


def _results(end: Callable[[], Any]) -> list[Any]:
    try:
        return [end()]
    except AssertionError:
        return []


@pytest.mark.parametrize("driver", SERVERS)
def test_who_waits_for_a_silent_database_is_freed(
    driver: str, databases: Callable[[str], Database]
) -> None:
    """Asking a silent server to stop takes no longer than said; cutting off works at once."""
    database = databases(DRIVERS[driver])
    with proxied(database.url.render_as_string(hide_password=False)) as (proxy, url):
        through = Database(database.family, sa.make_url(url))
        with running(World(driver, through)) as (link, end):
            wait_until(lambda: database.run(RUNNING[database.family])[0][0] >= 1)
            proxy.stop()
            began = time.monotonic()
            link.interrupt(0.2)
            assert time.monotonic() - began < 2
            assert not link.is_severed
            link.sever()
            assert isinstance(end(), Exception)
            assert link.is_severed
            proxy.resume()
            proxy.drop()
    # As the server would when the client's host says that it is gone.
    wait_until(lambda: _stop_all(database))


def _stop_all(database: Database) -> bool:
    if database.family == "postgresql":
        database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
        )
    else:
        for (number,) in database.run(
            "SELECT id FROM information_schema.processlist "
            "WHERE info LIKE '%sleep%' AND id <> connection_id()"
        ):
            database.run(f"KILL {number}")
    return int(database.run(RUNNING[database.family])[0][0]) == 0


@pytest.mark.parametrize("driver", SERVERS)
def test_a_link_that_is_closed_touches_nothing(
    driver: str, databases: Callable[[str], Database]
) -> None:
    """Cutting off what went back to the pool does not hit whoever has it next."""
    world = World(driver, databases(DRIVERS[driver]))

    def work() -> None:
        fairy = world.engine.raw_connection()
        link = Link(world.engine.dialect, world.engine.pool, fairy)
        link.close()
        link.sever()
        link.close()
        cursor = fairy.cursor()
        cursor.execute("SELECT count(*) FROM item")
        assert cursor.fetchall()[0][0] == 2
        cursor.close()
        fairy.close()

    async def on_a_loop() -> None:
        await greenlet_spawn(work)
        await world.async_engine.dispose()

    if world.is_async:
        asyncio.run(on_a_loop())
    else:
        work()
        world.engine.dispose()
