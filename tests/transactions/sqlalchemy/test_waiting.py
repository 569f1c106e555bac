"""What the thread of an event loop waits for, as its stack shows it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import sqlalchemy as sa

from atomicbatch.transactions.sqlalchemy.waiting import Wait, wait_of
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.worlds import World

UPDATE = sa.text("UPDATE item SET n = n + 1 WHERE name = 'one'")


@contextmanager
def thread_in(act: Callable[[], object]) -> Iterator[Callable[[], Wait | None]]:
    """A thread that does something; gives what it waits for now."""
    thread = threading.Thread(target=act)
    thread.start()
    ident = thread.ident
    assert ident is not None
    try:
        yield lambda: wait_of(sys._current_frames().get(ident))
    finally:
        thread.join(30)


def seen(look: Callable[[], Wait | None]) -> Wait:
    deadline = time.monotonic() + 20
    while (wait := look()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert wait is not None
    return wait


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "pymysql", "pysqlite"])
def test_a_statement_that_waits(driver: str, databases: Databases) -> None:
    """It stays the same for as long as it waits, and is known for what it is."""
    family = {"pymysql": "mysql", "pysqlite": "sqlite"}.get(driver, "postgresql")
    database = databases(family)
    world, other = World(driver, database), World(driver, database)
    world.engine.connect().close()  # asks the server who it is
    holder = other.engine.connect()
    holder.execute(UPDATE)

    def update_item() -> None:
        with world.engine.begin() as connection:
            connection.execute(UPDATE)

    with thread_in(update_item) as look:
        try:
            first = seen(look)
            time.sleep(0.2)
            again = seen(look)
            assert again.is_same(first)
            assert first.may_wait
            assert first.url == world.engine.url
            assert "update_item (test_waiting.py:" in first.function
            assert first.real is None
        finally:
            holder.rollback()
            holder.close()
    world.engine.dispose()
    other.engine.dispose()


def test_statements_one_after_another(databases: Databases) -> None:
    """However alike they are, and however often one is met, they are not taken for one."""
    world = World("pysqlite", databases("sqlite"))
    ended = threading.Event()

    def read_often() -> None:
        with world.engine.connect() as connection:
            while not ended.is_set():
                connection.execute(sa.text("SELECT n FROM item")).all()

    with thread_in(read_often) as look:
        try:
            waits: list[Wait] = []
            deadline = time.monotonic() + 20
            while len(waits) < 20 and time.monotonic() < deadline:
                time.sleep(0.01)
                if (wait := look()) is not None:
                    waits.append(wait)
            assert len(waits) == 20
            assert not any(wait.may_wait for wait in waits)
            # A commit of one and the same connection would be.
            pairs = pairwise(waits)
            assert sum(one.is_same(other) for one, other in pairs) < 5
        finally:
            ended.set()
    world.engine.dispose()


def test_a_pool_that_is_used_up(databases: Databases) -> None:
    """Waiting for a connection of the pool is waiting as well."""
    world = World("psycopg2", databases("postgresql"), {"pool_size": 1, "max_overflow": 0})
    only = world.engine.connect()

    def connect() -> None:
        world.engine.connect().close()

    with thread_in(connect) as look:
        wait = seen(look)
        assert wait.may_wait
        time.sleep(0.1)
        assert seen(look).is_same(wait)
        only.close()
    world.engine.dispose()


def test_what_is_no_database() -> None:
    """Other work waits for nobody; its function can be named all the same."""
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(1000))

    with thread_in(compute) as look:
        assert [look() for _ in range(20)] == [None] * 20
        ended.set()
    assert wait_of(None) is None
