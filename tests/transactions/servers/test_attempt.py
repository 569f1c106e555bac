"""The app's connections to servers work in the batch's transaction; told without a door."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa

from atomicbatch.doors.server_uses import NOT_SENT
from atomicbatch.errors import BusyError, ConflictError, NotBatchableError, TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.guard.watch import Watch, aside
from atomicbatch.model import Batch
from atomicbatch.transactions import DriverTransaction
from tests.stores import Store
from tests.transactions.servers.standing_in import Asyncpg, Psycopg, PyMySQL, connect_pymysql

SECONDS = 30.0


class StopError(Exception):
    """Ends a batch that is to be rolled back."""


def begin(transaction: DriverTransaction | None = None, seconds: float = SECONDS) -> Any:
    one = transaction or DriverTransaction()
    return one.begin(Batch(()), deadline=time.monotonic() + seconds)


def insert(name: str) -> str:
    return f"INSERT INTO t (name) VALUES ('{name}')"


def do(use: Any, sql: str) -> Any:
    """What a door does with a statement, on either driver."""

    def perform(wire: Any) -> Any:
        cursor = wire.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None

    return use.perform(sql, None, perform)


def connected_psycopg(url: str) -> Any:
    return psycopg.connect(url, autocommit=True)


SYNC: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "postgresql": (Psycopg(), connected_psycopg),
    "mariadb": (PyMySQL(), connect_pymysql),
}


@pytest.fixture(params=SYNC)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any, Store]]:
    """A kind, a connection of the app's, and the store."""
    kind, connect = SYNC[request.param]
    store: Store = request.getfixturevalue(f"{request.param}_store")
    with ExitStack() as stack:
        yield kind, stack.enter_context(closing(connect(store.url))), store


def test_what_is_committed_in_calls_is_stored_with_the_batch(server: Any) -> None:
    kind, connection, store = server
    with begin() as attempt:
        with attempt.call():
            use = attempt.server_use_of(connection, kind, executes=True)
            do(use, insert("a"))
            assert do(use, "BEGIN") is NOT_SENT
            assert use.in_transaction()
            do(use, insert("undone"))
            use.rollback()
        with attempt.call():
            use = attempt.server_use_of(connection, kind, executes=True)
            assert do(use, "SELECT name FROM t") in ([("a",)], (("a",),))
            do(use, "BEGIN")
            do(use, insert("forgotten"))
        assert attempt.took_part()
        with aside():
            assert store.rows() == []
    assert store.rows() == ["a"]


def test_what_is_committed_in_calls_goes_with_the_batch(server: Any) -> None:
    kind, connection, store = server
    with pytest.raises(StopError), begin() as attempt:
        with attempt.call():
            use = attempt.server_use_of(connection, kind, executes=True)
            do(use, insert("a"))
            do(use, "BEGIN")
            do(use, insert("b"))
            use.commit()
        raise StopError
    assert store.rows() == []
    # Nothing of it is left behind, not even a lock.
    connection.cursor().execute(insert("plain"))
    assert store.rows() == ["plain"]


def test_it_tells_which_databases_calls_have_used(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the doctor: by URLs, as the app's developers know them; a file from where they are."""
    monkeypatch.chdir(tmp_path)
    kind, connection, store = server
    with suppress(StopError), begin() as attempt:
        watch = Watch(Allowed())
        watch.begun(attempt, copy_context())
        with watch.call(), closing(sqlite3.connect("one.sqlite")) as file:
            do(attempt.server_use_of(connection, kind, executes=True), insert("a"))
            file.execute("SELECT 1")
        with watch.call(), closing(sqlite3.connect(tmp_path.parent / "two.sqlite")) as file:
            file.execute("CREATE TABLE t (a)")
        url = sa.make_url(store.url)
        family = "postgresql" if url.drivername.startswith("postgresql") else "mysql"
        told = attempt.databases()
        assert [used.name for used in told] == [
            f"{family}://localhost:{url.port}/{url.database}",
            "sqlite:///one.sqlite",
            f"sqlite:///{tmp_path.parent}/two.sqlite",
        ]
        assert [used.wrote for used in told] == [True, False, True]
        raise StopError
    assert store.rows() == []


def test_a_failed_statement_undoes_itself_alone(server: Any) -> None:
    kind, connection, store = server
    with begin() as attempt, attempt.call():
        use = attempt.server_use_of(connection, kind, executes=True)
        do(use, insert("a"))
        with pytest.raises(Exception, match=r"nothing|does"):
            do(use, "INSERT INTO nothing VALUES (1)")
        do(use, insert("b"))
    assert store.rows() == ["a", "b"]


def test_two_connections_share_the_transaction(server: Any) -> None:
    kind, connection, store = server
    _, connect = SYNC["mariadb" if kind.named.name == "pymysql" else "postgresql"]
    with closing(connect(store.url)) as other, begin() as attempt, attempt.call():
        first = attempt.server_use_of(connection, kind, executes=True)
        second = attempt.server_use_of(other, kind, executes=True)
        do(first, insert("a"))
        assert len(do(second, "SELECT name FROM t")) == 1
        assert first.wire is second.wire
    assert store.rows() == ["a"]


def test_a_transaction_from_before_the_batch_is_refused(server: Any) -> None:
    kind, connection, store = server
    connection.cursor().execute("BEGIN")
    with (
        pytest.raises(NotBatchableError, match="begun before the batch"),
        begin() as attempt,
        attempt.call(),
    ):
        attempt.server_use_of(connection, kind, executes=True)
    connection.cursor().execute("ROLLBACK")
    assert store.rows() == []


def test_a_second_driver_on_one_database_is_refused(postgresql_store: Store) -> None:
    async def go() -> None:
        kind = Asyncpg(postgresql_store.url)
        own = await asyncpg.connect(postgresql_store.url)
        with closing(connected_psycopg(postgresql_store.url)) as other:
            try:
                async with begin() as attempt:
                    attempt.is_alone = lambda: True
                    async with attempt.call():
                        use = attempt.server_use_of(own, kind, executes=True)
                        await use.perform_async(
                            insert("a"), None, lambda wire: wire.execute(insert("a"))
                        )
                        second = attempt.server_use_of(other, Psycopg(), executes=True)
                        do(second, "SELECT 1")
            finally:
                await own.close()

    with pytest.raises(NotBatchableError, match="by asyncpg already, and psycopg would wait"):
        asyncio.run(go())
    assert postgresql_store.rows() == []


@pytest.mark.parametrize("fails", [True, False])
def test_an_async_driver(fails: bool, postgresql_store: Store) -> None:
    async def call(use: Any) -> None:
        async def run(sql: str) -> Any:
            return await use.perform_async(sql, None, lambda wire: wire.execute(sql))

        await run(insert("a"))
        with pytest.raises(asyncpg.UndefinedTableError):
            await run("INSERT INTO nothing VALUES (1)")
        await run("BEGIN")
        await asyncio.gather(run(insert("undone")), run(insert("undone")))
        await use.rollback_async()
        await use.perform_async(
            "COPY t (name) FROM STDIN",
            None,
            lambda wire: wire.copy_records_to_table("t", records=[("b",)], columns=["name"]),
        )
        await run("BEGIN")
        await run(insert("forgotten"))

    async def go() -> None:
        kind = Asyncpg(postgresql_store.url)
        own = await asyncpg.connect(postgresql_store.url)
        try:
            async with begin() as attempt:
                async with attempt.call():
                    await call(attempt.server_use_of(own, kind, executes=True))
                if fails:
                    raise StopError
        finally:
            await own.close()

    if fails:
        with pytest.raises(StopError):
            asyncio.run(go())
    else:
        asyncio.run(go())
    assert postgresql_store.rows() == ([] if fails else ["a", "b"])


def test_an_async_driver_is_refused_without_an_event_loop(postgresql_store: Store) -> None:
    async def connect() -> Any:
        return await asyncpg.connect(postgresql_store.url)

    async def work(use: Any) -> None:
        await use.perform_async(insert("a"), None, lambda wire: wire.execute(insert("a")))

    loop = asyncio.new_event_loop()
    own = loop.run_until_complete(connect())
    with (
        pytest.raises(NotBatchableError, match="without an event loop"),
        begin() as attempt,
        attempt.call(),
    ):
        use = attempt.server_use_of(own, Asyncpg(postgresql_store.url), executes=True)
        loop.run_until_complete(work(use))
    loop.run_until_complete(own.close())
    loop.close()
    assert postgresql_store.rows() == []


def test_a_sync_driver_on_the_event_loop_waits_to_be_alone(server: Any) -> None:
    kind, connection, store = server
    transaction = DriverTransaction()

    async def go(is_alone: bool) -> None:
        async with begin(transaction) as attempt:
            attempt.is_alone = lambda: is_alone
            async with attempt.call():
                do(attempt.server_use_of(connection, kind, executes=True), insert("a"))
        assert transaction.wants_alone()

    with pytest.raises(ConflictError) as caught:
        asyncio.run(go(False))
    assert caught.value.alone
    assert store.rows() == []

    async def twice() -> None:
        with pytest.raises(ConflictError):
            await go(False)
        await go(True)

    asyncio.run(twice())
    assert store.rows() == ["a"]


def test_sessions_that_differ_are_refused(postgresql_store: Store) -> None:
    with (
        closing(connected_psycopg(postgresql_store.url)) as one,
        closing(connected_psycopg(postgresql_store.url)) as other,
        pytest.raises(NotBatchableError, match="differ in the setting search_path"),
    ):
        other.execute("SET search_path = pg_catalog")
        with begin() as attempt, attempt.call():
            do(attempt.server_use_of(one, Psycopg(), executes=True), insert("a"))
            do(attempt.server_use_of(other, Psycopg(), executes=True), "SELECT 1")
    assert postgresql_store.rows() == []


def test_the_wire_has_what_the_session_has_set(postgresql_store: Store) -> None:
    with closing(connected_psycopg(postgresql_store.url)) as one:
        one.execute("SET application_name = 'the shop'")
        with begin() as attempt, attempt.call():
            use = attempt.server_use_of(one, Psycopg(), executes=True)
            assert do(use, "SHOW application_name") == [("the shop",)]
            # What a call sets outlives the batch, as alone: its library may remember it.
            do(use, "SET application_name = 'changed'")
            assert do(use, "SHOW application_name") == [("changed",)]
        assert one.execute("SHOW application_name").fetchone() == ("changed",)


def test_a_level_that_the_driver_was_told_is_the_transactions(postgresql_store: Store) -> None:
    with closing(connected_psycopg(postgresql_store.url)) as one:
        one.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        with begin() as attempt, attempt.call():
            use = attempt.server_use_of(one, Psycopg(), executes=True)
            assert do(use, "SHOW transaction_isolation") == [("serializable",)]


def test_a_stronger_level_than_the_batchs_is_refused(server: Any) -> None:
    kind, connection, store = server
    with (
        pytest.raises(NotBatchableError, match="asks for SERIALIZABLE"),
        begin() as attempt,
        attempt.call(),
    ):
        use = attempt.server_use_of(connection, kind, executes=True)
        do(use, insert("a"))
        if kind.named.name == "psycopg":
            do(use, "BEGIN ISOLATION LEVEL SERIALIZABLE")
        else:
            do(use, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    assert store.rows() == []


SLEEP = {"psycopg": "SELECT pg_sleep(60)", "pymysql": "SELECT SLEEP(60)"}


def test_a_statement_is_stopped_when_time_is_up(server: Any) -> None:
    kind, connection, store = server
    block = begin()
    stopping = threading.Thread(target=lambda: (inside.wait(), block.interrupt(), block.sever()))
    inside = threading.Event()
    stopping.start()
    with pytest.raises(TransactionError, match="time limit"), block as attempt, attempt.call():
        use = attempt.server_use_of(connection, kind, executes=True)
        do(use, insert("a"))
        sql = SLEEP[kind.named.name]

        def perform(wire: Any) -> Any:
            inside.set()
            return wire.cursor().execute(sql)

        use.perform(sql, None, perform)
    stopping.join()
    assert store.rows() == []
    connection.cursor().execute(insert("plain"))
    assert store.rows() == ["plain"]


def test_an_async_statement_is_stopped_when_time_is_up(postgresql_store: Store) -> None:
    async def go() -> None:
        kind = Asyncpg(postgresql_store.url)
        own = await asyncpg.connect(postgresql_store.url)
        block = begin()
        inside = threading.Event()
        stopping = threading.Thread(
            target=lambda: (inside.wait(), block.interrupt(), block.sever())
        )
        stopping.start()
        try:
            async with block as attempt, attempt.call():
                use = attempt.server_use_of(own, kind, executes=True)
                await use.perform_async(insert("a"), None, lambda wire: wire.execute(insert("a")))

                async def perform(wire: Any) -> None:
                    inside.set()
                    await wire.execute("SELECT pg_sleep(60)")

                await use.perform_async("SELECT pg_sleep(60)", None, perform)
        finally:
            stopping.join()
            await own.close()

    with pytest.raises(TransactionError, match="time limit"):
        asyncio.run(go())
    assert postgresql_store.rows() == []


def test_what_a_call_leaves_behind_is_refused(server: Any) -> None:
    kind, connection, store = server
    with pytest.raises(NotBatchableError, match="left a task behind"), begin() as attempt:
        call = attempt.call()
        with call:
            use = attempt.server_use_of(connection, kind, executes=True)
            do(use, insert("a"))
        with call:
            attempt.server_use_of(connection, kind, executes=True)
    assert store.rows() == []


def test_outside_is_left_alone(server: Any) -> None:
    kind, connection, store = server
    url = store.url
    with begin(DriverTransaction(outside=(url,))) as attempt, attempt.call():
        assert attempt.server_use_of(connection, kind, executes=True) is None


def test_batches_can_be_given_a_level(postgresql_store: Store) -> None:
    transaction = DriverTransaction(isolation_level="repeatable read")
    with (
        closing(connected_psycopg(postgresql_store.url)) as one,
        begin(transaction) as attempt,
        attempt.call(),
    ):
        use = attempt.server_use_of(one, Psycopg(), executes=True)
        assert do(use, "SHOW transaction_isolation") == [("repeatable read",)]


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="READ UNCOMMITTED"):
        DriverTransaction(isolation_level="SNAPSHOT")


def test_a_batch_that_is_given_up_is_rolled_back(postgresql_store: Store) -> None:
    async def locked() -> bool:
        other = await asyncpg.connect(postgresql_store.url)
        try:
            await other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK")
        except asyncpg.LockNotAvailableError:
            return True
        finally:
            await other.close()
        return False

    async def go() -> None:
        own = await asyncpg.connect(postgresql_store.url)
        block = begin()
        attempt = await block.__aenter__()
        async with attempt.call():
            use = attempt.server_use_of(own, Asyncpg(postgresql_store.url), executes=True)
            await use.perform_async(insert("a"), None, lambda wire: wire.execute(insert("a")))
        assert not block.give_up()
        async with asyncio.timeout(SECONDS):
            with aside():
                while await locked():
                    await asyncio.sleep(0.01)
        await own.close()
        await block.__aexit__(None, None, None)

    asyncio.run(go())
    assert postgresql_store.rows() == []


REFERS = "REFERENCES t DEFERRABLE INITIALLY DEFERRED"


@pytest.fixture
def deferring(postgresql_store: Store) -> Iterator[Callable[[], list[int]]]:
    """A database with a table ``line`` whose references are checked at COMMIT; gives its rows."""
    with psycopg.connect(postgresql_store.url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE line (t integer {REFERS})")
        yield lambda: [t for (t,) in connection.execute("SELECT t FROM line")]
        connection.execute("DROP TABLE line")


def test_what_is_checked_at_commit_fails_in_its_call(
    deferring: Callable[[], list[int]], postgresql_store: Store
) -> None:
    """It is rolled back, as COMMIT would; what else the batch does stays."""
    with closing(connected_psycopg(postgresql_store.url)) as connection:
        with begin() as attempt, attempt.call():
            use = attempt.server_use_of(connection, Psycopg(), executes=True)
            do(use, insert("a"))
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                do(use, "INSERT INTO line VALUES (999)")
            do(use, "BEGIN")
            do(use, insert("undone"))
            do(use, "INSERT INTO line VALUES (999)")
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                use.commit()
            assert not use.in_transaction()
            do(use, "BEGIN")
            do(use, "INSERT INTO line VALUES (777)")
            do(use, "INSERT INTO t VALUES (777, 'late')")
            do(use, "COMMIT")
        assert (postgresql_store.rows(), deferring()) == (["a", "late"], [777])


def test_nothing_is_checked_while_another_transaction_is_open(
    deferring: Callable[[], list[int]], postgresql_store: Store
) -> None:
    """What that one has done is not complete yet. In the end the batch's COMMIT is refused."""
    with (
        closing(connected_psycopg(postgresql_store.url)) as one,
        closing(connected_psycopg(postgresql_store.url)) as other,
    ):
        with begin() as attempt, attempt.call():
            first = attempt.server_use_of(one, Psycopg(), executes=True)
            second = attempt.server_use_of(other, Psycopg(), executes=True)
            do(first, "BEGIN")
            do(first, "INSERT INTO line VALUES (777)")
            do(second, insert("a"))
            do(first, "INSERT INTO t VALUES (777, 'late')")
            first.commit()
        assert (postgresql_store.rows(), deferring()) == (["a", "late"], [777])
        with (
            pytest.raises(TransactionError, match="refused by a constraint"),
            begin() as attempt,
            attempt.call(),
        ):
            first = attempt.server_use_of(one, Psycopg(), executes=True)
            second = attempt.server_use_of(other, Psycopg(), executes=True)
            do(first, "BEGIN")
            do(first, "SELECT 1")
            do(second, "INSERT INTO line VALUES (999)")
        assert deferring() == [777]


def test_a_constraint_that_is_not_deferred_from_the_start_stays_so(
    deferring: Callable[[], list[int]], postgresql_store: Store
) -> None:
    """Then nothing is checked in calls, and the batch's COMMIT is refused."""
    with closing(connected_psycopg(postgresql_store.url)) as connection:
        connection.execute("ALTER TABLE line ADD CONSTRAINT once UNIQUE (t) DEFERRABLE")
        with (
            pytest.raises(TransactionError, match="refused by a constraint"),
            begin() as attempt,
            attempt.call(),
        ):
            use = attempt.server_use_of(connection, Psycopg(), executes=True)
            do(use, "INSERT INTO line VALUES (999)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                do(use, "INSERT INTO line VALUES (999)")
        assert deferring() == []


def test_batches_stand_in_line_before_they_hold_anything(postgresql_store: Store) -> None:
    """More batches than may run, and one connection in the app's pool, which each call needs."""

    async def go() -> None:
        kind = Asyncpg(postgresql_store.url)
        own = await asyncpg.connect(postgresql_store.url)
        transaction = DriverTransaction(max_batches=2)
        pool = asyncio.Lock()

        async def batch(number: int) -> None:
            async with begin(transaction, 20) as attempt:
                for call in range(2):
                    async with attempt.call(), pool:
                        use = attempt.server_use_of(own, kind, executes=True)
                        text = insert(f"{number}-{call}")
                        await use.perform_async(text, None, partial(_executed, text))

        await asyncio.gather(*(batch(number) for number in range(4)))
        await own.close()

    asyncio.run(go())
    assert len(postgresql_store.rows()) == 8


async def _executed(text: str, wire: Any) -> None:
    await wire.execute(text)


@pytest.mark.parametrize("fails", [True, False])
def test_who_stands_in_line_goes_on_when_another_batch_is_over(fails: bool, server: Any) -> None:
    kind, connection, store = server
    transaction = DriverTransaction(max_batches=1)
    order: list[str] = []

    def second() -> None:
        with begin(transaction) as attempt, attempt.call():
            order.append("second")
            do(attempt.server_use_of(connection, kind, executes=True), insert("b"))

    thread = threading.Thread(target=second)
    with suppress(StopError), begin(transaction) as attempt:
        with attempt.call():
            do(attempt.server_use_of(connection, kind, executes=True), insert("a"))
        thread.start()
        assert not order
        order.append("first")
        if fails:
            raise StopError
    thread.join()
    assert order == ["first", "second"]
    assert store.rows() == (["b"] if fails else ["a", "b"])


def test_who_stands_in_line_for_too_long_is_told_so() -> None:
    transaction = DriverTransaction(max_batches=1)
    with begin(transaction):
        with pytest.raises(BusyError, match="too many batches"), begin(transaction, 0.1):
            pass
        with pytest.raises(ValueError, match="at least 1"):
            DriverTransaction(max_batches=0)
    with begin(transaction, 0.1):
        pass


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_connection_that_cannot_be_opened_fails_its_call(server: Any) -> None:
    """The batch is not run again, as after a connection that was lost."""
    kind, connection, store = server
    role = f"barred_{store.url.rpartition('_')[2]}"
    connection.execute(f"DROP ROLE IF EXISTS {role}")
    connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    url = store.url.replace("postgres@", f"{role}@")
    with (
        closing(connected_psycopg(url)) as only,
        pytest.raises(BusyError, match="allows no more connections"),
        begin() as attempt,
        attempt.call(),
    ):
        do(attempt.server_use_of(only, kind, executes=True), "SELECT 1")
    connection.execute(f"DROP ROLE {role}")
