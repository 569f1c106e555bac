"""
The door of aiosqlite, whose connections do their work in a thread of their own.

The thread belongs to the connection, not to the batch that may have started it. So it starts
without a batch, and what it does is watched, or joined, for the task that has asked for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.sqlite import (
    SQLITE3,
    is_scratch,
    place_of,
    readable,
)
from atomicbatch.doors.sqlite_connect import WHY
from atomicbatch.guard.watch import Driver, Watch, watching
from atomicbatch.sql.kinds import Family

AIOSQLITE = Driver(
    "aiosqlite",
    Family.SQLITE,
    lambda connection: place_of(connection._conn),
    lambda connection, sql: readable(connection._conn, sql),
)


def change_aiosqlite(module: ModuleType) -> None:
    """Let aiosqlite's connections ask, in the task that has something for their thread to do."""
    kind = module.Connection
    # Every statement of the process passes it, so that nothing more may stand around it.
    patches.change(kind, "_execute", _executing, why=WHY, as_it_is=True)
    patches.change(kind, "__await__", _starting, why=WHY)
    patches.change(kind, "_connect", _connecting, why=WHY)


# The thread -------------------------------------------------------------------------------------


def _starting(found: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any) -> Any:
        # A call would give its context to the thread, which would have it for ever.
        return found(self) if watching.get() is None else Context().run(found, self)

    return start


def _connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    async def connect(self: Any) -> Any:
        if watching.get() is None:
            return await found(self)
        connector = self._connector
        self._connector = partial(copy_context().run, connector)
        try:
            return await found(self)
        finally:
            self._connector = connector

    return connect


# Statements -------------------------------------------------------------------------------------


def _executing(found: Callable[..., Any]) -> Callable[..., Any]:
    # No coroutine function: outside of batches that would be one more to go through.
    def execute(self: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is None:
            return found(self, fn, *args, **options)
        if watch.joins:
            return _joined(found, self, fn, args, options)
        _ask(self, watch, fn, args, options)
        return found(self, fn, *args, **options)

    return execute


async def _joined(
    found: Callable[..., Any], connection: Any, fn: Callable[..., Any], args: Any, options: Any
) -> Any:
    if type(getattr(connection, "_connection", None)) is sqlite3.Connection:
        fn = await _reopened(found, connection, fn)
    return await found(connection, copy_context().run, fn, *args, **options)


def _ask(
    connection: Any, watch: Watch, fn: Callable[..., Any], args: Any, options: dict[str, Any]
) -> None:
    name = getattr(fn, "__name__", "")
    if name == "backup":
        target = args[0] if args else options.get("target")
        if not is_scratch(target, watch, ""):
            watch.writes(target, SQLITE3, "backup()")
        return
    inner = getattr(connection, "_connection", None)
    is_statement = args and isinstance(args[0], str) and name.strip("_").startswith("execute")
    if is_statement and not is_scratch(inner, watch, args[0]):
        watch.sends(connection, AIOSQLITE, args[0])


async def _reopened(found: Callable[..., Any], connection: Any, fn: Any) -> Any:
    """
    Open a connection from before the doors once more, through them, in its own thread.

    Returns:
        What was to be done by the old one, to be done by the new one.
    """
    old = connection._connection

    def reopen() -> Any:
        if old.in_transaction:
            return old  # what it has open would be lost; the guard speaks
        new = connection._connector()
        new.row_factory, new.text_factory = old.row_factory, old.text_factory
        new.isolation_level = old.isolation_level
        cursor = sqlite3.Cursor(old)
        (is_on,) = cursor.execute("PRAGMA foreign_keys").fetchone()
        new.execute(f"PRAGMA foreign_keys={is_on:d}")
        old.close()
        return new

    new = connection._connection = await found(connection, reopen)
    if getattr(fn, "__self__", None) is old:
        return getattr(new, fn.__name__)
    return fn
