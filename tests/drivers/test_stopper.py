"""Statements stopped, and connections cut off, from a thread that has nothing to do with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from atomicbatch.drivers import aiosqlite
from atomicbatch.drivers.stopper import Stopper
from tests.drivers.lines import ASYNC_NAMES, SYNC_NAMES, Line, run
from tests.proxies import proxied

DRIVERS = SYNC_NAMES | ASYNC_NAMES
SERVERS = [name for name, family in DRIVERS.items() if family != "sqlite"]
LONG = {
    "sqlite": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) "
    "SELECT max(n) FROM t",
    "postgresql": "SELECT pg_sleep(60)",
    # Not alone: sleep() would answer that it was interrupted, instead of failing.
    "mysql": "SELECT sleep(60) FROM item",
}
RUNNING = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE state = 'active' "
    "AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid() AND datname = current_database()",
    "mysql": "SELECT id FROM information_schema.processlist "
    "WHERE info LIKE '%sleep%' AND id <> connection_id() AND db = database()",
}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
# An answer takes milliseconds; what is stuck would take a minute.
SOON = 5
Databases = Callable[[str], str]


@contextmanager
def running(name: str, url: str, server: str) -> Iterator[tuple[Stopper, Callable[..., Any]]]:
    """
    A long statement in another thread.

    Args:
        name: The driver.
        url: Where to.
        server: The same, but not by way of a proxy.

    Yields:
        What stops it, and what waits for its exception.
    """
    found: list[Any] = []
    started = threading.Event()

    def statement() -> None:
        line = Line(name, url)

        def elsewhere(text: str, seconds: float) -> None:
            run(server, text)

        try:
            found.append(Stopper(line.driver, line.connection, elsewhere))
            started.set()
            try:
                found.append(line.ask(LONG[line.family]))
            except Exception as error:
                found.append(error)
            found[0].close()
        finally:
            with suppress(Exception):
                line.close()

    thread = threading.Thread(target=statement)
    thread.start()
    assert started.wait(30)

    def end(seconds: float = SOON) -> Any:
        thread.join(seconds)
        assert not thread.is_alive(), "it still waits"
        return found[1]

    try:
        yield found[0], end
    finally:
        found[0].sever()
        thread.join(90)


def wait_until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_running_statement_is_stopped(name: str, drivers_databases: Databases) -> None:
    """The statement ends in the server as well, whichever thread asks for it."""
    family = DRIVERS[name]
    url = drivers_databases(family)
    run(url, "INSERT INTO item VALUES ('a')")
    with running(name, url, url) as (stopper, end):
        if family == "sqlite":
            # Nobody can ask SQLite whether it has begun; an interruption that is early is lost.
            wait_until(lambda: stopper.interrupt() and has_ended(end))
        else:
            wait_until(lambda: len(run(url, RUNNING[family])) == 1)
            assert stopper.interrupt(SOON)
            wait_until(lambda: not run(url, RUNNING[family]))
        result = end()
        # MariaDB's sleep() answers that it was interrupted.
        assert isinstance(result, Exception) or family == "mysql"


def has_ended(end: Callable[..., Any]) -> bool:
    try:
        end(0.05)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("name", SERVERS)
def test_who_waits_for_a_silent_database_is_freed(name: str, drivers_databases: Databases) -> None:
    """Asking a silent server to stop takes no longer than said; cutting off works at once."""
    family = DRIVERS[name]
    url = drivers_databases(family)
    run(url, "INSERT INTO item VALUES ('a')")
    with proxied(url) as (proxy, through), running(name, through, through) as (stopper, end):
        wait_until(lambda: len(run(url, RUNNING[family])) == 1)
        proxy.stop()
        began = time.monotonic()
        stopper.interrupt(0.2)
        assert time.monotonic() - began < 2
        assert not stopper.is_severed
        stopper.sever()
        assert isinstance(end(), Exception)
        assert stopper.is_severed
        proxy.resume()
        proxy.drop()
    # As the server would when the client's host says that it is gone.
    for (number,) in run(url, RUNNING[family]):
        with suppress(Exception):
            run(url, END[family].format(number))
    wait_until(lambda: not run(url, RUNNING[family]))


@pytest.mark.parametrize("name", SERVERS)
def test_a_stopper_that_is_closed_touches_nothing(name: str, drivers_databases: Databases) -> None:
    """Cutting off what went back to the pool does not hit whoever has it next."""
    with Line(name, drivers_databases(DRIVERS[name])) as line:
        stopper = Stopper(line.driver, line.connection)
        stopper.close()
        stopper.sever()
        stopper.close()
        assert line.ask("SELECT count(*) FROM item") == 0


def test_something_done_behind_a_statement(drivers_databases: Databases) -> None:
    """aiosqlite's thread does it, after its statement, and whether or not the loop runs."""
    url = drivers_databases("sqlite")
    with Line("aiosqlite", url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        threads: list[str] = []

        def act(connection: Any) -> None:
            threads.append(threading.current_thread().name)
            connection.rollback()

        done = aiosqlite.behind_statements(line.connection, act)
        assert done.wait(SOON)
        assert threads == [line.connection._thread.name]
        assert line.ask("SELECT count(*) FROM item") == 0
