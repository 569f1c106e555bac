"""Ways to write by the drivers of MariaDB beside an INSERT, and ways to read that pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from typing import Any

import pytest

from atomicbatch import Batch, doors, guard
from tests.databases import WITH_MYSQLCLIENT
from tests.doors.strangers import server
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

LIBRARIES = ["pymysql", *(["MySQLdb"] if WITH_MYSQLCLIENT else [])]
WAYS: dict[str, Callable[[Any], Any]] = {
    "query": lambda one: one.query("INSERT INTO t (name) VALUES ('x')"),
    "callproc": lambda one: one.cursor().callproc("p", ()),
    "ddl": lambda one: one.cursor().execute("CREATE TABLE u (a INT)"),
    "comment": lambda one: one.cursor().execute("/*! INSERT INTO t (name) VALUES ('x') */"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_ways_to_write(name: str, way: str, mariadb_store: Store) -> None:
    """Each way is refused; a comment that the server may run counts as what it holds."""
    library = import_module(name)
    doors.install()
    with closing(library.connect(**server(mariadb_store.url))) as connection:
        assert f"by {library.__name__}, at " in refused(lambda: WAYS[way](connection))
    assert mariadb_store.rows() == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_reading_passes(name: str, mariadb_store: Store) -> None:
    """Connecting, the session's settings, pings, transactions that write nothing."""
    library = import_module(name)
    doors.install()
    watched: guard.Guarded[None] = guard.Guarded(Nothing())
    with (
        watched.begin(Batch(()), deadline=0),
        closing(library.connect(**server(mariadb_store.url), charset="utf8mb4")) as connection,
    ):
        connection.autocommit(True)
        connection.ping()
        connection.begin()
        cursor = connection.cursor()
        cursor.execute("SET @a = 1")
        cursor.execute("SELECT count(*) FROM t FOR UPDATE")
        assert cursor.fetchall() == ((0,),)
        connection.rollback()
