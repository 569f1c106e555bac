"""
The doors of sqlite3.

Its classes are written in C and cannot be changed. So ``sqlite3.connect`` gives connections of a
subclass of the class that the caller wants, and their cursors are of a subclass as well.

Outside of batches they pass everything on. In a call of a batch they ask the adapter first: where
it joins the connection (``DriverTransaction``), what is done with it is done in the batch's
transaction. Where it does not, the guard is asked before a write.
"""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from typing import Any

from atomicbatch.doors.sqlite_origins import UNKNOWN, Origin
from atomicbatch.doors.sqlite_uses import Use, taken, use_of
from atomicbatch.guard.places import Place, of_file
from atomicbatch.guard.watch import Driver, Watch, watching
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import text_of

# A database in memory is gone when it is closed, unless one of these makes a file of it.
_LEAVES_MEMORY = re.compile(r"\b(?:ATTACH|VACUUM)\b", re.IGNORECASE)


def place_of(connection: Any) -> Place | None:
    """Name the database that a connection leads to."""
    if not isinstance(connection, Connection):
        return None
    origin = connection._atomicbatch
    return of_file(origin.database, origin.folder)


def readable(connection: Any, sql: Any) -> Any:
    """Read Python functions like built-in ones: what they write passes a door itself."""
    origin = getattr(connection, "_atomicbatch", UNKNOWN)
    if not origin.functions:
        return sql
    called = "|".join(re.escape(name) for name in origin.functions)
    pattern = rf"(?<![\w$])[\"\[`]?(?:{called})[\"\]`]?\s*\("
    return re.sub(pattern, "ABS(", text_of(sql), flags=re.IGNORECASE)


SQLITE3 = Driver("sqlite3", Family.SQLITE, place_of, readable)


class Connection(sqlite3.Connection):
    """A connection whose statements go where the batch says, or ask before they write."""

    _atomicbatch: Origin = UNKNOWN

    def cursor(self, factory: Any = None) -> Any:
        """Make a cursor."""
        return _cursor(self, Cursor if factory is None else _asking_cursor(factory))

    # These make cursors of sqlite3's own, which could be used again. Ours do the same work. One
    # that has failed is closed: the traceback keeps it, and with it the lock of its transaction.

    def execute(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL."""
        cursor = _cursor(self, Cursor)
        try:
            if watching.get() is None and not taken:
                return _execute(cursor, sql, *args)
            return cursor.execute(sql, *args)
        except BaseException:
            cursor.close()
            raise

    def executemany(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        cursor = _cursor(self, Cursor)
        try:
            if watching.get() is None and not taken:
                return _executemany(cursor, sql, *args)
            return cursor.executemany(sql, *args)
        except BaseException:
            cursor.close()
            raise

    def executescript(self, sql: Any, /) -> Any:
        """Execute several statements."""
        cursor = _cursor(self, Cursor)
        try:
            return cursor.executescript(sql)
        except BaseException:
            cursor.close()
            raise

    # Its transaction ---------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit."""
        if (use := _joined(self)) is None:
            super().commit()
        else:
            use.commit()

    def rollback(self) -> None:
        """Roll back."""
        if (use := _joined(self)) is None:
            super().rollback()
        else:
            use.rollback()

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> Any:
        """Commit, or roll back after an error, as sqlite3's own does."""
        if (use := _joined(self)) is None:
            return super().__exit__(kind, error, traceback)
        (use.commit if kind is None else use.rollback)()
        return False

    def close(self) -> None:
        """Close it, and roll back what is open."""
        if (use := _joined(self)) is not None:
            use.note_close()
        super().close()

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        use = _joined(self)
        return bool(_in_transaction(self)) if use is None else use.in_transaction()

    @property
    def total_changes(self) -> int:
        """Count the rows that have been changed by it."""
        use = _joined(self)
        return int(_total_changes(self)) + (0 if use is None else use.changes)

    @property
    def isolation_level(self) -> Any:
        """How it begins transactions."""
        use = _joined(self)
        return _isolation_level(self) if use is None else use.isolation_level()

    @isolation_level.setter
    def isolation_level(self, level: Any) -> None:
        use = _joined(self)
        if use is None:
            _set_isolation_level(self, level)
        else:
            use.set_mode("isolation_level", level)

    if hasattr(sqlite3.Connection, "autocommit"):

        @property
        def autocommit(self) -> Any:
            """How it controls transactions (Python 3.12)."""
            use = _joined(self)
            return _autocommit(self) if use is None else use.autocommit()

        @autocommit.setter
        def autocommit(self, mode: Any) -> None:
            use = _joined(self)
            if use is None:
                _set_autocommit(self, mode)
            else:
                use.set_mode("autocommit", mode)

    # What belongs to it ------------------------------------------------------------------------

    def create_function(self, name: str, narg: int, func: Any, **options: Any) -> None:
        """Register a Python function."""
        super().create_function(name, narg, func, **options)
        self._atomicbatch.note_function("create_function", name, narg, func, options)

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: Any) -> None:
        """Register a Python class as an aggregate function."""
        super().create_aggregate(name, n_arg, aggregate_class)
        self._atomicbatch.note_function("create_aggregate", name, n_arg, aggregate_class, {})

    def create_window_function(self, name: str, num_params: int, aggregate_class: Any, /) -> None:
        """Register a Python class as a window function."""
        super().create_window_function(name, num_params, aggregate_class)
        self._atomicbatch.note_function(
            "create_window_function", name, num_params, aggregate_class, {}
        )

    def create_collation(self, name: str, callback: Any, /) -> None:
        """Register a Python function as a collation."""
        super().create_collation(name, callback)
        self._atomicbatch.note_function("create_collation", name, 0, callback, {})

    def enable_load_extension(self, enable: bool, /) -> None:
        """Allow extensions."""
        super().enable_load_extension(enable)
        self._atomicbatch.note_event("enable_load_extension", enable)

    def load_extension(self, name: str, /, **options: Any) -> None:
        """Load an extension."""
        super().load_extension(name, **options)
        self._atomicbatch.note_event("load_extension", name, **options)

    def set_authorizer(self, authorizer_callback: Any) -> None:
        """Let a function allow or deny statements."""
        super().set_authorizer(authorizer_callback)
        self._atomicbatch.note_hook("set_authorizer", authorizer_callback)

    def set_progress_handler(self, progress_handler: Any, n: int) -> None:
        """Let a function be called now and then."""
        super().set_progress_handler(progress_handler, n)
        self._atomicbatch.note_hook("set_progress_handler", progress_handler, n)

    def set_trace_callback(self, trace_callback: Any) -> None:
        """Let a function see all statements."""
        super().set_trace_callback(trace_callback)
        self._atomicbatch.note_hook("set_trace_callback", trace_callback)

    # Other ways to its rows --------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop its statement."""
        if (use := _joined(self)) is not None:
            use.interrupt()
        super().interrupt()

    def backup(self, target: Any, **options: Any) -> None:
        """Copy everything over what is in ``target``."""
        watch = watching.get()
        if watch is not None:
            if (use := _joined(target, executes=True)) is not None:
                use.refuse("backup() over a database of the batch")
            if not is_scratch(target, watch, ""):
                watch.writes(target, SQLITE3, "backup()")
        if (use := _joined(self, executes=True)) is not None and use.has_unseen_rows:
            # SQLite copies nothing that is being written.
            use.refuse("backup() of a database that the batch has written to")
        super().backup(target, **options)

    def blobopen(self, *args: Any, readonly: bool = False, **options: Any) -> Any:
        """Open a value, perhaps to write it in place."""
        if (use := _joined(self, executes=True)) is not None:
            if not readonly:
                use.refuse("blobopen() to write")
            return use.read(
                lambda real: sqlite3.Connection.blobopen(real, *args, readonly=True, **options)
            )
        watch = watching.get()
        if watch is not None and not readonly and not is_scratch(self, watch, ""):
            watch.writes(self, SQLITE3, "blobopen()")
        return super().blobopen(*args, readonly=readonly, **options)

    def serialize(self, **options: Any) -> bytes:
        """Give the whole database as bytes."""
        if (use := _joined(self, executes=True)) is None:
            return super().serialize(**options)
        copied: bytes = use.read(lambda real: sqlite3.Connection.serialize(real, **options))
        return copied

    def deserialize(self, data: Any, /, **options: Any) -> None:
        """Replace the database by one in memory."""
        if (use := _joined(self, executes=True)) is not None:
            use.refuse("deserialize()")
        super().deserialize(data, **options)


class Cursor(sqlite3.Cursor):
    """A cursor of such a connection."""

    # No dictionary, as sqlite3's have none.
    __slots__ = ()

    @property
    def connection(self) -> Any:
        """The connection that it was made by."""
        inner = _connection_of(self)
        return inner if isinstance(inner, Connection) else getattr(inner, "owner_of", _same)(self)

    def execute(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL."""
        watch = watching.get()
        if watch is not None or taken or not isinstance(_connection_of(self), Connection):
            if (use := use_of(watch, self.connection, self, sql, executes=True)) is not None:
                return use.execute(self, _execute, sql, args)
            _ask(watch, self.connection, sql)
            _bring_back(self)
        return _execute(self, sql, *args)

    def executemany(self, sql: Any, /, *args: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        watch = watching.get()
        if watch is not None or taken or not isinstance(_connection_of(self), Connection):
            if (use := use_of(watch, self.connection, self, sql, executes=True)) is not None:
                return use.execute(self, _executemany, sql, args)
            _ask(watch, self.connection, sql)
            _bring_back(self)
        return _executemany(self, sql, *args)

    def executescript(self, sql: Any, /) -> Any:
        """Execute several statements."""
        watch = watching.get()
        if watch is not None or taken or not isinstance(_connection_of(self), Connection):
            if (use := use_of(watch, self.connection, self, sql, executes=True)) is not None:
                return use.executescript(self, sql)
            _ask(watch, self.connection, sql)
            _bring_back(self)
        return _executescript(self, sql)


# Found once: they are what every statement of the process passes.
_cursor: Any = sqlite3.Connection.cursor
_execute: Any = sqlite3.Cursor.execute
_executemany: Any = sqlite3.Cursor.executemany
_executescript: Any = sqlite3.Cursor.executescript
# Those that are written in C, of which types know only what they give.
_of_connection: Any = vars(sqlite3.Connection)
_connection_of: Any = vars(sqlite3.Cursor)["connection"].__get__
_in_transaction: Any = _of_connection["in_transaction"].__get__
_total_changes: Any = _of_connection["total_changes"].__get__
_isolation_level: Any = _of_connection["isolation_level"].__get__
_set_isolation_level: Any = _of_connection["isolation_level"].__set__
if "autocommit" in _of_connection:
    _autocommit: Any = _of_connection["autocommit"].__get__
    _set_autocommit: Any = _of_connection["autocommit"].__set__


def _bring_back(cursor: Any) -> None:
    """
    Let a cursor that a batch has used work on its own connection again.

    Not at the end of the batch: another thread may be about to close it just then.
    """
    give_back = getattr(_connection_of(cursor), "give_back", None)
    if give_back is not None:
        give_back(cursor)


def _same(cursor: Any) -> Any:
    return _connection_of(cursor)


def _joined(connection: Any, *, executes: bool = False) -> Use | None:
    watch = watching.get()
    if (watch is None and not taken) or not isinstance(connection, Connection):
        return None
    return use_of(watch, connection, executes=executes)


def _ask(watch: Watch | None, connection: Any, sql: Any) -> None:
    if watch is not None and not is_scratch(connection, watch, sql):
        watch.sends(connection, SQLITE3, sql)


def is_scratch(connection: Any, watch: Watch, sql: Any) -> bool:
    """Tell whether a connection is a database in memory that this very attempt has opened."""
    origin = getattr(connection, "_atomicbatch", UNKNOWN)
    if origin.opened_in is not watch:
        return False
    if sql and _LEAVES_MEMORY.search(text_of(sql)):
        origin.opened_in = None
        return False
    return True


@cache
def _asking_cursor(factory: Any) -> Any:
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return below(factory, Cursor)


def below(factory: type, ours: type) -> type:
    if factory is ours.__base__:
        return ours
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__}
    return type(factory.__name__, (factory, ours), names)
