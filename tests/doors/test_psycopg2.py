"""The door of psycopg2: what it refuses, and what batches do by it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extras import NamedTupleCursor

from atomicbatch import Batch, doors, guard
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

INSERT = "INSERT INTO t (name) VALUES ('x')"
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
