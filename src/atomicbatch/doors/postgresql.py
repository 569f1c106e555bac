"""
The doors of asyncpg and psycopg2.

- asyncpg: every statement with parameters is prepared first (``_get_statement``); those without go
  through ``execute``; copies and statements that were prepared earlier have ways of their own.
- psycopg2 is written in C: connections are made of a subclass of the class that the caller wants,
  and so are their cursors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, watching
from atomicbatch.sql.kinds import Family

WHY = "what takes no part in a batch is refused"


# asyncpg -----------------------------------------------------------------------------------------


def _asyncpg_place(connection: Any) -> Place | None:
    address = connection._addr
    host, port = address if isinstance(address, tuple) else (address, None)
    if port is None:
        # The path of a socket, whose name ends with the port.
        port = str(host).rpartition(".")[2]
    return of_server("postgresql", host, port, connection._params.database)


ASYNCPG = Driver("asyncpg", Family.POSTGRESQL, _asyncpg_place)


def change_asyncpg(module: ModuleType) -> None:
    """Let asyncpg's connections ask."""
    connection = module.Connection
    for name in ("_get_statement", "execute", "_copy_in", "_copy_out"):
        patches.change(connection, name, _asking_by_query, why=WHY)
    patches.change(connection, "copy_records_to_table", _asking_to_copy, why=WHY)


def change_asyncpg_statements(module: ModuleType) -> None:
    """Let statements ask that were prepared earlier, before the batch perhaps."""
    statement = module.PreparedStatement
    patches.change(statement, "_PreparedStatement__do_execute", _asking_again, why=WHY)
    patches.change(statement, "cursor", _asking_again, why=WHY)


def _asking_by_query(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, ASYNCPG, query)
        return found(self, query, *args, **options)

    return ask


def _asking_to_copy(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.writes(self, ASYNCPG, "COPY")
        return found(self, *args, **options)

    return ask


def _asking_again(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self._connection, ASYNCPG, self._query)
        return found(self, *args, **options)

    return ask


# psycopg2 ----------------------------------------------------------------------------------------


def _libpq_place(connection: Any) -> Place | None:
    info = connection.info
    return of_server("postgresql", info.host, info.port, info.dbname)


PSYCOPG2 = Driver("psycopg2", Family.POSTGRESQL, _libpq_place)


def change_psycopg2(module: ModuleType) -> None:
    """Let psycopg2 give connections that ask; ``connect`` calls ``_connect`` by its name."""
    global _Plain
    _Plain = sys.modules["psycopg2.extensions"].cursor
    patches.change(module, "_connect", _connecting, why=WHY)


def _connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    def connect(dsn: Any, connection_factory: Any = None, *args: Any, **options: Any) -> Any:
        connection = found(dsn, _asking_connection(connection_factory), *args, **options)
        watch = watching.get()
        if watch is not None:
            watch.opens(connection)
        return connection

    return connect


@cache
def _asking_connection(factory: Any) -> Any:
    return _below(factory, sys.modules["psycopg2.extensions"].connection, Connection)


@cache
def asking_cursor(factory: Any) -> Any:
    return _below(factory, sys.modules["psycopg2.extensions"].cursor, Cursor)


def _below(factory: Any, base: type, ours: type) -> Any:
    """Put our class between a class of the app's and the driver's own."""
    factory = factory or base
    if not isinstance(factory, type) or issubclass(factory, ours):
        return factory
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__}
    if factory is base:
        return type(base.__name__, (ours, base), names)
    return type(factory.__name__, (factory, _below(base, base, ours)), names)


class Connection:
    """What is put in front of psycopg2's connections."""

    cursor_factory: Any

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Make a cursor that asks before it writes."""
        if len(args) > 1:
            args = (args[0], asking_cursor(args[1] or self.cursor_factory), *args[2:])
        else:
            wanted = options.get("cursor_factory") or self.cursor_factory
            options["cursor_factory"] = asking_cursor(wanted)
        return super().cursor(*args, **options)  # type: ignore[misc]

    def lobject(self, oid: int = 0, mode: str | None = None, *args: Any, **options: Any) -> Any:
        """Open a large object; without a number, make one."""
        watch = watching.get()
        if watch is not None and (not oid or "w" in (mode or "") or mode == "n"):
            watch.writes(self, PSYCOPG2, "lobject()")
        given = (oid,) if mode is None else (oid, mode)
        return super().lobject(*given, *args, **options)  # type: ignore[misc]


class Cursor:
    """What is put in front of psycopg2's cursors."""

    connection: Any

    # Without *args and super() where every statement passes: they take two microseconds.

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002  # as psycopg2's
        """Execute SQL."""
        if watching.get() is not None:
            _ask(self.connection, query)
        return _Plain.execute(self, query, vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        if watching.get() is not None:
            _ask(self.connection, query)
        return _Plain.executemany(self, query, vars_list)

    def callproc(self, *args: Any, **options: Any) -> Any:
        """Call a function of the database, which may do anything."""
        _ask(self.connection, "CALL procedure")
        return _Plain.callproc(self, *args, **options)

    def copy_from(self, *args: Any, **options: Any) -> Any:
        """Copy rows into a table."""
        _ask(self.connection, "COPY a FROM STDIN")
        return _Plain.copy_from(self, *args, **options)

    def copy_expert(self, sql: Any, *args: Any, **options: Any) -> Any:
        """Copy rows, whichever way."""
        _ask(self.connection, sql)
        return _Plain.copy_expert(self, sql, *args, **options)


# psycopg2's own class of cursors, once that has been imported.
_Plain: Any = None


def _ask(connection: Any, query: Any) -> None:
    watch = watching.get()
    if watch is not None:
        watch.sends(connection, PSYCOPG2, query)
