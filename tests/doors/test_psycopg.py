"""psycopg's door: what it asks the guard, and what it does in batches beside the oracle's."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.range import RangeInfo

from atomicbatch import Batch, doors, guard, patches
from atomicbatch.doors import psycopg as door
from atomicbatch.doors import psycopg_copies
from atomicbatch.engine.current import current_batch
from atomicbatch.guard.watch import aside, watching
from tests.doors.in_batches import batch_of, run_batch
from tests.doors.test_sqlite import Nothing, refused
from tests.proxies import proxied
from tests.stores import Store
from tests.transactions.drivers.libraries import UndoError

INSERT = "INSERT INTO t (name) VALUES ('x')"


def _close(cursor: Any, sql: str) -> None:
    with cursor:
        cursor.execute(sql)


WAYS: dict[str, Callable[[psycopg.Connection], Any]] = {
    "execute": lambda one: one.execute(INSERT),
    "bytes": lambda one: one.execute(INSERT.encode()),
    "stream": lambda one: list(one.cursor().stream(f"{INSERT} RETURNING id")),
    "client": lambda one: psycopg.ClientCursor(one).execute(INSERT),
    "executemany": lambda one: one.cursor().executemany(
        "INSERT INTO t (name) VALUES (%s)", [("x",)]
    ),
    "named": lambda one: _close(one.cursor("c"), "SELECT setval('t_id_seq', 5)"),
    "copy": lambda one: one.cursor().copy("COPY t (name) FROM STDIN").__enter__(),
}


def _name(store: Store) -> str:
    return store.url.rpartition("/")[2]


# Without an adapter that joins it ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write_is_refused(way: str, postgresql_store: Store) -> None:
    """Where nothing stands for the connection, the guard is asked."""
    doors.install()
    with psycopg.connect(postgresql_store.url) as connection:
        said = refused(lambda: WAYS[way](connection))
    assert f"{_name(postgresql_store)} by psycopg, at " in said
    assert postgresql_store.rows() == []


def test_reading_passes(postgresql_store: Store) -> None:
    """Queries, cursors in the server, copies out, and what psycopg asks about an app's types."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with (
        psycopg.connect(postgresql_store.url) as connection,
        watched.begin(Batch(()), deadline=0),
    ):
        with connection.cursor("c") as cursor:
            assert cursor.execute("SELECT * FROM t").fetchall() == []
        with connection.cursor().copy("COPY t TO STDOUT") as copy:
            assert list(copy) == []
        assert list(connection.cursor().stream("SELECT 1")) == [(1,)]
        for kind in (TypeInfo, EnumInfo, RangeInfo, MultirangeInfo, CompositeInfo):
            kind.fetch(connection, "no_such_type")
        size = connection.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        assert size.fetchone()
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS


def test_a_version_that_is_not_known(
    postgresql_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A psycopg without a name that the door needs is left to the guard."""
    doors.uninstall()
    try:
        monkeypatch.setitem(door._NAMES, "Cursor", "execute _of_another_version")
        assert not door.is_known(psycopg)
        door.change_psycopg(psycopg)
        names = {made.name for made in patches.changes() if made.why == door.WHY}
        assert names == {"_start_query", "_start_copy_gen"}
        with psycopg.connect(postgresql_store.url) as connection:
            assert "by psycopg, at " in refused(lambda: connection.execute(INSERT))
        assert postgresql_store.rows() == []
    finally:
        doors.uninstall()
        monkeypatch.undo()
        doors.install()


# In batches --------------------------------------------------------------------------------------

ADD = "INSERT INTO t (name) VALUES (%s)"


@pytest.fixture
def connection(postgresql_store: Store) -> Iterator[psycopg.Connection]:
    """One that an app keeps, in autocommit mode."""
    doors.install()
    with psycopg.connect(postgresql_store.url, autocommit=True) as made:
        yield made


def test_round_trips(postgresql_store: Store) -> None:
    """A statement takes one round trip: its savepoint goes along, and so does what BEGIN sends."""
    doors.install()
    with (
        proxied(postgresql_store.url) as (proxy, url),
        psycopg.connect(url, autocommit=True) as kept,
    ):

        def own() -> int:
            before = proxy.trips
            with kept.transaction():
                kept.execute(ADD, ("a",))
            return proxy.trips - before

        def many() -> int:
            before = proxy.trips
            with kept.transaction():
                kept.cursor().executemany(ADD, [("b",), ("c",)])
            return proxy.trips - before

        answer = run_batch(*[own] * 5, many, many)
        # The first one also opens the batch's connection. Of many rows, each takes one.
        assert [json.loads(one.body) for one in answer.replies[1:]] == [1, 1, 1, 1, 3, 3]


def test_round_trips_of_async_connections(postgresql_store: Store) -> None:
    """It is the same by an async connection."""
    doors.install()

    async def go(proxy: Any, url: str) -> None:
        async with await psycopg.AsyncConnection.connect(url) as kept:

            async def own() -> int:
                before = proxy.trips
                await kept.execute(ADD, ("a",))
                await kept.commit()
                return int(proxy.trips - before)

            answer = await batch_of(*[own] * 5)
            assert [json.loads(one.body) for one in answer.replies[1:]] == [1, 1, 1, 1]

    with proxied(postgresql_store.url) as (proxy, url):
        asyncio.run(go(proxy, url))


def test_prepared_statements(connection: psycopg.Connection, postgresql_store: Store) -> None:
    """What one side has prepared is not asked for on the other, before, in and after batches."""
    connection.prepare_threshold = 0

    def add() -> list[Any]:
        with suppress(UndoError), connection.transaction():
            connection.execute(ADD, ("gone",))
            raise UndoError
        connection.execute(ADD, ("kept",))
        return connection.execute("SELECT count(*) FROM t").fetchall()

    def change() -> None:
        connection.execute("ALTER TABLE t ADD COLUMN more int")
        connection.execute("SELECT * FROM t")
        connection.execute("ALTER TABLE t DROP COLUMN more")

    add()
    names = connection.execute("SELECT name FROM pg_prepared_statements").fetchall()
    assert len(names) > 1
    assert run_batch(add, change, add).outcome == "committed"
    assert postgresql_store.rows() == ["kept"] * 3
    assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == names
    add()
    assert postgresql_store.rows() == ["kept"] * 4


def test_a_connection_that_is_collected(postgresql_store: Store) -> None:
    """Garbage that is collected in a batch does nothing to the batch's own connection."""
    doors.install()

    def drop() -> None:
        connection = psycopg.connect(postgresql_store.url, autocommit=True)
        connection.execute(ADD, ("a",))
        connection._pool = None  # so that it does not warn
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        connection.itself = connection, cursor  # type: ignore[attr-defined]  # a circle
        del connection, cursor
        gc.collect()

    assert run_batch(drop, drop, drop).outcome == "committed"
    assert postgresql_store.rows() == ["a"] * 3


def test_a_connection_that_is_lost(connection: psycopg.Connection, postgresql_store: Store) -> None:
    """Whoever loses the batch's connection has stored nothing; the app's own lives on."""

    def lose() -> None:
        connection.execute(ADD, ("a",))
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or ()
        with psycopg.connect(postgresql_store.url) as other, aside():
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with suppress(psycopg.Error):
            connection.execute(ADD, ("b",))

    answer = run_batch(lose, lambda: None)
    assert answer.outcome.startswith("rolled-back; "), answer
    assert postgresql_store.rows() == []
    connection.execute(ADD, ("c",))
    assert postgresql_store.rows() == ["c"]


def test_what_takes_too_long(connection: psycopg.Connection, postgresql_store: Store) -> None:
    """A statement is stopped at the time limit, and the connection is of use afterwards."""

    def sleep() -> None:
        connection.execute(ADD, ("a",))
        connection.execute("SELECT pg_sleep(20)")

    assert run_batch(sleep, seconds=0.3).outcome == "rolled-back; failed=1; status=504"
    assert postgresql_store.rows() == []
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_too_much_is_copied(
    connection: psycopg.Connection, postgresql_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a COPY may keep in memory is bounded, in and out."""
    monkeypatch.setattr(psycopg_copies, "MOST_BYTES", 1000)

    def copy_in() -> None:
        with connection.cursor().copy("COPY t (name) FROM STDIN") as copy:
            for _ in range(200):
                copy.write("0123456789\n")

    def copy_out() -> None:
        with connection.cursor().copy("COPY (SELECT generate_series(1, 999)) TO STDOUT") as copy:
            list(copy)

    for act in (copy_in, copy_out):
        answer = run_batch(act)
        assert answer.outcome == "rolled-back; failed=1; status=501"
        assert b"MiB by one COPY" in answer.replies[0].body
    assert postgresql_store.rows() == []


def test_a_writer_of_its_own(connection: psycopg.Connection, tmp_path: Path) -> None:
    """Rows that go somewhere else than to the database are refused."""

    def copy() -> None:
        with (tmp_path / "rows").open("wb") as file:
            writer = psycopg.copy.FileWriter(file)
            with connection.cursor().copy("COPY t (name) FROM STDIN", writer=writer):
                pass

    answer = run_batch(copy)
    assert b"a writer of its own, FileWriter" in answer.replies[0].body


def test_notices_of_two_connections(
    connection: psycopg.Connection, postgresql_store: Store
) -> None:
    """What the server says goes to the connection whose statement it is about."""
    said: list[tuple[str, str | None]] = []
    notice = "DO $$ BEGIN RAISE NOTICE '{}'; END $$"
    connection.add_notice_handler(lambda one: said.append(("kept", one.message_primary)))

    def tell() -> None:
        with psycopg.connect(postgresql_store.url, autocommit=True) as other:
            other.add_notice_handler(lambda one: said.append(("other", one.message_primary)))
            connection.execute(notice.format("a"))
            other.execute(notice.format("b"))

    assert run_batch(tell).outcome == "committed"
    assert said == [("kept", "a"), ("other", "b")]


# Pools -------------------------------------------------------------------------------------------


def test_what_pools_do_is_none_of_the_batch(postgresql_store: Store) -> None:
    """Their hooks set up, check and reset their own connections, outside of the batch."""
    doors.install()
    seen: list[tuple[str, bool]] = []

    def note(what: str) -> Callable[[Any], None]:
        def hook(connection: Any) -> None:
            seen.append((what, watching.get() is not None))
            if what == "configure":
                connection.execute("SET work_mem = '5MB'")
                connection.commit()

        return hook

    hooks = {name: note(name) for name in ("configure", "check", "reset")}

    def use() -> Any:
        pool = psycopg_pool.NullConnectionPool(postgresql_store.url, open=True, **hooks)  # type: ignore[arg-type]
        with pool:
            with pool.connection() as connection:
                connection.execute(ADD, ("a",))
                found = connection.execute("SHOW work_mem").fetchone()
            connection = pool.getconn()
            connection.execute(ADD, ("gone",))
            pool.putconn(connection)
            return found

    answer = run_batch(use)
    assert answer.outcome == "committed", answer
    assert json.loads(answer.replies[0].body) == ["5MB"]
    assert postgresql_store.rows() == ["a"]
    assert {name for name, _ in seen} == {"configure", "check"}
    assert not any(inside for _, inside in seen)


def test_a_connection_goes_back_as_it_was_taken(postgresql_store: Store) -> None:
    """A transaction that is left open is undone in the batch; the pool sees nothing of it."""
    doors.install()
    with psycopg_pool.ConnectionPool(
        postgresql_store.url, min_size=1, max_size=1, open=True, reset=lambda _: None
    ) as pool:

        def forget() -> None:
            connection = pool.getconn()
            connection.execute(ADD, ("gone",))
            pool.putconn(connection)

        def add() -> None:
            forget()
            with pool.connection() as connection:  # the same one again
                connection.execute(ADD, ("kept",))

        assert run_batch(forget, add, forget).outcome == "committed"
        assert postgresql_store.rows() == ["kept"]
        assert pool.get_stats().get("returns_bad", 0) == 0
        with pool.connection() as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_workers_of_a_pool_that_a_call_opens(postgresql_store: Store) -> None:
    """A pool outlives the call that opens it: its threads and tasks are not the batch's."""
    doors.install()
    seen: list[Any] = []

    def configure(_: Any) -> None:
        seen.append((watching.get(), current_batch()))

    async def configure_async(_: Any) -> None:
        configure(_)

    pools: list[Any] = []

    def open_it() -> None:
        pool = psycopg_pool.ConnectionPool(
            postgresql_store.url, min_size=1, open=True, configure=configure
        )
        pool.wait()
        pools.append(pool)

    async def open_async() -> None:
        async with psycopg_pool.AsyncConnectionPool(
            postgresql_store.url, min_size=1, open=False, configure=configure_async
        ) as pool:
            await pool.wait()

    assert run_batch(open_it, open_async).outcome == "committed"
    pools[0].close()
    assert seen == [(None, None)] * 2
