"""The door of psycopg2: what it refuses, and what batches do by it."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import Context
from typing import Any
from weakref import ref

import psycopg
import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extras import DictCursor, NamedTupleCursor, RealDictCursor

from atomicbatch import Batch, doors, guard
from tests.doors.in_batches import batch_of, run_batch
from tests.doors.test_sqlite import Nothing, refused
from tests.doors.trips import Trips
from tests.proxies import proxied
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ('x')"
ADD = "INSERT INTO t (name) VALUES (%s)"
NAMES = "SELECT name FROM t ORDER BY id"
WAYS: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda one: one.cursor().execute(INSERT.encode()),
    "executemany": lambda one: one.cursor().executemany(
        "INSERT INTO t (name) VALUES (%s)", [["x"]]
    ),
    "callproc": lambda one: one.cursor().callproc("setval", ["t_id_seq", 5]),
    "copy_from": lambda one: one.cursor().copy_from(io.StringIO("x\n"), "t", columns=["name"]),
    "by class": lambda one: one.cursor(cursor_factory=NamedTupleCursor).execute(INSERT),
    "by place": lambda one: one.cursor(None, NamedTupleCursor).execute(INSERT),
    "by function": lambda one: one.cursor(
        cursor_factory=lambda *args: psycopg2.extensions.cursor(*args)
    ).execute(INSERT),
    "named": lambda one: one.cursor("c").execute("SELECT setval('t_id_seq', 5)"),
    "lobject": lambda one: one.lobject(0, "w"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, postgresql_store: Store) -> None:
    """Each way is refused, where connections are not joined."""
    doors.install()
    name = postgresql_store.url.rpartition("/")[2]
    with closing(psycopg2.connect(postgresql_store.url)) as connection:
        assert f"{name} by psycopg2, at " in refused(lambda: WAYS[way](connection))
        connection.commit()
    assert postgresql_store.rows() == []


def test_reading_passes(postgresql_store: Store) -> None:
    """Queries, cursors in the server, and copies out."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with (
        watched.begin(Batch(()), deadline=0),
        closing(psycopg2.connect(postgresql_store.url)) as connection,
    ):
        server_side = connection.cursor("c")
        server_side.execute("SELECT * FROM t")
        assert server_side.fetchall() == []
        connection.cursor().copy_to(io.StringIO(), "t")
        connection.cursor().copy_expert("COPY (SELECT * FROM t) TO STDOUT", io.StringIO())


# In batches --------------------------------------------------------------------------------------


def add(store: Store, name: str) -> None:
    with closing(psycopg2.connect(store.url)) as connection:
        connection.cursor().execute(ADD, [name])
        connection.commit()


@pytest.fixture
def trips(postgresql_store: Store) -> Iterator[Trips]:
    host, _, port = postgresql_store.url.rpartition("/")[0].rpartition("@")[2].partition(":")
    made = Trips((host, int(port)))
    yield made
    made.close()


def test_one_round_trip_more_for_a_write(postgresql_store: Store, trips: Trips) -> None:
    """As many as alone: a savepoint is sent ahead of a write, and neither BEGIN nor COMMIT is."""
    url = f"postgresql://postgres@127.0.0.1:{trips.port}/{postgresql_store.url.rpartition('/')[2]}"
    counted: list[int] = []
    with closing(psycopg2.connect(f"{url}?sslmode=disable&gssencmode=disable")) as connection:
        cursor = connection.cursor()

        def measure(*texts: str) -> None:
            before = trips.count
            for text in texts:
                cursor.execute(text)
            connection.commit()
            counted.append(trips.count - before)

        def write() -> None:
            measure(INSERT, INSERT)

        def read() -> None:
            measure(NAMES, NAMES)

        write()
        read()
        assert counted == [4, 4]
        counted.clear()
        answer = run_batch(write, write, write, read, read)
    assert answer.outcome == "committed", answer.body
    # The first takes the batch's own connection along.
    assert counted[1:] == [3, 3, 3, 2]


def test_a_cursor_of_before_is_its_own_again(postgresql_store: Store) -> None:
    """One cursor for everything: in a batch, in one that fails, and between them."""
    with closing(psycopg2.connect(postgresql_store.url)) as connection:
        cursor = connection.cursor(cursor_factory=RealDictCursor)
        kind = type(cursor)

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
        with pytest.raises(psycopg2.InterfaceError, match="closed"):
            cursor.fetchall()
        assert run_batch(work, fail).outcome.startswith("rolled-back")
        cursor.execute(ADD, ["out"])
        assert (type(cursor), cursor.rowcount, cursor.statusmessage) == (kind, 1, "INSERT 0 1")
        connection.commit()
        assert run_batch(work).outcome == "committed"
        assert told == [["in"], ["in", "in"], ["in", "out", "in"]]
    assert postgresql_store.rows() == ["in", "out", "in"]


def test_nothing_is_kept(postgresql_store: Store) -> None:
    """Connections and cursors of a batch go with their last name."""
    found: list[ref[Any]] = []

    def work() -> None:
        connection = psycopg2.connect(postgresql_store.url)
        for factory in (None, DictCursor):
            cursor = connection.cursor(cursor_factory=factory)
            cursor.execute("SELECT 1")
            cursor.fetchall()
            found.append(ref(cursor))
        found.append(ref(connection))

    assert run_batch(work).outcome == "committed"
    gc.collect()
    assert [one() for one in found] == [None, None, None]


def test_two_cursors_of_one_name(postgresql_store: Store) -> None:
    """Two that are open at a time are refused; what an earlier call has left is closed."""

    def leave() -> None:
        connection = psycopg2.connect(postgresql_store.url)
        kept.append(connection.cursor("c"))
        kept[-1].execute(NAMES)

    def again() -> list[Any]:
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            cursor = connection.cursor("c")
            cursor.execute("SELECT 5")
            rows: list[Any] = cursor.fetchall()
            return rows

    def both() -> None:
        leave()
        leave()

    kept: list[Any] = []
    answer = run_batch(leave, again, again)
    assert answer.outcome == "committed", answer.body
    assert b"[[5]]" in answer.replies[1].body
    answer = run_batch(both)
    assert b"two cursors of one name" in answer.replies[0].body
    for cursor in kept:
        cursor.connection.close()


def test_a_second_driver_on_one_database(postgresql_store: Store) -> None:
    """It is refused at its first statement, since it would wait for the first for ever."""

    def other() -> None:
        with psycopg.connect(postgresql_store.url) as connection:
            connection.execute(ADD, ["b"])

    answer = run_batch(lambda: add(postgresql_store, "a"), other)
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"is open in this batch by psycopg2 already" in answer.replies[1].body
    assert postgresql_store.rows() == []


def test_on_the_event_loop(postgresql_store: Store) -> None:
    """A batch whose handlers block the loop is run alone."""

    async def act() -> None:
        add(postgresql_store, "a")

    assert run_batch(act, act).outcome == "committed"
    assert postgresql_store.rows() == ["a", "a"]


def test_time_limit(postgresql_store: Store) -> None:
    """A statement that runs too long is stopped in the server, and all is undone."""

    def sleep() -> None:
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            connection.cursor().execute("SELECT pg_sleep(60)")

    answer = run_batch(lambda: add(postgresql_store, "a"), sleep, seconds=0.3)
    assert answer.status == 504 or answer.outcome.endswith("status=504"), answer.body
    assert postgresql_store.rows() == []


def test_cancel(postgresql_store: Store) -> None:
    """It stops what its connection runs in the batch, and nothing else."""

    def work() -> str:
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            cursor = connection.cursor()
            connection.cancel()
            cursor.execute(ADD, ["a"])
            connection.commit()
            connection.cancel()
            stopped = threading.Event()

            def cancel() -> None:
                while not stopped.wait(0.02):
                    connection.cancel()

            canceller = threading.Thread(target=cancel)
            canceller.start()
            try:
                cursor.execute("SELECT pg_sleep(60)")
            except errors.QueryCanceled as error:
                stopped.set()
                connection.rollback()
                return str(error.pgcode)
            finally:
                stopped.set()
                canceller.join()
        return "not stopped"

    answer = run_batch(work)
    assert b"57014" in answer.replies[0].body, answer.body


def test_the_wire_is_lost(postgresql_store: Store) -> None:
    """What it had done is undone by the server: the batch runs again."""
    attempts: list[str] = []

    def kill_others() -> None:
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            connection.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def lose() -> None:
        attempts.append("")
        add(postgresql_store, f"a{len(attempts)}")
        if len(attempts) == 1:
            Context().run(kill_others)
        add(postgresql_store, f"b{len(attempts)}")

    answer = run_batch(lose)
    assert (answer.outcome, len(attempts)) == ("committed", 2), answer.body
    with closing(psycopg2.connect(postgresql_store.url)) as connection:
        cursor = connection.cursor()
        cursor.execute(NAMES)
        assert cursor.fetchall() == [("a2",), ("b2",)]


def test_a_server_that_falls_silent(postgresql_store: Store) -> None:
    """The batch ends when its time is up, although nothing comes from the server any more."""
    with proxied(postgresql_store.url) as (proxy, url):

        def stop() -> None:
            with closing(psycopg2.connect(str(url))) as connection:
                cursor = connection.cursor()
                cursor.execute(ADD, ["a"])
                proxy.stop()
                cursor.execute(ADD, ["b"])

        answer = run_batch(stop, seconds=0.3)
        assert answer.status == 504 or answer.outcome.endswith("status=504"), answer.body
        proxy.resume()
    assert postgresql_store.rows() == []


def test_deadlock(postgresql_store: Store) -> None:
    """The batch that the server has chosen runs again, also where the handler hides the error."""
    for name in "ab":
        add(postgresql_store, name)
    attempts: list[str] = []
    held = threading.Barrier(2)

    def change(connection: Any, name: str) -> None:
        connection.cursor().execute("UPDATE t SET name = name WHERE name = %s", [name])

    def other() -> None:
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            connection.cursor().execute("SET deadlock_timeout = '60s'")
            change(connection, "b")
            held.wait(10)
            change(connection, "a")
            connection.commit()

    def work() -> str:
        attempts.append("")
        with closing(psycopg2.connect(postgresql_store.url)) as connection:
            change(connection, "a")
            if len(attempts) == 1:
                held.wait(10)
            try:
                change(connection, "b")
            except psycopg2.Error:
                connection.rollback()
            connection.cursor().execute(ADD, [f"c{len(attempts)}"])
            connection.commit()
        return "done"

    thread = threading.Thread(target=other)
    thread.start()
    answer = run_batch(work)
    thread.join()
    assert (answer.outcome, len(attempts)) == ("committed", 2), answer.body
    assert sorted(postgresql_store.rows()) == ["a", "b", "c2"]


def test_batches_beside_plain_requests(postgresql_store: Store) -> None:
    """What is stored are the rows of the committed ones."""

    async def one(number: int) -> list[str]:
        def last() -> None:
            add(postgresql_store, f"{number}-last")
            if number % 3 == 0:
                raise ZeroDivisionError

        answer, _ = await asyncio.gather(
            batch_of(lambda: add(postgresql_store, f"{number}-first"), last),
            asyncio.to_thread(add, postgresql_store, f"{number}-plain"),
        )
        is_committed = answer.outcome == "committed"
        assert is_committed is bool(number % 3), answer.body
        names = [f"{number}-first", f"{number}-last"] if is_committed else []
        return [f"{number}-plain", *names]

    async def go() -> list[str]:
        return [name for names in await asyncio.gather(*map(one, range(6))) for name in names]

    expected = asyncio.run(go())
    assert sorted(postgresql_store.rows()) == sorted(expected)
