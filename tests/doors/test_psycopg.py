"""psycopg's door: what it asks the guard, and what a version that is not known is left with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.range import RangeInfo

from atomicbatch import Batch, doors, guard, patches
from atomicbatch.doors import psycopg as door
from tests.doors.test_sqlite import Nothing, refused
from tests.stores import Store

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
