"""
COMMIT goes wrong on the way: the answer never says what the database does not hold.

Each fault is a real one of a real connection. What is stored is looked at through a connection of
the tests' own.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests import databases as databases_of_tests
from tests.asgi.asking import Answer, ask
from tests.disks import FaultyDisk
from tests.proxies import At, Fault, Proxy, flipped, proxied
from tests.transactions.sqlalchemy.oracle import Databases, add
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import DRIVERS, SEED, Database, World

SERVERS = sorted(set(DRIVERS) - {"pysqlite", "aiosqlite"})
POSTGRESQL = [driver for driver in SERVERS if DRIVERS[driver] == "postgresql"]
MYSQL = [driver for driver in SERVERS if DRIVERS[driver] == "mysql"]
STORED = sorted([*SEED, ("new1", 0), ("new2", 0)])
# The drivers that have a time limit of their own for each statement.
LIMITED: dict[str, dict[str, Any]] = {
    "asyncpg": {"command_timeout": 1},
    "cockroachdb-asyncpg": {"command_timeout": 1},
    "pymysql": {"read_timeout": 1},
    "asyncmy": {"read_timeout": 1},
}


def out_of_step(answer: bytes) -> bytes:
    """MySQL: the number of the packet is wrong."""
    return answer[:3] + bytes([answer[3] + 3]) + answer[4:]


def no_ok(answer: bytes) -> bytes:
    """MySQL: a packet that begins as none does that may follow."""
    return answer[:4] + b"\xfa" + answer[5:]


def cut(answer: bytes) -> bytes:
    """MySQL: a packet that ends too soon."""
    return b"\x01\x00\x00" + answer[3:5]


def no_length(answer: bytes) -> bytes:
    """PostgreSQL: a message of an impossible length."""
    return answer[:1] + b"\x00\x00\x00\x01" + answer[5:]


GARBLES: list[Any] = [
    *((driver, garble) for driver in POSTGRESQL for garble in (flipped, no_length)),
    *((driver, garble) for driver in MYSQL for garble in (out_of_step, no_ok, cut)),
]
FAULTS = [
    pytest.param(driver, fault, at, flipped, id=f"{driver}-{fault.value}-{at.value}")
    for driver in SERVERS
    for fault in (Fault.DROP, Fault.RESET)
    for at in At
] + [
    pytest.param(driver, Fault.GARBLE, At.ANSWER, garble, id=f"{driver}-{garble.__name__}")
    for driver, garble in GARBLES
] + [
    pytest.param(driver, Fault.STOP, at, flipped, id=f"{driver}-stop-{at.value}")
    for driver in LIMITED
    if driver in SERVERS
    for at in At
]  # fmt: skip


async def send(
    world: World, proxy: Proxy, arm: Callable[[], None], closed: list[str]
) -> tuple[Answer, Answer]:
    """Send a batch whose COMMIT goes wrong, and another one after it."""

    @event.listens_for(world.engine, "close")
    @event.listens_for(world.engine, "close_detached")
    def close(*_: Any) -> None:
        closed.append("closed")

    @event.listens_for(world.engine, "invalidate")
    def invalidate(*_: Any) -> None:
        closed.append("invalidated")

    try:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        assert (await ask(app, add("first"))).outcome == "committed"
        arm()
        async with asyncio.timeout(30):
            answer = await ask(app, add("new1"), add("new2"))
        assert proxy.happened.is_set()
        proxy.resume()
        async with asyncio.timeout(30):
            later = await ask(app, add("later"))
        assert world.checked_out() == 0
        return answer, later
    finally:
        proxy.resume()
        await world.dispose()


def rows_of(database: Database) -> list[tuple[str, int]]:
    """What the batches have stored that the faults are for."""
    return [row for row in database.rows() if row[0] not in ("first", "later")]


@pytest.mark.parametrize(("driver", "fault", "at", "garble"), FAULTS)
def test_the_answer_to_commit_is_lost(
    driver: str,
    fault: Fault,
    at: At,
    garble: Callable[[bytes], bytes],
    databases: Databases,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The outcome is unknown, nothing is run again, and the connection is never used again."""
    database = databases(DRIVERS[driver])
    closed: list[str] = []
    with proxied(database.url.render_as_string(hide_password=False)) as (proxy, url):
        through: Database = replace(database, url=sa.make_url(url))
        options = LIMITED.get(driver, {})
        world = World(driver, through, {"connect_args": options} if options else {})

        def arm() -> None:
            proxy.when(b"COMMIT", fault, at=at, garble=garble)

        answer, later = asyncio.run(send(world, proxy, arm, closed))
    assert (answer.status, answer.outcome) == (503, "unknown")
    assert "retry-after" not in answer.headers
    assert answer.problem["type"].endswith("outcome-unknown")
    assert "batch-attempts" not in answer.headers
    assert closed[:1] == ["invalidated"]
    # One line, whoever has noticed: SQLAlchemy's pool, asyncio or we.
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in told] == ["ERROR"], caplog.text
    assert "Traceback" not in caplog.text
    assert later.outcome == "committed"
    # A COMMIT that was only held up arrives later: the unknown outcome was one indeed.
    if at is At.REQUEST and fault is not Fault.STOP:
        assert rows_of(database) == SEED
    else:
        end = time.monotonic() + 10
        while (rows := rows_of(database)) != STORED and time.monotonic() < end:
            time.sleep(0.01)
        assert rows == STORED


ON_A_FAULTY_DISK = {"sync": ["first", "new1", "new2"], "full": ["first"]}


def test_sqlite_on_a_faulty_disk(tmp_path: Path) -> None:
    """Not synced, the frame that commits is there after a crash; nobody knew. Nor with no room."""
    disk = FaultyDisk(tmp_path, "-wal")
    folders = [
        tmp_path / f"{driver}-{how}"
        for driver in ("pysqlite", "aiosqlite")
        for how in ON_A_FAULTY_DISK
    ]
    databases = [
        Database("sqlite", sa.make_url(f"sqlite:///{folder / 'test.sqlite'}")) for folder in folders
    ]
    for folder, database in zip(folders, databases, strict=True):
        folder.mkdir()
        database.run("PRAGMA journal_mode=WAL")
        database.create()
    program = "tests.transactions.sqlalchemy.on_a_faulty_disk"
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, folders)],
        env=disk.environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["503 unknown 0"] * len(folders), done.stderr
    stored = [[name for name, _ in database.rows()] for database in databases]
    assert stored == [*ON_A_FAULTY_DISK.values()] * 2


def test_commit_waits_for_a_standby_that_is_away() -> None:
    """The driver's time limit strikes while the rows are stored already, but not shown: unknown."""
    with databases_of_tests.postgresql() as server:
        database = Database("postgresql", sa.make_url(f"{server}/postgres"))
        database.create()
        world = World("asyncpg", database, {"connect_args": {"command_timeout": 1}})
        answer = asyncio.run(send_without_standby(world, database))
        assert (answer.status, answer.outcome) == (503, "unknown")
        set_standby(database, "")  # who waits for it waits no more
        deadline = time.monotonic() + 20
        while len(database.rows()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [name for name, _ in database.rows()] == ["first", "new1", "new2"]


async def send_without_standby(world: World, database: Database) -> Answer:
    try:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        assert (await ask(app, add("first"))).outcome == "committed"
        set_standby(database, "away")
        async with asyncio.timeout(30):
            return await ask(app, add("new1"), add("new2"))
    finally:
        await world.dispose()


def set_standby(database: Database, name: str) -> None:
    """Let every COMMIT wait for a standby of this name; none: for nobody."""
    database.run(
        f"ALTER SYSTEM SET synchronous_standby_names = '{name}'", "SELECT pg_reload_conf()"
    )
    deadline = time.monotonic() + 20
    while database.run("SHOW synchronous_standby_names") != [(name,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
