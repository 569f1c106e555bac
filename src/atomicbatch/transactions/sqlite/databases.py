"""Which database a connection of sqlite3's leads to, whatever it was opened by."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.guard.places import Place, of_file
from atomicbatch.transactions.sqlite.pragmas import past_authorizer

# Of these a file is opened in another way; the batch's own connection has to know.
_KEPT_OPTIONS = ("vfs", "nolock", "immutable", "psow")


@dataclass(frozen=True)
class Database:
    """
    One database.

    Attributes:
        key: The same for all connections that lead to it.
        place: As ``outside=`` names it.
        path: What another connection to it is opened by, an URI; empty: there can be no other.
        detect_types: Of the connection that was asked.
        is_read_only: The connection was opened to read only.
    """

    key: tuple[Any, ...]
    place: Place
    path: str
    detect_types: int = 0
    is_read_only: bool = False

    def is_there(self) -> bool:
        """Tell whether the file that was asked about is still the one of that name."""
        if self.key[0] != "file":
            return True
        try:
            found = os.stat(self.place.database)
        except OSError:
            return False
        return self.key == ("file", found.st_dev, found.st_ino)

    @property
    def is_private(self) -> bool:
        """It is the connection's own: in memory, or a temporary file."""
        return not self.path


class UnsuitableError(Exception):
    """A connection cannot work in a batch; the message says why."""


def database_of(connection: sqlite3.Connection, origin: Origin) -> Database:
    """
    Ask a connection which database it leads to.

    Raises:
        UnsuitableError: It has attached others, or temporary tables.
        sqlite3.Error: It is closed, or belongs to another thread.
    """
    rows = _rows_of(connection)
    for _, name, _ in rows[1:]:
        if name == "temp":
            if not _temporaries_of(connection):
                continue  # all that there were have been dropped
            raise UnsuitableError(
                "has temporary tables, which the batch's own connection has not; use ordinary "
                "tables"
            )
        raise UnsuitableError(
            "has attached another database, with which it cannot be committed as one; use a "
            "connection for each"
        )
    file = str(rows[0][2])
    options = origin.uri_options
    detect_types = int(origin.options.get("detect_types", 0))
    if not file:
        return _in_memory(connection, origin, detect_types)
    try:
        found = os.stat(file)
    except OSError as error:
        raise UnsuitableError("leads to a file that is gone") from error
    kept = {name: values[-1] for name, values in options.items() if name in _KEPT_OPTIONS}
    path = Path(file).as_uri() + (f"?{urlencode(kept)}" if kept else "")
    return Database(
        ("file", found.st_dev, found.st_ino),
        of_file(file),
        path,
        detect_types,
        options.get("mode", [""])[-1] == "ro" or "immutable" in options,
    )


def _rows_of(connection: sqlite3.Connection) -> list[Any]:
    return _asked(connection, "PRAGMA database_list")


def _temporaries_of(connection: sqlite3.Connection) -> list[Any]:
    return _asked(connection, "SELECT name FROM sqlite_temp_master")


def _asked(connection: sqlite3.Connection, text: str) -> list[Any]:
    made_by, connection.text_factory = connection.text_factory, str
    try:
        with past_authorizer(connection):
            return sqlite3.Cursor(connection).execute(text).fetchall()
    finally:
        connection.text_factory = made_by


def _in_memory(connection: sqlite3.Connection, origin: Origin, detect_types: int) -> Database:
    if name := origin.shared_memory:
        return Database(("memory", name), of_file(""), str(origin.database), detect_types)
    return Database(("private", id(connection)), of_file(""), "", detect_types)
