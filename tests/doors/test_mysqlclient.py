"""The door of mysqlclient: what it refuses, and what batches do by it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import Context
from typing import Any
from weakref import ref

import pymysql
import pytest

from atomicbatch import Batch, doors, guard
from tests.databases import WITH_MYSQLCLIENT
from tests.doors.in_batches import batch_of, run_batch
from tests.doors.strangers import server
from tests.doors.test_sqlite import Nothing, refused
from tests.doors.trips import Trips
from tests.stores import Store

if not WITH_MYSQLCLIENT:
    pytest.skip("mysqlclient is not installed", allow_module_level=True)

import MySQLdb
from MySQLdb import cursors

from atomicbatch.doors import mysqlclient_kind

ADD = "INSERT INTO t (name) VALUES (%s)"
NAMES = "SELECT name FROM t ORDER BY id"
WAYS: dict[str, Callable[[Any], Any]] = {
    "query": lambda one: one.query("INSERT INTO t (name) VALUES ('x')"),
    "send_query": lambda one: one.send_query(b"INSERT INTO t (name) VALUES ('x')"),
    "callproc": lambda one: one.cursor().callproc("p", ()),
    "ddl": lambda one: one.cursor().execute("CREATE TABLE u (a INT)"),
    "comment": lambda one: one.cursor().execute("/*! INSERT INTO t (name) VALUES ('x') */"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, mariadb_store: Store) -> None:
    """Each way is refused, where connections are not joined."""
    doors.install()
    with closing(MySQLdb.connect(**server(mariadb_store.url))) as connection:
        assert "by MySQLdb, at " in refused(lambda: WAYS[way](connection))
    assert mariadb_store.rows() == []


def test_reading_passes(mariadb_store: Store) -> None:
    """Connecting, the session's settings, pings, transactions that write nothing."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    given = server(mariadb_store.url)
    with (
        watched.begin(Batch(()), deadline=0),
        closing(MySQLdb.connect(**given, charset="utf8mb4")) as connection,
    ):
        connection.autocommit(True)
        connection.ping()
        connection.begin()
        cursor = connection.cursor()
        cursor.execute("SET @a = 1")
        cursor.execute("SELECT count(*) FROM t FOR UPDATE")
        assert cursor.fetchall() == ((0,),)
        connection.rollback()


# In batches --------------------------------------------------------------------------------------


def connect(store: Store, **options: Any) -> Any:
    return MySQLdb.connect(**{**server(store.url), **options})


def add(store: Store, name: str) -> None:
    with connect(store) as connection:
        connection.cursor().execute(ADD, [name])
        connection.commit()


def run_outside(store: Store, text: str) -> tuple[Any, ...]:
    """Run a statement on a connection that no batch knows of."""

    def run() -> tuple[Any, ...]:
        with connect(store, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            rows: tuple[Any, ...] = cursor.fetchall()
            return rows

    return Context().run(run)


@pytest.fixture
def trips(mariadb_store: Store) -> Iterator[Trips]:
    given = server(mariadb_store.url)
    made = Trips((given["host"], given["port"]))
    yield made
    made.close()


def test_one_round_trip_more_for_a_write(mariadb_store: Store, trips: Trips) -> None:
    """A savepoint is sent ahead of the first write, and COMMIT is not; reads are alone."""
    counted: list[int] = []
    with connect(mariadb_store, host="127.0.0.1", port=trips.port) as connection:
        cursor = connection.cursor()

        def measure(*texts: str) -> None:
            before = trips.count
            for text in texts:
                cursor.execute(text)
            connection.commit()
            counted.append(trips.count - before)

        def write() -> None:
            measure("INSERT INTO t (name) VALUES ('a')", "UPDATE t SET name = 'b'")

        def read() -> None:
            measure(NAMES, NAMES)

        write()
        read()
        assert counted == [3, 3]
        counted.clear()
        answer = run_batch(write, write, write, read, read)
    assert answer.outcome == "committed", answer.body
    # The first takes the batch's own connection along.
    assert counted[1:] == [3, 3, 2, 2]


def test_a_cursor_of_before_is_its_own_again(mariadb_store: Store) -> None:
    """One connection for everything: in a batch, in one that fails, and between them."""
    with connect(mariadb_store) as connection:
        cursor = connection.cursor(cursors.DictCursor)

        def work() -> None:
            cursor.execute(ADD, ["in"])
            connection.commit()
            cursor.execute(NAMES)
            told.append([row["name"] for row in cursor])
            connection.commit()

        def fail() -> None:
            cursor.execute(ADD, ["not"])
            connection.commit()
            raise ZeroDivisionError

        told: list[Any] = []
        assert run_batch(work).outcome == "committed"
        assert run_batch(work, fail).outcome.startswith("rolled-back")
        cursor.execute(ADD, ["out"])
        assert (type(connection), cursor.rowcount) == (MySQLdb.connections.Connection, 1)
        assert connection.affected_rows() == 1
        connection.commit()
        assert run_batch(work).outcome == "committed"
        assert told == [["in"], ["in", "in"], ["in", "out", "in"]]
    assert mariadb_store.rows() == ["in", "out", "in"]


def test_nothing_is_kept(mariadb_store: Store) -> None:
    """Connections of a batch go with their last name."""
    found: list[ref[Any]] = []

    def work() -> None:
        connection = connect(mariadb_store)
        connection.cursor().execute("SELECT 1")
        found.append(ref(connection))

    assert run_batch(work).outcome == "committed"
    gc.collect()
    assert [one() for one in found] == [None]


@pytest.mark.parametrize("is_mariadb", [True, False])
def test_a_transaction_of_before(
    is_mariadb: bool, mariadb_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused to use a connection in a batch that has one open; the server is asked."""
    if not is_mariadb:  # as MySQL is asked, which MariaDB answers as well
        monkeypatch.setattr(MySQLdb.connections.Connection, "get_server_info", lambda _: "8.0.36")
    with connect(mariadb_store) as connection:

        def read() -> Any:
            cursor = connection.cursor()
            cursor.execute(NAMES)
            return cursor.fetchall()

        connection.query("SET @a = 1")
        assert run_batch(read).outcome == "committed"
        read()
        assert mysqlclient_kind.KIND.state(connection).name == "OPEN"
        assert b"was begun before the batch" in run_batch(read).body
        connection.query("COMMIT")
        assert run_batch(read).outcome == "committed"


def test_procedures(mariadb_store: Store) -> None:
    """All that a procedure gives is there, whatever another connection sends meanwhile."""
    run_outside(mariadb_store, "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END")

    def call() -> Any:
        with connect(mariadb_store) as connection, connect(mariadb_store) as other:
            cursor = connection.cursor()
            cursor.callproc("p")
            rows = [cursor.fetchall()]
            other.cursor().execute(ADD, ["a"])
            other.commit()
            while cursor.nextset():
                rows.append(cursor.fetchall())
            connection.commit()
            return rows

    try:
        answer = run_batch(call)
        assert b"[[[1]],[[2]],[]]" in answer.replies[0].body, answer.body
        assert mariadb_store.rows() == ["a"]
    finally:
        run_outside(mariadb_store, "DROP PROCEDURE p")


def test_a_second_driver_on_one_database(mariadb_store: Store) -> None:
    """It is refused at its first statement, since it would wait for the first for ever."""

    def other() -> None:
        with pymysql.connect(**server(mariadb_store.url), ssl_disabled=True) as connection:
            connection.cursor().execute(ADD, ["b"])

    answer = run_batch(lambda: add(mariadb_store, "a"), other)
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"is open in this batch by MySQLdb already" in answer.replies[1].body
    assert mariadb_store.rows() == []


def test_time_limit(mariadb_store: Store) -> None:
    """A statement that runs too long is stopped in the server, and all is undone."""

    def sleep() -> None:
        with connect(mariadb_store) as connection:
            connection.cursor().execute("SELECT SLEEP(60)")

    answer = run_batch(lambda: add(mariadb_store, "a"), sleep, seconds=0.4)
    assert answer.status == 504 or answer.outcome.endswith("status=504"), answer.body
    running = run_outside(mariadb_store, "SELECT info FROM information_schema.processlist")
    assert "SELECT SLEEP(60)" not in {text for (text,) in running}
    assert mariadb_store.rows() == []


def test_the_wire_is_lost(mariadb_store: Store) -> None:
    """What it had done is undone by the server: the batch runs again."""
    attempts: list[str] = []

    def kill_others() -> None:
        others = run_outside(
            mariadb_store,
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        )
        for (number,) in others:
            run_outside(mariadb_store, f"KILL {number}")

    def lose() -> None:
        attempts.append("")
        add(mariadb_store, f"a{len(attempts)}")
        if len(attempts) == 1:
            kill_others()
        add(mariadb_store, f"b{len(attempts)}")

    answer = run_batch(lose)
    assert (answer.outcome, len(attempts)) == ("committed", 2), answer.body
    assert run_outside(mariadb_store, NAMES) == (("a2",), ("b2",))


def test_deadlock(mariadb_store: Store) -> None:
    """InnoDB has rolled all back: the batch runs again, though the handler hides the error."""
    for name in "ab":
        add(mariadb_store, name)
    attempts: list[str] = []
    held = threading.Barrier(2)

    def other() -> None:
        with connect(mariadb_store) as connection:
            for number in range(50):  # who has changed less is chosen
                connection.cursor().execute(ADD, [f"x{number}"])
            connection.cursor().execute("UPDATE t SET name = 'b' WHERE id = 2")
            held.wait(10)
            connection.cursor().execute("UPDATE t SET name = 'a' WHERE id = 1")
            connection.commit()

    def work() -> str:
        attempts.append("")
        with connect(mariadb_store) as connection:
            connection.cursor().execute("UPDATE t SET name = 'a!' WHERE id = 1")
            if len(attempts) == 1:
                held.wait(10)
            try:
                connection.cursor().execute("UPDATE t SET name = 'b!' WHERE id = 2")
            except MySQLdb.Error:
                connection.rollback()
            connection.cursor().execute(ADD, [f"c{len(attempts)}"])
            connection.commit()
        return "done"

    thread = threading.Thread(target=other)
    thread.start()
    answer = run_batch(work)
    thread.join()
    assert (answer.outcome, len(attempts)) == ("committed", 2), answer.body
    assert [name for name in mariadb_store.rows() if name[0] in "abc"] == ["a!", "b!", "c2"]


def test_batches_beside_plain_requests(mariadb_store: Store) -> None:
    """What is stored are the rows of the committed ones."""

    async def one(number: int) -> list[str]:
        def last() -> None:
            add(mariadb_store, f"{number}-last")
            if number % 3 == 0:
                raise ZeroDivisionError

        answer, _ = await asyncio.gather(
            batch_of(lambda: add(mariadb_store, f"{number}-first"), last),
            asyncio.to_thread(add, mariadb_store, f"{number}-plain"),
        )
        is_committed = answer.outcome == "committed"
        assert is_committed is bool(number % 3), answer.body
        names = [f"{number}-first", f"{number}-last"] if is_committed else []
        return [f"{number}-plain", *names]

    async def go() -> list[str]:
        return [name for names in await asyncio.gather(*map(one, range(12))) for name in names]

    expected = asyncio.run(go())
    assert sorted(mariadb_store.rows()) == sorted(expected)
