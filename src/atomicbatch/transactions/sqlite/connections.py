"""The batch's own connection to a database, and the app's cursors that work on it for a time."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

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
