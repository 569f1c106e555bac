"""The batch's own connection, as its transaction and the join's steps use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from atomicbatch.drivers import sqlite3 as driver
from atomicbatch.transactions.sqlite.databases import Database


class BatchConnection(sqlite3.Connection):
    """A connection of the batch's own, on which cursors of the app's work for a time."""

    owners: WeakKeyDictionary[sqlite3.Cursor, sqlite3.Connection]

    def owner_of(self, cursor: sqlite3.Cursor) -> sqlite3.Connection:
        """Tell which connection of the app's a cursor was made by."""
        return self.owners.get(cursor, self)

    def give_back(self, cursor: sqlite3.Cursor) -> None:
        """Let a cursor work again on the connection that it was made by."""
        move_back(cursor)


connection_of: Any = vars(sqlite3.Cursor)["connection"].__get__
_in_transaction: Any = vars(sqlite3.Connection)["in_transaction"].__get__


class Past:
    """An adopted connection, used past its doors."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def cursor(self) -> sqlite3.Cursor:
        return sqlite3.Cursor(self._connection)

    def execute(self, text: str) -> sqlite3.Cursor:
        return self.cursor().execute(text)

    @property
    def in_transaction(self) -> bool:
        return bool(_in_transaction(self._connection))

    def interrupt(self) -> None:
        sqlite3.Connection.interrupt(self._connection)


class Link:
    """What runs the join's steps."""

    __slots__ = ("_connection", "interrupt")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.interrupt: Callable[[], None] = connection.interrupt

    def send(self, texts: Sequence[str]) -> None:
        driver.send(self._connection, texts)

    def ask(self, text: str) -> Any:
        return driver.ask(self._connection, text)

    def begin(self) -> None:
        self.send([driver.BEGIN])

    def commit(self) -> None:
        self.send(["COMMIT"])

    def rollback(self) -> None:
        driver.rollback(self._connection)

    def is_in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def is_aborted(self) -> bool:
        return False  # SQLite undoes a failed statement alone, and takes the next one

    def is_lost(self, error: Exception) -> bool:  # noqa: ARG002
        return False  # there is nothing between us and the file


def connect(database: Database, seconds: float) -> BatchConnection:
    """Open a connection; it waits so long for locks."""
    # By the class: sqlite3.connect() may be somebody's proxy (OpenTelemetry).
    connection = BatchConnection(
        database.path,
        timeout=seconds,
        detect_types=database.detect_types,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    connection.owners = WeakKeyDictionary()
    return connection


def move_to(
    cursor: sqlite3.Cursor, connection: sqlite3.Connection, owner: sqlite3.Connection
) -> None:
    """Let a cursor of the app's work on the batch's own connection."""
    if isinstance(connection, BatchConnection) and connection_of(cursor) is not connection:
        _move(cursor, connection)
        connection.owners[cursor] = owner


def move_back(cursor: sqlite3.Cursor) -> None:
    """Let it work on the connection again that it was made by; nothing if it does."""
    inner = connection_of(cursor)
    if isinstance(inner, BatchConnection) and (owner := inner.owners.pop(cursor, None)):
        # One that belongs to another thread is moved, and complains all the same.
        with suppress(sqlite3.ProgrammingError):
            _move(cursor, owner)


def _move(cursor: sqlite3.Cursor, connection: sqlite3.Connection) -> None:
    """Make a cursor one of another connection's. What it has not fetched is lost."""
    factory, size = cursor.row_factory, cursor.arraysize
    try:
        sqlite3.Cursor.__init__(cursor, connection)
    finally:
        cursor.row_factory, cursor.arraysize = factory, size
