"""asyncpg: what is refused where nobody joins it, and what stays a connection's own in a batch."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from asyncpg import pool as asyncpg_pool
from fastapi import FastAPI

from atomicbatch import Batch, doors, guard
from atomicbatch.asgi import AtomicBatch
from atomicbatch.doors import asyncpg as door
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import Answer, ask, call
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ('x')"
WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "fetch": lambda one: one.fetch(f"{INSERT} RETURNING id"),
    "executemany": lambda one: one.executemany("INSERT INTO t (name) VALUES ($1)", [("x",)]),
    "prepare": lambda one: one.prepare(INSERT),
    "copy_to_table": lambda one: one.copy_to_table("t", source=io.BytesIO(b"1\tx\n")),
    "copy_records": lambda one: one.copy_records_to_table("t", records=[(1, "x")]),
    "copy_from_query": lambda one: one.copy_from_query(
        f"{INSERT} RETURNING id", output=io.BytesIO()
    ),
}


def _name(store: Store) -> str:
    return store.url.rpartition("/")[2]


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, postgresql_store: Store) -> None:
    """Each way is refused where nobody joins the connection."""
    doors.install()

    async def write() -> None:
        connection = await asyncpg.connect(postgresql_store.url)
        try:
            await WAYS[way](connection)
        finally:
            await connection.close()

    assert f"{_name(postgresql_store)} by asyncpg, at " in refused(lambda: asyncio.run(write()))
    assert postgresql_store.rows() == []


def test_reading_passes(postgresql_store: Store) -> None:
    """Queries, cursors in the server, copies out, listening, and what pools reset by."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    url = postgresql_store.url

    async def read() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            assert await pool.fetchval("SELECT count(*) FROM t") == 0
            async with pool.acquire() as connection, connection.transaction():
                assert [row async for row in connection.cursor("SELECT * FROM t")] == []
                await connection.copy_from_table("t", output=io.BytesIO())
            async with pool.acquire() as connection:
                await connection.add_listener("channel", lambda *_: None)
                await connection.reset()

    with watched.begin(Batch(()), deadline=0):
        asyncio.run(read())


def test_another_asyncpg_is_left_to_the_guard(
    postgresql_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where something that we need is not there, what is written in a batch is refused."""
    doors.uninstall()
    monkeypatch.setattr(door, "_OF_HOLDER", ("no_such_name",))
    door.change_asyncpg(asyncpg_pool)
    connection: Any = None

    async def write() -> None:
        nonlocal connection
        connection = await asyncpg.connect(postgresql_store.url)
        try:
            await connection.execute("INSERT INTO t (name) VALUES ($1)", "x")
        finally:
            await connection.close()

    try:
        assert "by asyncpg, at " in refused(lambda: asyncio.run(write()))
        assert postgresql_store.rows() == []
    finally:
        doors.uninstall()
        doors.install()
        door.change_asyncpg(asyncpg_pool)


# In a batch ---------------------------------------------------------------------------------------

Handler = Callable[[asyncpg.Pool], Awaitable[Any]]
WRITE = "INSERT INTO t (name) VALUES ($1)"


def in_batches(url: str, *handlers: Handler, size: int = 2) -> list[Answer]:
    """Run each handler in a batch of its own, by one pool; all of them have been connected."""
    return asyncio.run(_in_batches(url, handlers, size))


async def _in_batches(url: str, handlers: Any, size: int) -> list[Answer]:
    app = FastAPI()
    batches = AtomicBatch(app, transaction=DriverTransaction())
    async with asyncpg.create_pool(url, min_size=size, max_size=size) as pool:
        answers = []
        for number, one in enumerate(handlers):

            @app.post(f"/{number}")
            async def run(one: Handler = one) -> Any:
                return await one(pool)

            answers.append(await ask(batches, call("POST", f"/{number}")))
        return answers


def _drop(held: list[Any]) -> None:
    held.clear()
    gc.collect()


def test_what_the_garbage_collector_finds(postgresql_store: Store) -> None:
    """A connection that is dropped in a call is ended by itself, and the batch goes on."""

    async def drop(pool: asyncpg.Pool) -> None:
        await pool.execute(WRITE, "a")
        for used in (False, True):
            held = [await asyncpg.connect(postgresql_store.url)]
            if used:
                await held[0].execute(WRITE, "b")
            with pytest.warns(ResourceWarning):
                _drop(held)
        await pool.execute(WRITE, "c")

    (answer,) = in_batches(postgresql_store.url, drop)
    assert answer.outcome == "committed", answer.body
    assert postgresql_store.rows() == ["a", "b", "c"]


def test_statements_across_batches(postgresql_store: Store) -> None:
    """One that was prepared in a batch works outside of it and in the next one; and the others."""
    kept: dict[str, Any] = {}

    async def prepare(pool: asyncpg.Pool) -> Any:
        kept["pool"] = pool
        kept["statement"] = await kept["one"].prepare(f"{WRITE} RETURNING name")
        return [await kept["statement"].fetchval("in"), await kept["one"].fetchval("SELECT 1")]

    async def again(_: Any) -> Any:
        return [await kept["statement"].fetchval("again"), await kept["one"].fetchval("SELECT 1")]

    async def go() -> None:
        kept["one"] = await asyncpg.connect(postgresql_store.url)
        (first,) = await _in_batches(postgresql_store.url, [prepare], 1)
        assert first.outcome == "committed", first.body
        assert await kept["statement"].fetchval("out") == "out"
        assert await kept["one"].fetchval("SELECT 1") == 1
        (second,) = await _in_batches(postgresql_store.url, [again], 1)
        assert second.outcome == "committed", second.body
        assert await kept["statement"].fetchval("at last") == "at last"
        await kept["one"].close()

    asyncio.run(go())
    assert postgresql_store.rows() == ["in", "out", "again", "at last"]


def test_a_cancelled_statement(postgresql_store: Store) -> None:
    """Nobody knows what it has come to: the batch fails, the connection and its pool live on."""

    async def cancel(pool: asyncpg.Pool) -> str:
        await pool.execute(WRITE, "a")
        try:
            await asyncio.wait_for(pool.execute("SELECT pg_sleep(9)"), 0.05)
        except TimeoutError:
            return "swallowed"
        return "not reached"

    async def use(pool: asyncpg.Pool) -> None:
        await pool.execute(WRITE, "b")

    cancelled, after = in_batches(postgresql_store.url, cancel, use, size=1)
    assert cancelled.outcome.startswith("rolled-back"), cancelled.body
    assert after.outcome == "committed", after.body
    assert postgresql_store.rows() == ["b"]


def test_a_lost_connection(postgresql_store: Store) -> None:
    """The server ends the batch's connection: nothing is stored, and the batch runs again."""
    runs = []

    async def lose(pool: asyncpg.Pool) -> int:
        runs.append(await pool.fetchval(f"{WRITE} RETURNING pg_backend_pid()", "a"))
        if len(runs) == 1:
            other = await asyncpg.connect(postgresql_store.url)
            with guard.aside():
                await other.execute("SELECT pg_terminate_backend($1)", runs[0])
                await other.close()
            await pool.execute(WRITE, "b")
        return len(runs)

    (answer,) = in_batches(postgresql_store.url, lose)
    assert answer.outcome == "committed", answer.body
    assert (len(runs), postgresql_store.rows()) == (2, ["a"])


def test_a_transaction_that_ended_unseen(postgresql_store: Store) -> None:
    """Ours goes ahead of a statement: where ours fails, the statement is not run."""

    async def end(pool: asyncpg.Pool) -> None:
        await pool.execute(WRITE, "a")
        # What the reader of SQL cannot see.
        await pool.execute("DO $$ BEGIN NULL; END $$")
        use: Any = next(iter(guard.watch.watching.get().joined.begun))  # type: ignore[union-attr]
        await use.wire.execute("ROLLBACK")
        await pool.execute(WRITE, "b")

    (answer,) = in_batches(postgresql_store.url, end)
    assert answer.outcome.startswith("rolled-back") or "unknown" in answer.outcome, answer.body
    assert postgresql_store.rows() == []


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[tuple[str, list[int]]]:
    """Stand between asyncpg and the server: count how often the direction turns to the server."""
    parts, trips = urlsplit(url), [0]

    async def stand(reader: Any, writer: Any) -> None:
        from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        is_ours = False

        async def pass_on(one: Any, other: Any, *, to_server: bool) -> None:
            nonlocal is_ours
            while data := await one.read(65536):
                trips[0] += to_server and not is_ours
                is_ours = to_server
                other.write(data)
            other.close()

        await asyncio.gather(
            pass_on(reader, to_server, to_server=True),
            pass_on(from_server, writer, to_server=False),
        )

    server = await asyncio.start_server(stand, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl(), trips


async def _transaction(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(WRITE, "x")


WORK: dict[str, tuple[Handler, int, int]] = {
    "prepared write": (lambda pool: pool.execute(WRITE, "x"), 2, 1),
    "write by text": (lambda pool: pool.execute(INSERT), 2, 2),
    "transaction": (_transaction, 4, 1),
    "read": (lambda pool: pool.fetch("SELECT name FROM t WHERE id = $1", 1), 2, 1),
}


@pytest.mark.parametrize("work", WORK)
def test_how_many_round_trips_a_call_takes(work: str, postgresql_store: Store) -> None:
    """Alone and in a batch, with the return to the pool; only SQL by text costs one more there."""
    act, alone, in_a_batch = WORK[work]

    async def go() -> None:
        app = FastAPI()

        @app.post("/")
        async def run() -> None:
            await act(pool)

        batches = AtomicBatch(app, transaction=DriverTransaction())
        async with (
            counting(postgresql_store.url) as (url, trips),
            asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        ):

            async def taken(calls: int) -> int:
                before = trips[0]
                answer = await ask(batches, *[call("POST", "/")] * calls)
                assert answer.outcome == "committed", answer.body
                return trips[0] - before

            await act(pool)
            before = trips[0]
            await act(pool)
            assert trips[0] - before == alone
            await taken(2)
            assert await taken(5) - await taken(2) == 3 * in_a_batch

    asyncio.run(go())
