"""The door of aiosqlite: the thread of a connection belongs to no batch."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import aiosqlite
import pytest

from atomicbatch import doors
from atomicbatch.guard.watch import watching
from tests.asgi.asking import Answer
from tests.doors.in_batches import batch_of
from tests.stores import Store

request = ContextVar("request", default="none")


def told() -> str:
    """Whose context this is: its request, and whether a batch watches it."""
    return f"{request.get()}, {'watched' if watching.get() else 'not watched'}"


@pytest.mark.parametrize("is_kept_from_before", [True, False])
def test_the_thread_of_a_connection_is_in_no_batch(
    sqlite_store: Store, is_kept_from_before: bool
) -> None:
    """It follows each statement into its call's batch, and is in none after that."""
    doors.install()
    kept: list[aiosqlite.Connection] = []
    answers: list[Any] = []

    async def opened() -> None:
        request.set("the call that opened it")
        connection = await aiosqlite.connect(sqlite_store.url)
        await connection.create_function("told", 0, told)
        kept.append(connection)

    async def ask() -> None:
        request.set("the call that asks")
        answers.extend(await kept[0].execute_fetchall("SELECT told()"))

    async def write() -> None:
        await kept[0].execute("INSERT INTO t (name) VALUES ('undone')")
        await kept[0].commit()

    async def fail() -> None:
        raise ValueError

    async def go() -> Answer:
        if is_kept_from_before:
            await asyncio.create_task(opened())
        answer = await batch_of(*([] if is_kept_from_before else [opened]), ask, write, fail)
        answers.extend(await kept[0].execute_fetchall("SELECT told()"))
        await kept[0].execute("INSERT INTO t (name) VALUES ('kept')")
        await kept[0].commit()
        await kept[0].close()
        return answer

    assert asyncio.run(go()).outcome.startswith("rolled-back")
    assert answers == [("the call that asks, watched",), ("none, not watched",)]
    assert sqlite_store.rows() == ["kept"]


def test_a_database_in_memory_that_a_call_opens(sqlite_store: Store) -> None:
    """It is the call's own, for the guard as well, whatever thread works on it."""
    doors.install()

    async def use() -> None:
        async with aiosqlite.connect(":memory:") as own:
            await own.execute("CREATE TABLE t (name TEXT)")
            await own.executemany("INSERT INTO t VALUES (?)", [("a",), ("b",)])
            await own.commit()
            rows.extend(await own.execute_fetchall("SELECT name FROM t"))

    rows: list[Any] = []
    answer = asyncio.run(batch_of(use))
    assert answer.outcome == "committed", answer.body
    assert rows == [("a",), ("b",)]
    assert sqlite_store.rows() == []
