"""The door of mysqlclient: what it refuses, and what batches do by it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from atomicbatch import Batch, doors, guard
from tests.databases import WITH_MYSQLCLIENT
from tests.doors.strangers import server
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

if not WITH_MYSQLCLIENT:
    pytest.skip("mysqlclient is not installed", allow_module_level=True)

import MySQLdb

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
