"""Connections of async drivers that are closed at once, inside a transaction."""

from __future__ import annotations

import gc
from typing import Any

import asyncpg

from atomicbatch.doors.asyncpg_kind import KIND
from tests.doors.in_batches import run_batch
from tests.doors.strangers import server
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ($1)"


def test_undone_ahead_of_the_next_statement(postgresql_store: Store) -> None:
    """In its call; a later one has nothing to undo. Nothing is kept of a batch that is over."""
    of = server(postgresql_store.url)
    seen: list[Any] = []

    async def cut_off() -> None:
        connection = await asyncpg.connect(**of)
        await connection.execute("BEGIN")
        await connection.execute(INSERT, "a")
        connection.terminate()

    async def insert(name: str) -> None:
        connection = await asyncpg.connect(**of)
        seen.append(await connection.fetchval("SELECT count(*) FROM t"))
        await connection.execute(INSERT, name)
        await connection.close()

    async def both() -> None:
        await cut_off()
        await cut_off()
        await insert("b")

    async def later() -> None:
        await insert("c")

    answer = run_batch(both, cut_off, later, cut_off)
    assert (answer.outcome, seen) == ("committed", [0, 1]), answer.body
    assert postgresql_store.rows() == ["b", "c"]
    gc.collect()
    assert len(KIND.closed) == 0
