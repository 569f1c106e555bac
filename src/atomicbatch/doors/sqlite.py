"""
The doors of sqlite3 and aiosqlite.

sqlite3's classes are written in C and cannot be changed. So ``sqlite3.connect`` gives connections
of a subclass of the class that the caller wants, and their cursors are of a subclass as well.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.guard.places import Place, of_file
from atomicbatch.guard.watch import Driver, Watch, watching
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import text_of

WHY = "what takes no part in a batch is refused"
# Its place among the arguments of sqlite3.connect(), after the database.
_FACTORY = 4
# A database in memory is gone when it is closed, unless one of these makes a file of it.
_LEAVES_MEMORY = re.compile(r"\b(?:ATTACH|VACUUM)\b", re.IGNORECASE)


def _place(connection: Any) -> Place | None:
    if not isinstance(connection, Connection):
        return None
    return of_file(connection._atomicbatch_database, connection._atomicbatch_folder)


def _readable(connection: Any, sql: Any) -> Any:
    """Read functions of Python's as the built-in ones: what they write is seen by itself."""
    names = getattr(connection, "_atomicbatch_functions", None)
    if not names:
        return sql
    called = "|".join(re.escape(name) for name in names)
    pattern = rf"(?<![\w$])[\"\[`]?(?:{called})[\"\]`]?\s*\("
    return re.sub(pattern, "ABS(", text_of(sql), flags=re.IGNORECASE)


SQLITE3 = Driver("sqlite3", Family.SQLITE, _place, _readable)


class Connection(sqlite3.Connection):
    """A connection whose cursors ask before they write."""

    # What it was opened by, and the folder that was current then.
    _atomicbatch_database: Any = ""
    _atomicbatch_folder = ""
    # The attempt inside of which it was opened, if in memory.
    _atomicbatch_opened_in: Any = None
    # The names of functions that are Python's.
    _atomicbatch_functions: frozenset[str] = frozenset()

    def cursor(self, factory: Any = None) -> Any:
        """Make a cursor."""
        return _cursor(self, Cursor if factory is None else _asking_cursor(factory))

    # These make cursors of sqlite3's own, which could be used again. Ours do the same work.

    def execute(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL."""
        return _cursor(self, Cursor).execute(sql, *args)

    def executemany(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        return _cursor(self, Cursor).executemany(sql, *args)

    def executescript(self, sql: Any, /) -> Any:
        """Execute several statements."""
        return _cursor(self, Cursor).executescript(sql)

    def create_function(self, name: str, *args: Any, **options: Any) -> None:
        """Make a function of Python's."""
        super().create_function(name, *args, **options)
        self._atomicbatch_functions |= {name}

    def create_aggregate(self, name: str, *args: Any, **options: Any) -> None:
        """Make an aggregate function of Python's."""
        super().create_aggregate(name, *args, **options)
        self._atomicbatch_functions |= {name}

    def create_window_function(self, name: str, *args: Any, **options: Any) -> None:
        """Make a window function of Python's."""
        super().create_window_function(name, *args, **options)
        self._atomicbatch_functions |= {name}

    def backup(self, target: Any, **options: Any) -> None:
        """Copy everything over what is in ``target``."""
        watch = watching.get()
        if watch is not None and not _is_scratch(target, watch, ""):
            watch.writes(target, SQLITE3, "backup()")
        super().backup(target, **options)

    def blobopen(self, *args: Any, readonly: bool = False, **options: Any) -> Any:
        """Open a value, perhaps to write it in place."""
        watch = watching.get()
        if watch is not None and not readonly and not _is_scratch(self, watch, ""):
            watch.writes(self, SQLITE3, "blobopen()")
        return super().blobopen(*args, readonly=readonly, **options)


class Cursor(sqlite3.Cursor):
    """A cursor that asks before it writes."""

    # No dictionary, as sqlite3's have none.
    __slots__ = ()

    def execute(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL."""
        watch = watching.get()
        if watch is not None:
            _ask(watch, self.connection, sql)
        return _execute(self, sql, *args)

    def executemany(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        watch = watching.get()
        if watch is not None:
            _ask(watch, self.connection, sql)
        return _executemany(self, sql, *args)

    def executescript(self, sql: Any, /) -> Any:
        """Execute several statements."""
        watch = watching.get()
        if watch is not None:
            _ask(watch, self.connection, sql)
        return _executescript(self, sql)


# Found once: they are what every statement of the process passes.
_cursor: Any = sqlite3.Connection.cursor
_execute: Any = sqlite3.Cursor.execute
_executemany: Any = sqlite3.Cursor.executemany
_executescript: Any = sqlite3.Cursor.executescript


def _ask(watch: Watch, connection: Any, sql: Any) -> None:
    if not _is_scratch(connection, watch, sql):
        watch.sends(connection, SQLITE3, sql)


def _is_scratch(connection: Any, watch: Watch, sql: Any) -> bool:
    """Tell whether a connection is a database in memory that this very attempt has opened."""
    if getattr(connection, "_atomicbatch_opened_in", None) is not watch:
        return False
    if sql and _LEAVES_MEMORY.search(text_of(sql)):
        connection._atomicbatch_opened_in = None
        return False
    return True


@cache
def _asking(factory: type) -> Any:
    """Put our class below a class of the app's, so that all that it passes on comes by us."""
    return factory if issubclass(factory, Connection) else _below(factory, Connection)


@cache
def _asking_cursor(factory: Any) -> Any:
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return _below(factory, Cursor)


def _below(factory: type, ours: type) -> type:
    if factory is ours.__base__:
        return ours
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__}
    return type(factory.__name__, (factory, ours), names)


def _connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    def connect(database: Any, *args: Any, **options: Any) -> Any:
        if len(args) > _FACTORY:
            factory = args[_FACTORY]
        else:
            factory = options.get("factory", sqlite3.Connection)
        if isinstance(factory, type):
            if len(args) > _FACTORY:
                args = (*args[:_FACTORY], _asking(factory), *args[_FACTORY + 1 :])
            else:
                options["factory"] = _asking(factory)
        connection = found(database, *args, **options)
        if isinstance(connection, Connection):
            connection._atomicbatch_database = database
            connection._atomicbatch_folder = os.getcwd()
            watch = watching.get()
            if watch is not None:
                watch.opens(connection)
                _note_memory(connection, watch)
        return connection

    return connect


def change_sqlite3(module: ModuleType) -> None:
    """Let sqlite3.connect give connections that ask; also where it was imported by name."""
    patches.change_everywhere(module.connect, _connecting, why=WHY)


# aiosqlite ---------------------------------------------------------------------------------------

AIOSQLITE = Driver(
    "aiosqlite",
    Family.SQLITE,
    lambda connection: _place(connection._conn),
    lambda connection, sql: _readable(connection._conn, sql),
)


def change_aiosqlite(module: ModuleType) -> None:
    """
    Let aiosqlite's connections ask, in the task that has something for their thread to do.

    The thread itself belongs to the connection, not to the batch that may have started it.
    """
    patches.change(module.Connection, "_execute", _executing, why=WHY)


def _executing(found: Callable[..., Any]) -> Callable[..., Any]:
    async def execute(self: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            name = getattr(fn, "__name__", "")
            inner = getattr(self, "_connection", None)
            if name == "backup":
                target = args[0] if args else options.get("target")
                if not _is_scratch(target, watch, ""):
                    watch.writes(target, SQLITE3, "backup()")
            elif (
                args
                and isinstance(args[0], str)
                and name.strip("_").startswith("execute")
                and not _is_scratch(inner, watch, args[0])
            ):
                watch.sends(self, AIOSQLITE, args[0])
        return await found(self, _unwatched, watch, fn, *args, **options)

    return execute


def _unwatched(watch: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    token = watching.set(None)
    try:
        result = fn(*args, **options)
    finally:
        watching.reset(token)
    if watch is not None and isinstance(result, Connection):
        _note_memory(result, watch)
    return result


def _note_memory(connection: Connection, watch: Watch) -> None:
    place = _place(connection)
    if place is not None and not place.database:
        connection._atomicbatch_opened_in = watch
