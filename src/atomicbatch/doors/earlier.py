"""
Connections of sqlite3 and psycopg2 that were opened before the doors were there.

Both drivers are written in C, so these connections have no doors. We look for them once, before the
first batch, and name them in the log:

- sqlite3, opened in this thread: a trace callback asks as a statement begins, and interrupts one
  that must not write. SQLite looks at that before it changes anything: each program of its own
  begins with a jump, where the trace is, and another one back (https://sqlite.org/opcode.html, Init
  and Goto).
- sqlite3, opened in another thread: nothing can be seen. ``DriverTransaction`` refuses batches.
- psycopg2: one of a class of the app's gets a door, and so do its cursors. One of psycopg2's own
  class cannot have one: its cursors ask before they write, unless they were made before, or the app
  chooses another class for them. ``DriverTransaction`` refuses batches.

While there are such connections, no reply says that everything a call did is undone.
"""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
from functools import partial
from typing import Any

from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.doors import sqlite
from atomicbatch.doors.psycopg2 import give_door
from atomicbatch.doors.psycopg2_cursors import give_cursor_door
from atomicbatch.doors.psycopg2_kind import PSYCOPG2, plain
from atomicbatch.errors import TransactionError
from atomicbatch.guard.places import Place, of_file
from atomicbatch.guard.watch import Driver, unwatched, watching
from atomicbatch.sql.kinds import Family

logger = logging.getLogger("atomicbatch")
_looked: set[str] = set()
unseen: list[str] = []
"""
Connections of which nothing tells what is written on them, by their driver: those of sqlite3 that
belong to other threads, and those of psycopg2's own class.
"""


def look_once(advice: Advice = ARGUMENTS) -> None:
    """Look for such connections; again does nothing. Takes some ten milliseconds."""
    if "others" not in _looked:
        look(advice)


def are_any_unseen(advice: Advice = ARGUMENTS) -> bool:
    """
    Tell whether anything may be written without being seen; looks again if there was.

    Who asks has the doors of drivers only: SQLAlchemy's pools count as well.
    """
    if "pools" not in _looked:
        look(advice, in_pools=True)
    if unseen:
        unseen.clear()
        look(advice)
        look(advice, in_pools=True)
    return bool(unseen)


def look(advice: Advice = ARGUMENTS, *, in_pools: bool = False) -> None:
    """
    Look for such connections among all objects that the garbage collector knows.

    Args:
        advice: What the log says to do about them.
        in_pools: For those in SQLAlchemy's pools, which have doors of their own; else for all
            others.
    """
    _looked.add("pools" if in_pools else "others")
    early, pooled = _early()
    names = [
        _watch(one) for one in early if (id(one) in pooled) is in_pools and not _is_closed(one)
    ]
    if names:
        unwatched.extend(names)
        logger.warning(
            "connections that were opened before %s take no part in batches: %s; a write on one "
            "is not always seen, and stays then when the batch is rolled back; %s",
            advice.watched_since,
            ", ".join(names),
            advice.watch_first,
        )


def _early() -> tuple[list[Any], set[int]]:
    """Find them, without those of aiosqlite; tell the identities of all that SQLAlchemy pools."""
    early: list[Any] = []
    pooled: set[int] = set()
    of_aiosqlite: set[int] = set()
    psycopg2 = sys.modules.get("psycopg2.extensions")
    of_drivers = (sqlite3.Connection, getattr(psycopg2, "connection", sqlite3.Connection))
    for one in gc.get_objects():
        kind = type(one)
        if issubclass(kind, of_drivers):
            if not _has_door(one):
                early.append(one)
        elif psycopg2 is not None and issubclass(kind, psycopg2.cursor):
            if type(give_cursor_door(one)) is plain.cursor and not one.closed:
                early.append(one.connection)
        elif kind.__name__ == "_ConnectionRecord":
            pooled.add(id(getattr(one, "dbapi_connection", None)))
        elif kind.__module__ == "aiosqlite.core":
            of_aiosqlite.add(id(getattr(one, "_connection", None)))
    each = {id(one): one for one in early}  # one may have several cursors
    return [one for one in each.values() if id(one) not in of_aiosqlite], pooled


def _has_door(connection: Any) -> bool:
    """Tell whether it has a door, or can be given one."""
    if isinstance(connection, sqlite3.Connection):
        return isinstance(connection, sqlite.Connection)
    return type(give_door(connection)) is not plain.connection


def _is_closed(connection: Any) -> bool:
    try:
        if not isinstance(connection, sqlite3.Connection):
            return bool(connection.closed)
        # Unlike most, it can be asked in any thread.
        return connection.in_transaction is None
    except sqlite3.ProgrammingError:
        return True


def _watch(connection: Any) -> str:
    """Watch one as far as that is possible; name it."""
    if not isinstance(connection, sqlite3.Connection):
        unseen.append("psycopg2")
        return f"psycopg2's to {PSYCOPG2.place(connection)}"
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        place = of_file(cursor.execute("PRAGMA database_list").fetchone()[2])
        connection.set_trace_callback(partial(_traced, connection, place))
    except sqlite3.Error:
        unseen.append("sqlite3")
        return "one of sqlite3's that belongs to another thread"
    return f"sqlite3's to {place}"


def _traced(connection: sqlite3.Connection, place: Place, sql: str) -> None:
    watch = watching.get()
    if watch is not None:
        driver = Driver("sqlite3", Family.SQLITE, lambda _: place, is_early=True)
        try:
            watch.sends(connection, driver, sql)
        except TransactionError:
            connection.interrupt()
