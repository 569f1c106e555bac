"""Whose event loop it is, and what else runs there: other loops, other apps, what is no request."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import ref

import psycopg2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import ask, call, scope_of
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.test_oracle import ask_plainly
from tests.transactions.sqlalchemy.test_watchdog import (
    ADD,
    BEHIND,
    GOOD,
    OLD,
    READ,
    after,
    disposing,
    house,
    run,
    slow,
    wrapped,
)
from tests.transactions.sqlalchemy.worlds import Item, World


def add_here(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.execute(ADD, {"name": "one"})
        session.commit()


# What is no request ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", "websocket", "stream"])
def test_others_on_the_loop(kind: str, databases: Databases) -> None:
    """The door does not hold them; a batch gives way to them all the same."""
    database = databases("postgresql")
    world = World("psycopg2", database)
    app = house(world.engine)
    wrote: list[float] = []

    def write() -> None:
        start = time.monotonic()
        add_here(world.engine)
        wrote.append(time.monotonic() - start)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        write()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            write()
            yield b"last"

        return StreamingResponse(chunks())

    async def task() -> None:
        write()

    async def main() -> None:
        async with disposing(world):
            both = wrapped(app)

            async def receive() -> Any:
                return {"type": "websocket.connect"}

            async def send(message: Any) -> None:
                pass

            other = {
                "task": task,
                "websocket": lambda: both(
                    scope_of("/socket", ()) | {"type": "websocket", "subprotocols": []},
                    receive,
                    send,
                ),
                "stream": lambda: ask_plainly(both, call("GET", "/stream")),
            }[kind]
            batch, _ = await asyncio.gather(
                ask(both, GOOD, slow(0.5), GOOD), after(0.2, _called_later(other))
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert wrote[0] < 3

    run(main)
    assert ("one", 13) in database.rows()


async def _called_later(function: Any) -> None:
    await function()


def test_an_idle_stream_delays_one_batch_for_a_moment(databases: Databases) -> None:
    """A request that does not end is waited for once, for a second."""
    database = databases("postgresql")
    world = World("psycopg2", database)
    app = house(world.engine)
    ended = asyncio.Event()

    @app.get("/idle")
    async def idle() -> None:
        await ended.wait()

    async def main() -> None:
        async with disposing(world):
            both = wrapped(app)
            idling = asyncio.create_task(ask_plainly(both, call("GET", "/idle")))
            batch, _ = await asyncio.gather(
                ask(both, GOOD, slow(0.4), GOOD), after(0.2, ask_plainly(both, OLD))
            )
            assert batch.headers["batch-attempts"] == "2"
            # Batches are alone for a while now, but wait for it no more.
            start = time.monotonic()
            assert (await ask(both, GOOD)).outcome == "committed"
            assert time.monotonic() - start < 0.9
            ended.set()
            assert (await idling).status == 200

    run(main)
    assert ("one", 14) in database.rows()


# Drivers without SQLAlchemy ----------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["pymysql", "psycopg"])
def test_a_driver_in_python_on_the_loop(driver: str, databases: Databases) -> None:
    """What waits in it is seen."""
    database = databases("mysql" if driver == "pymysql" else "postgresql")
    world = World(driver, database)
    app = house(world.engine)

    has_row = asyncio.Event()

    @app.post("/pause")
    async def pause() -> None:
        has_row.set()
        await asyncio.sleep(0.5)

    @app.post("/raw")
    async def raw() -> None:
        database.run("UPDATE item SET n = n + 1 WHERE name = 'one'")

    async def main() -> None:
        async with disposing(world):
            both = wrapped(app)

            async def meanwhile() -> tuple[Any, float]:
                await has_row.wait()
                return await after(0, ask_plainly(both, call("POST", "/raw")))

            batch, (plain, seconds) = await asyncio.gather(
                ask(both, GOOD, call("POST", "/pause"), GOOD), meanwhile()
            )
            assert (batch.outcome, plain.status) == ("committed", 200)
            assert batch.headers["batch-attempts"] == "2"
            assert seconds < 3

    run(main)
    assert ("one", 13) in database.rows()


def test_a_driver_in_c_on_the_loop(databases: Databases) -> None:
    """What waits in it is not told from work: the time limit ends it, and both are answered."""
    database = databases("postgresql")
    world = World("psycopg2", database)
    app = house(world.engine)

    @app.post("/raw")
    async def raw() -> None:
        url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE item SET n = n + 1 WHERE name = 'one'")
        connection.close()

    async def main() -> None:
        async with disposing(world):
            both = wrapped(app, limits=Limits(timeout_seconds=1))
            batch, (plain, seconds) = await asyncio.gather(
                ask(both, GOOD, slow(0.6), GOOD),
                after(0.2, ask_plainly(both, call("POST", "/raw"))),
            )
            assert batch.statuses[1] == 504
            assert plain.status == 200
            assert seconds < 3

    run(main)
    assert ("one", 11) in database.rows()


# Whose loop it is --------------------------------------------------------------------------------


def test_two_event_loops(databases: Databases) -> None:
    """Two servers in two threads of one process, one app: each batch gives way on its own loop."""
    database = databases("postgresql")
    world = World("psycopg2", database)
    app = wrapped(house(world.engine))
    found: list[Any] = []

    async def one() -> None:
        found.append(
            await asyncio.gather(
                ask(app, GOOD, slow(0.4), OLD),
                after(0.2, ask_plainly(app, OLD)),
            )
        )

    threads = [threading.Thread(target=asyncio.run, args=(one(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    world.engine.dispose()
    assert [batch.outcome for batch, _ in found] == ["committed"] * 2
    assert [plain.status for _, (plain, _) in found] == [200] * 2
    assert ("one", 10 + 2 * 3) in database.rows()


def test_two_batch_endpoints(databases: Databases) -> None:
    """A batch gives way to the requests of another app on its loop, and to another's batches."""
    database = databases("postgresql")
    world, other = World("psycopg2", database), World("psycopg", database)

    async def main() -> None:
        async with disposing(world, other):
            one, two = wrapped(house(world.engine)), wrapped(house(other.engine))
            batch, (second, _), (plain, _) = await asyncio.gather(
                ask(one, GOOD, slow(0.5), GOOD),
                after(0.2, ask(two, OLD, OLD)),
                after(0.25, ask_plainly(two, OLD)),
            )
            assert (batch.outcome, second.outcome) == ("committed", "committed")
            assert plain.status == 200

    run(main)
    assert ("one", 15) in database.rows()


def test_two_engines_of_one_database(databases: Databases) -> None:
    """What one batch has used on the loop does not keep another from using its own engine."""
    database = databases("postgresql")
    world, other = World("psycopg2", database), World("psycopg", database)
    app = house(world.engine)

    @app.post("/other")
    def use_other() -> None:
        add_here(other.engine)

    async def main() -> None:
        async with disposing(world, other):
            both = wrapped(app)
            for _ in range(2):
                assert (await ask(both, OLD)).outcome == "committed"
                assert (await ask(both, call("POST", "/other"))).outcome == "committed"
            assert (await ask(both, OLD, call("POST", "/other"))).statuses[1] == 501
            assert world.checked_out() == other.checked_out() == 0

    run(main)
    assert ("one", 14) in database.rows()


def test_nothing_is_kept_of_an_engine(databases: Databases) -> None:
    """An engine that is made for a request goes with it."""
    database = databases("sqlite")
    transaction = SQLAlchemyTransaction()
    engines: list[ref[sa.Engine]] = []
    app = FastAPI()

    @app.post("/new")
    async def new() -> None:
        engine = sa.create_engine(World("pysqlite", database).url)
        engines.append(ref(engine))
        add_here(engine)
        engine.dispose()

    async def main() -> None:
        both = AtomicBatch(app, transaction=transaction)
        for _ in range(2):
            assert (await ask(both, call("POST", "/new"))).outcome == "committed"
        for _ in range(100):
            gc.collect()
            if not any(engine() for engine in engines):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("an engine is still there")

    run(main)
    assert ("one", 12) in database.rows()


@pytest.mark.parametrize("options", [{}, {"poolclass": StaticPool}])
def test_sqlite_in_memory(options: dict[str, Any]) -> None:
    """Its connection belongs to the thread of the event loop, where all is done."""
    engine = sa.create_engine("sqlite://", **options)

    async def main() -> None:
        Item.metadata.create_all(engine)
        app = FastAPI()

        @app.post("/add/{name}")
        async def add(name: str) -> None:
            with Session(engine) as session:
                session.add(Item(name=name))
                session.commit()

        @app.post("/fail")
        async def fail() -> None:
            raise RuntimeError

        both = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        first = await ask(both, call("POST", "/add/one"), call("POST", "/add/two"))
        assert first.outcome == "committed", first.body
        failing = await ask(both, call("POST", "/add/three"), call("POST", "/fail"))
        assert failing.outcome.startswith("rolled-back")
        with Session(engine) as session:
            assert session.scalars(sa.select(Item.name).order_by(Item.name)).all() == ["one", "two"]

    try:
        run(main)
    finally:
        engine.dispose()


_FORKING = """
import asyncio, os, sys, warnings
import sqlalchemy as sa
from tests.asgi.asking import ask
from tests.transactions.sqlalchemy.test_oracle import ask_plainly
from tests.transactions.sqlalchemy.test_watchdog import GOOD, OLD, after, house, slow, wrapped

engine = sa.create_engine(sys.argv[1])
app = wrapped(house(engine))

async def main():
    return await asyncio.gather(
        ask(app, GOOD, slow(0.4), OLD), after(0.2, ask_plainly(app, OLD))
    )

def check():
    batch, (plain, _) = asyncio.run(main())
    found = batch.outcome, batch.headers.get("batch-attempts"), plain.status
    assert found == ("committed", "2", 200), found

check()
engine.dispose()
warnings.simplefilter("ignore")
if not (pid := os.fork()):
    status = 1
    try:
        check()
        status = 0
    finally:
        os._exit(status)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_was_forked(databases: Databases) -> None:
    """A process that was forked after batches had run has threads of its own for them."""
    database = databases("sqlite")
    url = World("pysqlite", database).url.render_as_string()
    program = [sys.executable, "-c", _FORKING, url]
    subprocess.run(program, check=True, timeout=60, cwd=Path(__file__).parents[3])
    assert ("one", 16) in database.rows()


def test_uvloop(databases: Databases) -> None:
    """On uvloop all is the same."""
    uvloop = pytest.importorskip("uvloop")
    database = databases("postgresql")
    world, other = World("asyncpg", database), World("psycopg2", database)

    async def main() -> None:
        async with disposing(world, other), asyncio.timeout(30):
            app = wrapped(house(other.engine))
            batch, (old, _), (read, _) = await asyncio.gather(
                ask(app, BEHIND, slow(0.5), GOOD),
                after(0.2, ask_plainly(app, OLD)),
                after(0.3, ask_plainly(app, READ)),
            )
            assert batch.outcome == "committed"
            assert batch.headers["batch-attempts"] == "2"
            assert (old.status, read.status) == (200, 200)

    uvloop.run(main())
    assert ("one", 13) in database.rows()


_TWO = """
import asyncio, sys, time
import sqlalchemy as sa
from tests.asgi.asking import ask, call
from tests.transactions.sqlalchemy.test_oracle import ask_plainly
from tests.transactions.sqlalchemy.test_watchdog import after, house, slow, wrapped

url, start, mine, its = sys.argv[1:]
app = wrapped(house(sa.create_engine(url)))

async def main():
    await asyncio.sleep(float(start) - time.time())
    batch, (plain, _) = await asyncio.gather(
        ask(app, call("POST", f"/good?name={mine}"), slow(0.8), call("POST", f"/old?name={mine}")),
        after(0.4, ask_plainly(app, call("POST", f"/old?name={its}"))),
    )
    found = batch.outcome, plain.status
    assert found == ("committed", 200), found

asyncio.run(main())
"""


@pytest.mark.prove
def test_two_processes(databases: Databases) -> None:
    """Each one's event loop waits for the other one's batch, which no database can see."""
    database = databases("postgresql")
    url = World("psycopg2", database).url.render_as_string(hide_password=False)
    start = str(time.time() + 6)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TWO, url, start, *names], cwd=Path(__file__).parents[3]
        )
        for names in (("one", "two"), ("two", "one"))
    ]
    try:
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert database.rows() == [("one", 13), ("two", 23)]


def test_the_option_of_before() -> None:
    """It is taken, has no effect, and says so."""
    with pytest.warns(DeprecationWarning, match="no effect any more"):
        SQLAlchemyTransaction(allow_sync_engine_on_loop=True)
