"""Commands: BEGIN is put off until something is done, so that it cannot fail."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import aiomysql
import asyncmy
import pytest
from pymysql.constants import SERVER_STATUS

from tests.doors.in_batches import batch_of, run_batch
from tests.doors.test_aiomysql import parameters
from tests.doors.test_pymysql import connect, insert, sent
from tests.stores import Store

__all__ = ["sent"]
INSERT = "INSERT INTO t (name) VALUES (%s)"


def is_open(connection: Any) -> bool:
    return bool(connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)


def test_nothing_is_sent_for_an_empty_transaction(mariadb_store: Store, sent: list[bytes]) -> None:
    """The connection shows it all the same."""
    seen: list[Any] = []
    with closing(connect(mariadb_store)) as connection:

        def act() -> None:
            for end in (connection.commit, connection.rollback):
                connection.begin()
                connection.begin()
                seen.append(is_open(connection))
                end()
                seen.append(is_open(connection))
            seen.append(list(sent))

        sent.clear()
        answer = run_batch(act)
    assert answer.outcome == "committed", answer.body
    assert seen == [True, False, True, False, []]


@pytest.mark.parametrize("sets", ["", "autocommit", "SET autocommit = 1"])
def test_what_follows_is_in_the_transaction(mariadb_store: Store, sets: str) -> None:
    """Under autocommit, which switching it on again does not end."""
    seen: list[Any] = []

    def act() -> None:
        with closing(connect(mariadb_store, autocommit=True)) as connection:
            cursor = connection.cursor()
            connection.begin()
            if sets == "autocommit":
                connection.autocommit(True)
            elif sets:
                cursor.execute(sets)
            seen.append(is_open(connection))
            cursor.execute(INSERT, ["undone"])
            connection.rollback()
            cursor.execute(INSERT, ["kept"])
            connection.rollback()

    answer = run_batch(act)
    assert answer.outcome == "committed", answer.body
    assert seen == [True]
    assert mariadb_store.rows() == ["kept"]


def test_a_call_does_not_begin_for_the_next_one(mariadb_store: Store) -> None:
    """What a call has begun ends with it, also where it has done nothing."""
    with closing(connect(mariadb_store, autocommit=True)) as connection:

        def begin() -> None:
            connection.begin()

        def write() -> None:
            connection.cursor().execute(INSERT, ["kept"])
            connection.rollback()

        answer = run_batch(begin, write)
        assert not is_open(connection)
        assert answer.outcome == "committed", answer.body
        assert mariadb_store.rows() == ["kept"]
        assert run_batch(begin).outcome == "committed"
        write()
    assert mariadb_store.rows() == ["kept", "kept"]


@pytest.mark.parametrize("driver", [aiomysql, asyncmy], ids=lambda driver: driver.__name__)
@pytest.mark.parametrize("why", ["refused", "stopped"])
def test_pools_of_those_who_lose_a_connection_where_begin_fails(
    mariadb_store: Store, driver: Any, why: str
) -> None:
    """As Tortoise does: the statement after BEGIN fails, and the connection comes back."""

    async def go() -> tuple[str, str]:
        pool = await driver.create_pool(**parameters(driver, mariadb_store), minsize=1, maxsize=1)

        async def work() -> None:
            connection = await pool.acquire()
            await connection.begin()  # nobody gives it back if this fails
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(INSERT, ["a"])
                await connection.commit()
            except BaseException:
                await connection.rollback()
                raise
            finally:
                given_back = pool.release(connection)
                if given_back is not None:
                    await given_back

        async def too_late() -> None:
            while True:  # until the batch is stopped
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    await work()

        def by_another_driver() -> None:
            insert(mariadb_store, "by another driver")

        try:
            if why == "refused":
                answer = await batch_of(by_another_driver, work)
            else:
                answer = await batch_of(too_late, seconds=0.2)
            await asyncio.wait_for(work(), 10)
        finally:
            pool.terminate()
            await pool.wait_closed()
        return answer.outcome, answer.body.decode()

    outcome, body = asyncio.run(go())
    assert outcome.startswith("rolled-back")
    assert ("is open in this batch by pymysql" if why == "refused" else "time limit") in body
    assert mariadb_store.rows() == ["a"]
