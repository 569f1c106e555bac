"""The doors of aiomysql and asyncmy: what is cancelled, closed, stopped or lost on the wire."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiomysql
import asyncmy
import pymysql
import pytest

from atomicbatch.doors import aiomysql as door
from atomicbatch.doors import asyncmy as asyncmy_door
from tests.doors.in_batches import batch_of, run_batch
from tests.doors.strangers import server
from tests.doors.test_pymysql import comes_to_rest, others
from tests.doors.test_pymysql import connect as connect_plainly
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES (%s)"
DRIVERS: list[Any] = [aiomysql, asyncmy]


def parameters(driver: Any, store: Store) -> dict[str, Any]:
    of = server(store.url)
    return of if driver is asyncmy else {"db": of.pop("database"), **of}


@asynccontextmanager
async def connect(driver: Any, store: Store, **options: Any) -> Any:
    connection = await driver.connect(**parameters(driver, store), **options)
    try:
        yield connection
    finally:
        await connection.ensure_closed()


async def insert(driver: Any, store: Store, name: str, **options: Any) -> None:
    async with connect(driver, store, **options) as connection:
        cursor = await connection.cursor()
        await cursor.execute(INSERT, [name])
        await connection.commit()


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.__name__)
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_one_round_trip_more_for_a_write(
    driver: Any, mariadb_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a batch a savepoint is sent ahead of a write, and COMMIT is not; reads are alone."""
    sent: list[bytes] = []
    kind = driver.connection.Connection
    write = kind._write_bytes

    def count(self: Any, data: bytes) -> None:
        sent.append(data)
        write(self, data)

    monkeypatch.setattr(kind, "_write_bytes", count)
    counted: list[int] = []

    async def go() -> Any:
        async with connect(driver, mariadb_store) as connection:
            cursor = await connection.cursor()

            async def act() -> None:
                sent.clear()
                await cursor.execute(INSERT, ["a"])
                await cursor.execute("UPDATE t SET name = 'b'")
                await connection.commit()
                counted.append(len(sent))
                sent.clear()
                await cursor.execute("SELECT name FROM t")
                await cursor.execute("SELECT name FROM t")
                await connection.rollback()
                counted.append(len(sent))

            await act()
            return await batch_of(act, act)

    answer = asyncio.run(go())
    assert answer.outcome == "committed", answer.body
    assert counted[:2] == [3, 3]
    assert counted[3:] == [2, 3, 2]


def test_cancelled_in_a_statement(driver: Any, mariadb_store: Store) -> None:
    """Its answer would be taken for the next one: the batch fails, and its statement is stopped."""

    async def cancel() -> str:
        async with connect(driver, mariadb_store) as connection:
            cursor = await connection.cursor()
            await cursor.execute(INSERT, ["b"])
            with suppress(TimeoutError):
                await asyncio.wait_for(cursor.execute("SELECT 1 FROM t WHERE SLEEP(60)"), 0.2)
        return "swallowed"

    async def go() -> Any:
        answer = await batch_of(partial(insert, driver, mariadb_store, "a"), cancel)
        with connect_plainly(mariadb_store) as plain:
            for _ in range(50):
                if not [text for _, text in others(plain) if "SLEEP(60)" in text]:
                    return answer
                await asyncio.sleep(0.05)
        raise AssertionError("the statement goes on")

    answer = asyncio.run(go())
    assert answer.outcome.startswith("rolled-back"), answer.body
    assert mariadb_store.rows() == []


def test_cancelled_while_it_waits_for_its_turn(driver: Any, mariadb_store: Store) -> None:
    """Nothing of it was sent: the batch goes on."""

    async def go_on() -> None:
        async with (
            connect(driver, mariadb_store) as one,
            connect(driver, mariadb_store) as other,
        ):
            first, second = await one.cursor(), await other.cursor()
            await first.execute("SELECT 1")
            await second.execute("SELECT 1")
            slow = asyncio.ensure_future(first.execute("SELECT SLEEP(0.15)"))
            await asyncio.sleep(0)
            with suppress(TimeoutError):
                await asyncio.wait_for(second.execute("SELECT 2"), 0.05)
            await slow
            await first.execute(INSERT, ["b"])
            await one.commit()

    answer = run_batch(partial(insert, driver, mariadb_store, "a"), go_on)
    assert answer.outcome == "committed", answer.body
    assert mariadb_store.rows() == ["a", "b"]


def test_closed_with_a_transaction_open(driver: Any, mariadb_store: Store) -> None:
    """What it has open is undone ahead of what the call does next, although close() cannot wait."""
    seen: list[Any] = []

    async def close() -> None:
        connection = await driver.connect(**parameters(driver, mariadb_store))
        cursor = await connection.cursor()
        await cursor.execute(INSERT, ["lost"])
        connection.close()
        async with connect(driver, mariadb_store) as other:
            cursor = await other.cursor()
            await cursor.execute("SELECT count(*) FROM t")
            seen.extend(await cursor.fetchone())
            await cursor.execute(INSERT, ["b"])
            await other.commit()

    answer = run_batch(close)
    assert (answer.outcome, seen) == ("committed", [0]), answer.body
    assert mariadb_store.rows() == ["b"]


def test_time_limit(driver: Any, mariadb_store: Store) -> None:
    """A statement that runs too long is stopped in the server, and all is undone."""

    async def sleep() -> None:
        async with connect(driver, mariadb_store) as connection:
            cursor = await connection.cursor()
            await cursor.execute("SELECT 1 FROM t WHERE SLEEP(60)")

    answer = run_batch(partial(insert, driver, mariadb_store, "a"), sleep, seconds=0.4)
    assert answer.status == 504 or answer.outcome.endswith("status=504"), answer.body
    with connect_plainly(mariadb_store) as plain:
        # The server gets to it when it can; SLEEP itself would take a minute.
        give_up_at = time.monotonic() + 20
        while any("SLEEP(60)" in text for _, text in others(plain)):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
    assert mariadb_store.rows() == []


def test_a_value_that_cannot_be_read(driver: Any, mariadb_store: Store) -> None:
    """The rest of the answer would be taken for the next one: the wire is of no more use."""

    def broken(_: Any) -> None:
        raise ValueError("not so")

    found = pymysql.converters.conversions
    if driver is asyncmy:
        found = asyncmy.converters.conversions

    async def read() -> str:
        async with connect(driver, mariadb_store, conv={**found, 3: broken}) as connection:
            cursor = await connection.cursor()
            with suppress(ValueError):
                await cursor.execute("SELECT id FROM t")
        return "swallowed"

    answer = run_batch(partial(insert, driver, mariadb_store, "a"), read)
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert "see to its converters (conv): ValueError" in str(answer.body)
    assert mariadb_store.rows() == []


@pytest.mark.parametrize(
    "driver",
    [aiomysql, pytest.param(asyncmy, marks=pytest.mark.prove)],
    ids=["aiomysql", "asyncmy"],
)
def test_lock_wait_timeout(driver: Any, mariadb_store: Store) -> None:
    """Whoever waits too long for a lock is run again, even where the handler swallows it."""
    asyncio.run(insert(driver, mariadb_store, "one"))
    patience = "SET SESSION innodb_lock_wait_timeout = 1"
    attempts: list[str] = []
    with connect_plainly(mariadb_store) as blocker:
        blocker.cursor().execute("UPDATE t SET name = 'held' WHERE id = 1")

        async def wait() -> str:
            attempts.append("")
            if len(attempts) == 2:
                await asyncio.to_thread(blocker.rollback)
            async with connect(driver, mariadb_store, init_command=patience) as connection:
                cursor = await connection.cursor()
                with suppress(pymysql.Error, asyncmy.errors.Error):
                    await cursor.execute("UPDATE t SET name = 'won' WHERE id = 1")
                await connection.commit()
            return "swallowed"

        answer = run_batch(partial(insert, driver, mariadb_store, "a", init_command=patience), wait)
    assert (answer.outcome, len(attempts)) == ("committed", 2), answer.body
    assert mariadb_store.rows() == ["won", "a"]


class Other:
    """A connection of another version than we know."""

    _unix_socket, _host, _port, _db = None, "localhost", 3306, "shop"

    async def query(self, sql: str) -> str:
        return sql


class OtherWithCommands(Other):
    async def _execute_command(self, command: int, sql: Any) -> Any:
        return sql

    async def query(self, sql: str) -> str:
        return str(await self._execute_command(3, sql))


@pytest.mark.parametrize(
    ("base", "command", "verb"),
    [
        (Other, 0, b"INSERT"),
        (OtherWithCommands, 0, b"INSERT"),
        (OtherWithCommands, 22, b"INSERT"),
        (OtherWithCommands, 23, b"a prepared statement"),
    ],
)
def test_another_version_than_we_know(base: type[Other], command: int, verb: bytes) -> None:
    """It does not join, and what it writes is refused by the name of the version that would."""
    kind: Any = type("Connection", (base,), dict(vars(base)))

    async def write() -> Any:
        if command:
            return await kind()._execute_command(command, "INSERT INTO t VALUES (1)")
        return await kind().query("INSERT INTO t VALUES (1)")

    module: Any = SimpleNamespace(Connection=kind)
    assert door.change_async(module, asyncmy_door.KIND) is False
    assert asyncio.run(write()) == "INSERT INTO t VALUES (1)"
    answer = run_batch(write)
    assert answer.outcome.startswith("rolled-back")
    assert b"a handler writes (" + verb + b") to shop by asyncmy" in answer.body
    assert b"install asyncmy 0.2.15 or newer, whose connections take part" in answer.body


def test_batches_beside_plain_requests(driver: Any, mariadb_store: Store) -> None:
    """What is stored are the rows of the committed ones, by one pool for all."""

    async def go() -> list[str]:
        async with driver.create_pool(
            **parameters(driver, mariadb_store), minsize=1, maxsize=4
        ) as pool:

            async def add(name: str) -> None:
                async with pool.acquire() as connection, connection.cursor() as cursor:
                    await cursor.execute(INSERT, [name])
                    await connection.commit()

            async def one(number: int) -> list[str]:
                async def first() -> None:
                    await add(f"{number}-first")

                async def last() -> None:
                    await add(f"{number}-last")
                    if number % 3 == 0:
                        raise ZeroDivisionError

                answer, _ = await asyncio.gather(batch_of(first, last), add(f"{number}-plain"))
                names = [f"{number}-plain"]
                if answer.outcome == "committed":
                    assert number % 3
                    names += [f"{number}-first", f"{number}-last"]
                else:
                    assert number % 3 == 0, answer.body
                return names

            return [name for names in await asyncio.gather(*map(one, range(12))) for name in names]

    expected = asyncio.run(go())
    assert sorted(mariadb_store.rows()) == sorted(expected)
    assert comes_to_rest(mariadb_store)
