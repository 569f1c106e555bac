"""PyMySQL's door: what it costs, what it refuses, and what goes wrong on the wire."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from atomicbatch import Batch, doors, guard
from atomicbatch.doors import pymysql as door
from tests.doors.in_batches import batch_of, run_batch
from tests.doors.strangers import server
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES (%s)"


def connect(store: Store, **options: Any) -> Any:
    return pymysql.connect(**server(store.url), ssl_disabled=True, **options)


def insert(store: Store, name: str, **options: Any) -> None:
    with connect(store, **options) as connection:
        connection.cursor().execute(INSERT, [name])
        connection.commit()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is sent to the server, by whatever connection: each is a round trip."""
    texts: list[bytes] = []
    write: Any = Connection._write_bytes  # type: ignore[attr-defined]

    def count(self: Any, data: bytes) -> None:
        texts.append(bytes(data[5:]))
        write(self, data)

    monkeypatch.setattr(Connection, "_write_bytes", count)
    return texts


def test_one_round_trip_more_for_a_write(mariadb_store: Store, sent: list[bytes]) -> None:
    """Inside a batch a savepoint is sent ahead of a write, and COMMIT is not; reads are alone."""
    with closing(connect(mariadb_store)) as connection:
        cursor = connection.cursor()

        def write() -> None:
            sent.clear()
            cursor.execute(INSERT, ["a"])
            cursor.execute("UPDATE t SET name = 'b'")
            connection.commit()
            counted.append(list(sent))

        def read() -> None:
            sent.clear()
            cursor.execute("SELECT name FROM t")
            cursor.execute("SELECT name FROM t")
            connection.rollback()
            counted.append(list(sent))

        counted: list[list[bytes]] = []
        write()
        read()
        assert [len(texts) for texts in counted] == [3, 3]
        counted.clear()
        answer = run_batch(write, write, read, read)
    assert answer.outcome == "committed", answer.body
    assert [len(texts) for texts in counted[1:]] == [3, 2, 2]


def test_a_connection_is_its_own_after_a_call(mariadb_store: Store) -> None:
    """What a call has left open is undone at its end; its own session knows nothing of it."""
    with closing(connect(mariadb_store)) as connection:

        def leave() -> None:
            connection.cursor().execute(INSERT, ["left"])

        def add() -> None:
            connection.cursor().execute(INSERT, ["a"])
            connection.commit()

        for _ in range(2):
            answer = run_batch(leave, add, leave)
            assert answer.outcome == "committed", answer.body
    assert mariadb_store.rows() == ["a", "a"]


def test_what_a_session_has_set_outlives_the_batch(mariadb_store: Store) -> None:
    """As it would alone, although the batch fails: the connection's own session has it."""
    with closing(connect(mariadb_store)) as connection:
        cursor = connection.cursor()

        def make_settings() -> None:
            cursor.execute("SET SESSION time_zone = '+05:00'")
            connection.autocommit(True)
            raise ZeroDivisionError

        run_batch(make_settings)
        cursor.execute("SELECT @@time_zone, @@autocommit")
        assert cursor.fetchone() == ("+05:00", 1)
        assert connection.get_autocommit()


def test_another_version_than_we_know(mariadb_store: Store) -> None:
    """What it writes is refused, by the one method that is certain to be there."""

    class Other:
        def query(self, sql: str, unbuffered: bool = False) -> str:
            return sql

    module: Any = SimpleNamespace(Connection=Other)
    door.change_pymysql(module)
    one: Any = Other()
    one.unix_socket, one.host, one.port, one.db = None, "localhost", 3306, "w"
    assert one.query("INSERT INTO t VALUES (1)")
    assert "by pymysql" in refused(lambda: one.query("INSERT INTO t VALUES (1)"))


def test_load_data(mariadb_store: Store, tmp_path: Any) -> None:
    """Where nothing joins, a file is a write as well."""
    doors.install()
    (tmp_path / "rows").write_text("1\tx\n")
    load = f"LOAD DATA LOCAL INFILE '{tmp_path / 'rows'}' INTO TABLE t"
    with closing(connect(mariadb_store, local_infile=True)) as connection:
        assert "(LOAD)" in refused(lambda: connection.cursor().execute(load))
    assert mariadb_store.rows() == []


def test_a_socket_of_the_apps_own(mariadb_store: Store) -> None:
    """Nobody could open another connection like it."""

    def own() -> None:
        of = server(mariadb_store.url)
        plain = socket.create_connection((of["host"], of["port"]))
        connection = pymysql.connect(**of, ssl_disabled=True, defer_connect=True)
        connection.connect(plain)
        with connection:
            connection.cursor().execute(INSERT, ["a"])

    answer = run_batch(own)
    assert answer.outcome == "rolled-back; failed=1; status=501"
    assert "a socket that the app has connected itself" in str(answer.body)


def test_a_value_that_cannot_be_read(mariadb_store: Store) -> None:
    """The rest of the answer would be taken for the next one: the wire is of no more use."""

    def broken(_: Any) -> None:
        raise ValueError("not so")

    def read() -> str:
        conversions = {**pymysql.converters.conversions, 3: broken}
        with connect(mariadb_store, conv=conversions) as connection, suppress(ValueError):
            connection.cursor().execute("SELECT id FROM t")
        return "swallowed"

    answer = run_batch(lambda: insert(mariadb_store, "a"), read, lambda: insert(mariadb_store, "b"))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert "see to its converters (conv): ValueError" in str(answer.body)
    assert mariadb_store.rows() == []


def test_deadlock(mariadb_store: Store) -> None:
    """The server ends the whole transaction: the batch runs again, from its first call."""
    insert(mariadb_store, "one")
    insert(mariadb_store, "two")
    has_two, waits = threading.Event(), threading.Event()
    attempts: list[str] = []

    def first() -> None:
        attempts.append("")
        insert(mariadb_store, "a")

    def second() -> str:
        with connect(mariadb_store) as connection:
            cursor = connection.cursor()
            cursor.execute("UPDATE t SET name = 'ONE' WHERE id = 1")
            waits.set()
            if len(attempts) == 1:
                has_two.wait(10)
                with suppress(pymysql.OperationalError):
                    cursor.execute("UPDATE t SET name = 'TWO' WHERE id = 2")
            connection.commit()
        return "swallowed"

    def other() -> None:
        waits.wait(10)
        with connect(mariadb_store) as connection:
            cursor = connection.cursor()
            # The server ends the transaction that has done less.
            cursor.executemany(INSERT, [(f"other{number}",) for number in range(50)])
            cursor.execute("UPDATE t SET name = 'Two' WHERE id = 2")
            has_two.set()
            cursor.execute("UPDATE t SET name = 'One' WHERE id = 1")
            connection.rollback()

    thread = threading.Thread(target=other)
    thread.start()
    answer = run_batch(first, second)
    thread.join()
    assert (answer.outcome, len(attempts)) == ("committed", 2)
    assert mariadb_store.rows() == ["ONE", "two", "a"]


def test_lock_wait_timeout(mariadb_store: Store) -> None:
    """Whoever waits too long for a lock is run again, even where the handler swallows it."""
    insert(mariadb_store, "one")
    patience = "SET SESSION innodb_lock_wait_timeout = 1"
    attempts: list[str] = []
    with connect(mariadb_store) as blocker:
        blocker.cursor().execute("UPDATE t SET name = 'held' WHERE id = 1")

        def wait() -> str:
            attempts.append("")
            if len(attempts) == 2:
                blocker.rollback()
            with connect(mariadb_store, init_command=patience) as connection:
                with suppress(pymysql.OperationalError):
                    connection.cursor().execute("UPDATE t SET name = 'won' WHERE id = 1")
                connection.commit()
            return "swallowed"

        answer = run_batch(lambda: insert(mariadb_store, "a", init_command=patience), wait)
    assert (answer.outcome, len(attempts)) == ("committed", 2)
    assert mariadb_store.rows() == ["won", "a"]


def others(connection: Any) -> list[tuple[int, str]]:
    """The other connections to this database, and their statements."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, COALESCE(info, '') FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> connection_id()"
        )
        return list(cursor.fetchall())


def comes_to_rest(store: Store) -> bool:
    """Tell whether no other connection to this database has a transaction open, in the end."""
    until = time.monotonic() + 5
    with connect(store) as connection, connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute(
                "SELECT count(*) FROM information_schema.innodb_trx"
                " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
                " WHERE db = DATABASE() AND id <> connection_id()"
            )
            if cursor.fetchone() == (0,):
                return True
            time.sleep(0.11)  # it tells the same again within a tenth of a second
    return False


def kill_others(store: Store) -> None:
    with connect(store, autocommit=True) as connection:
        for number, _ in others(connection):
            with suppress(pymysql.err.OperationalError):  # it has gone meanwhile
                connection.kill(number)


def test_the_wire_is_lost(mariadb_store: Store) -> None:
    """Whatever it had done is undone by the server: the batch runs again."""
    attempts: list[str] = []

    def lose() -> None:
        attempts.append("")
        insert(mariadb_store, f"a{len(attempts)}")
        if len(attempts) == 1:
            Context().run(kill_others, mariadb_store)
        insert(mariadb_store, f"b{len(attempts)}")

    # The store's own connection is killed with the others.
    answer = run_batch(lose)
    assert (answer.outcome, len(attempts)) == ("committed", 2)
    with connect(mariadb_store) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name FROM t ORDER BY id")
        assert cursor.fetchall() == (("a2",), ("b2",))


def test_time_limit(mariadb_store: Store) -> None:
    """A statement that runs too long is stopped in the server, and all is undone."""

    def sleep() -> None:
        with connect(mariadb_store) as connection:
            connection.cursor().execute("SELECT 1 FROM t WHERE SLEEP(60)")

    answer = run_batch(lambda: insert(mariadb_store, "a"), sleep, seconds=0.4)
    assert answer.status == 504 or answer.outcome.endswith("status=504"), answer.body
    with connect(mariadb_store) as connection:
        assert not [text for _, text in others(connection) if "SLEEP(60)" in text]
    assert mariadb_store.rows() == []


def test_batches_beside_plain_requests(mariadb_store: Store) -> None:
    """What is stored are the rows of the committed ones, and nothing is left open."""

    async def go() -> list[str]:
        def adding(name: str) -> Callable[[], None]:
            return lambda: insert(mariadb_store, name)

        async def one(number: int) -> list[str]:
            def last() -> None:
                insert(mariadb_store, f"{number}-last")
                if number % 3 == 0:
                    raise ZeroDivisionError

            plainly = asyncio.to_thread(insert, mariadb_store, f"{number}-plain")
            answer, _ = await asyncio.gather(batch_of(adding(f"{number}-first"), last), plainly)
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


WAYS: dict[str, Callable[[Any], Any]] = {
    "query": lambda one: one.query("INSERT INTO t (name) VALUES ('x')"),
    "callproc": lambda one: one.cursor().callproc("p", ()),
    "ddl": lambda one: one.cursor().execute("CREATE TABLE u (a INT)"),
    "comment": lambda one: one.cursor().execute("/*! INSERT INTO t (name) VALUES ('x') */"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, mariadb_store: Store) -> None:
    """Where it is not joined each is refused; a comment counts that the server may run."""
    doors.install()
    with closing(pymysql.connect(**server(mariadb_store.url))) as connection:
        assert "by pymysql, at " in refused(lambda: WAYS[way](connection))
    assert mariadb_store.rows() == []


def test_reading_passes(mariadb_store: Store) -> None:
    """Connecting, the session's settings, pings, transactions that write nothing."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with (
        watched.begin(Batch(()), deadline=0),
        closing(pymysql.connect(**server(mariadb_store.url), charset="utf8mb4")) as connection,
    ):
        connection.autocommit(True)
        connection.ping()
        connection.begin()
        cursor = connection.cursor()
        cursor.execute("SET @a = 1")
        cursor.execute("SELECT count(*) FROM t FOR UPDATE")
        assert cursor.fetchall() == ((0,),)
        connection.rollback()


@pytest.mark.parametrize("between", ["", "SELECT name FROM t", "COMMIT"])
@pytest.mark.parametrize("auto", [False, True])
def test_a_transaction_that_only_reads(between: str, auto: bool, mariadb_store: Store) -> None:
    """SET TRANSACTION is for the next one: the server refuses its writes, and so does the batch."""
    store = mariadb_store
    with closing(connect(store, autocommit=auto)) as connection:
        cursor = connection.cursor()

        def write() -> None:
            cursor.execute("SET TRANSACTION READ ONLY")
            if between:
                cursor.execute(between)
            cursor.execute(INSERT, ["a"])
            connection.commit()

        alone = False
        with suppress(pymysql.Error):
            write()
            alone = True
        connection.rollback()
        answer = run_batch(write)
    assert alone is (between == "COMMIT" or (between != "" and auto))
    assert (answer.outcome == "committed") is alone
    assert alone or b"read only" in answer.replies[0].body
    assert store.rows() == ["a"] * (2 if alone else 0)
