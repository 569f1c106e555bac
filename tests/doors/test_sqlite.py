"""Ways to write by sqlite3 and aiosqlite, and what stays as the app has asked for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import aiosqlite
import pytest

from atomicbatch import Batch, NotBatchableError, doors, guard
from tests.stores import Store


class Nothing:
    """A transaction of nothing."""

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[None]:
        yield


def refused(act: Callable[[], Any]) -> str:
    """Do something inside a batch; return why it was refused."""
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with pytest.raises(NotBatchableError) as error, watched.begin(Batch(()), deadline=0):
        act()
    return str(error.value)


@pytest.fixture
def connection(sqlite_store: Store) -> Iterator[sqlite3.Connection]:
    doors.install()
    with closing(sqlite3.connect(sqlite_store.url)) as opened:
        opened.execute("INSERT INTO t (name) VALUES ('abc')")
        opened.commit()
        yield opened


WAYS: dict[str, tuple[str, Callable[[sqlite3.Connection], Any]]] = {
    "cursor": ("INSERT", lambda one: one.cursor().execute("INSERT INTO t (name) VALUES ('x')")),
    "again": (
        "INSERT",
        lambda one: one.execute("SELECT 1").execute("INSERT INTO t (name) VALUES ('x')"),
    ),
    "returning": (
        "DELETE",
        lambda one: one.execute("DELETE FROM t RETURNING name").fetchall(),
    ),
    "script": ("DROP", lambda one: one.executescript("SELECT 1; DROP TABLE t")),
    "many": ("UPDATE", lambda one: one.executemany("UPDATE t SET name = ?", [["x"]])),
    "blob": ("blobopen()", lambda one: one.blobopen("t", "name", 1)),
    "backup": ("backup()", lambda one: sqlite3.connect(":memory:").backup(one)),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_write(way: str, connection: sqlite3.Connection, sqlite_store: Store) -> None:
    """Each is refused before it does anything."""
    verb, act = WAYS[way]
    why = refused(lambda: act(connection))
    assert f"a handler writes ({verb}) to others.sqlite by sqlite3, at doors/test_sqlite.py:" in why
    assert sqlite_store.rows() == ["abc"]


def test_reading_passes(connection: sqlite3.Connection, sqlite_store: Store) -> None:
    """A blob that is only read, and a copy of everything into memory of the batch's own."""
    guarded: guard.Guarded[None] = guard.Guarded(Nothing())
    with guarded.begin(Batch(()), deadline=0):
        with connection.blobopen("t", "name", 1, readonly=True) as blob:
            assert blob.read() == b"abc"
        with closing(sqlite3.connect(":memory:")) as copy:
            connection.backup(copy)
            copy.execute("DELETE FROM t")
        assert list(connection.iterdump())
    assert sqlite_store.rows() == ["abc"]


class Longest:
    """An aggregate function."""

    def __init__(self) -> None:
        self.longest = ""

    def step(self, value: Any) -> None:
        self.longest = max(self.longest, value, key=len)

    def finalize(self) -> Any:
        return self.longest


def test_functions_of_pythons(connection: sqlite3.Connection, sqlite_store: Store) -> None:
    """A query that calls one reads, as peewee's and Pony's do; what it does itself is seen."""
    connection.create_function("py_upper", 1, str.upper)
    connection.create_aggregate("longest", 1, Longest)
    guarded: guard.Guarded[None] = guard.Guarded(Nothing())
    with guarded.begin(Batch(()), deadline=0):
        for name in ("py_upper", "PY_UPPER", '"py_upper"'):
            assert connection.execute(f"SELECT {name}(name) FROM t").fetchall() == [("ABC",)]
        assert connection.execute("SELECT longest (name) FROM t").fetchall() == [("abc",)]

    def writes(name: str) -> None:
        with closing(sqlite3.connect(sqlite_store.url)) as other:
            other.execute("DELETE FROM t")

    connection.create_function("writes", 1, writes)
    for sql in (
        "SELECT load_extension('x')",
        "SELECT unknown(name) FROM t",
        "INSERT INTO t (name) VALUES (py_upper('x'))",
    ):
        assert "a handler writes" in refused(partial(connection.execute, sql))

    def select() -> None:
        with suppress(sqlite3.Error):
            connection.execute("SELECT writes(name) FROM t").fetchall()

    assert "a handler writes (DELETE)" in refused(select)
    assert sqlite_store.rows() == ["abc"]


def test_functions_of_pythons_by_aiosqlite(sqlite_store: Store) -> None:
    """The same by aiosqlite."""
    doors.install()

    async def read() -> Any:
        async with aiosqlite.connect(sqlite_store.url) as opened:
            await opened.create_function("py_upper", 1, str.upper)
            return await opened.execute_fetchall("SELECT py_upper('x')")

    guarded: guard.Guarded[None] = guard.Guarded(Nothing())
    with guarded.begin(Batch(()), deadline=0):
        assert asyncio.run(read()) == [("X",)]


def test_aiosqlites_backup(sqlite_store: Store) -> None:
    """What is copied over a file by aiosqlite is a write to that file."""
    doors.install()

    async def copy() -> None:
        async with (
            aiosqlite.connect(":memory:") as source,
            aiosqlite.connect(sqlite_store.url) as target,
        ):
            await source.backup(target)

    assert "backup()" in refused(lambda: asyncio.run(copy()))


def test_classes_of_the_apps(sqlite_store: Store) -> None:
    """Connections and cursors are what the app asks for; ours stand below them."""
    doors.install()
    seen: list[str] = []

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            seen.append(sql)
            return super().execute(sql, *args)

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            seen.append(sql.lower())
            return super().execute(sql, *args)

    insert = "INSERT INTO t (name) VALUES ('x')"
    with closing(sqlite3.connect(sqlite_store.url, factory=Connection)) as own:
        assert (type(own).__name__, type(own).__module__) == ("Connection", __name__)
        assert isinstance(own, Connection)
        assert isinstance(own.cursor(Cursor), Cursor)
        assert "sqlite3" in refused(lambda: own.execute(insert))
        assert "sqlite3" in refused(lambda: own.cursor(Cursor).execute(insert))
        assert seen == [insert, insert.lower()]
        own.row_factory = sqlite3.Row
        assert own.execute("SELECT count(*) AS n FROM t").fetchone()["n"] == 0
    with closing(sqlite3.connect(sqlite_store.url)) as plain:
        assert type(plain.cursor()).__name__ == "Cursor"
        assert not hasattr(plain.cursor(), "__dict__")
