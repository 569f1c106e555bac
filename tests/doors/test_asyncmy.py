"""The door of asyncmy: statements that the server has prepared, where nothing joins."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncmy
import pytest

from atomicbatch import Batch, NotBatchableError, doors, guard
from atomicbatch.doors import asyncmy as door
from tests.doors.strangers import server
from tests.doors.test_sqlite import Nothing
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES (?)"


async def in_a_guarded_batch(act: Any) -> None:
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with watched.begin(Batch(()), deadline=0):
        await act()


def test_writes_are_refused(mariadb_store: Store) -> None:
    """Whether the statement was prepared before the batch or in it, by hand or by the driver."""
    doors.install()

    async def go() -> None:
        connection: Any = await asyncmy.connect(
            **server(mariadb_store.url), autocommit=True, stmt_cache_size=9
        )
        before = await connection.prepare(INSERT)
        cursor = connection.cursor()
        await cursor.execute("INSERT INTO t (name) VALUES (%s)", ["kept"])

        async def prepare() -> None:
            await (await connection.prepare(INSERT)).execute(["a"])

        acts = [
            lambda: before.execute(["b"]),
            prepare,
            lambda: cursor.execute("INSERT INTO t (name) VALUES (%s)", ["c"]),
            lambda: cursor.executemany("INSERT INTO t (name) VALUES (%s)", [["d"], ["e"]]),
        ]
        for act in acts:
            with pytest.raises(NotBatchableError, match=r"a handler writes .* by asyncmy"):
                await in_a_guarded_batch(act)
        await before.close()
        await connection.ensure_closed()

    asyncio.run(go())
    assert mariadb_store.rows() == ["kept"]


def test_reads_pass(mariadb_store: Store) -> None:
    """Their texts are known, although the commands do not tell them; then they are forgotten."""
    doors.install()

    async def go() -> None:
        connection: Any = await asyncmy.connect(**server(mariadb_store.url), stmt_cache_size=9)
        before = await connection.prepare("SELECT count(*) FROM t WHERE id > ?")
        cursor = connection.cursor()

        async def read() -> None:
            assert (await before.execute([1])).rows == ((0,),)
            await cursor.execute("SELECT count(*) FROM t WHERE id > %s", [1])
            assert await cursor.fetchall() == ((0,),)

        await in_a_guarded_batch(read)
        assert len(vars(connection)[door._TEXTS]) == 2
        await before.close()
        assert len(vars(connection)[door._TEXTS]) == 1
        await connection.ensure_closed()

    asyncio.run(go())
