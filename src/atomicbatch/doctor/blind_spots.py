"""
Blind spots: what audit hooks do not see is watched by other means while an examination runs.

- SQLite connections that are already open: SQLite asks us to authorize their statements. aiosqlite
  hands them to threads of its own, which have to be told about the call.
- psycopg and psycopg2 connect by PostgreSQL's own library: the functions that call it are wrapped.
- multiprocessing has its own ways to start processes, and some processes wait for work.
- Tasks: the event loop's task factory sees them start. Threads: their ``start`` method does.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sqlite3.dbapi2
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

from atomicbatch import patches
from atomicbatch.doctor.watching import IN_MEMORY, current_watch, refuse
from atomicbatch.engine.current import inside_batch

_WHY = "an examination watches what a call does outside of the transaction"
# What SELECT needs. Everything else changes something or holds a lock.
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_POSTGRESQL = (("psycopg2", "_connect"), ("psycopg.generators", "connect"))

# The position of cached_statements in sqlite3.connect(), after the database.
_CACHED_STATEMENTS = 6
# Their threads wait for work of any call. aiosqlite's belong to connections, which are watched.
_POOLS = ("anyio.", "aiosqlite.", "concurrent.futures.")
# Starting a process is refused. Processes that already run get their work through the others; all
# ways into a pool go through its _check_running().
_MULTIPROCESSING = (
    ("multiprocessing.process", "BaseProcess", "start"),
    ("multiprocessing.pool", "Pool", "_check_running"),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
)


@contextmanager
def sqlite_connections() -> Iterator[None]:
    """Inside the block, make each new connection ask whether it may execute a statement."""
    with patches.changed((sqlite3, "connect"), (sqlite3.dbapi2, "connect"), make=_asking, why=_WHY):
        yield


def _asking(found: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    def connect(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        if len(args) < _CACHED_STATEMENTS:
            # SQLite asks when it prepares a statement, and not again for one from its cache.
            options.setdefault("cached_statements", 0)
        connection = found(database, *args, **options)
        try:
            name = os.fsdecode(database)
        except TypeError:
            return connection
        if name not in IN_MEMORY:
            connection.set_authorizer(_authorizer(id(connection), name))
        return connection

    return connect


def _authorizer(connection: int, name: str) -> Callable[..., int]:
    def authorize(action: int, *_: object) -> int:
        watch = current_watch()
        if watch is None or watch.has_joined(connection):
            return sqlite3.SQLITE_OK
        watch.databases[f"SQLite's {name}"] = None
        return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY

    return authorize


@contextmanager
def aiosqlite_connections() -> Iterator[None]:
    """Inside the block, tell the threads of aiosqlite's connections which call they work for."""
    connections = getattr(sys.modules.get("aiosqlite"), "Connection", None)
    with patches.changed((connections, "_execute"), make=_telling, why=_WHY):
        yield


def _telling(found: Callable[..., Any]) -> Callable[..., Any]:
    async def execute(self: object, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        watch = current_watch()
        if watch is not None and not watch.has_joined(id(self)):
            function = partial(copy_context().run, function)
        return await found(self, function, *args, **kw)

    return execute


@contextmanager
def postgresql_connections() -> Iterator[None]:
    """Inside the block, watch the imported drivers that use PostgreSQL's own library."""
    with ExitStack() as stack:
        for module, name in _POSTGRESQL:
            make = partial(_refusing, driver=module.partition(".")[0])
            place = (sys.modules.get(module), name)
            stack.enter_context(patches.changed(place, make=make, why=_WHY))
        yield


def _refusing(found: Callable[..., Any], driver: str) -> Callable[..., Any]:
    def connect(*args: Any, **kwargs: Any) -> Any:
        watch = current_watch()
        if watch is None:
            return found(*args, **kwargs)
        watch.databases[f"a database by {driver}"] = None
        raise refuse(ConnectionRefusedError, f"use {driver} itself")

    return connect


@contextmanager
def processes() -> Iterator[None]:
    """Inside the block, watch whoever starts a process of multiprocessing or gives it work."""
    places = [
        (getattr(sys.modules.get(module), owner, None), name)
        for module, owner, name in _MULTIPROCESSING
    ]
    with patches.changed(*places, make=_in_this_process, why=_WHY):
        yield


def _in_this_process(found: Callable[..., Any]) -> Callable[..., Any]:
    def give(self: object, *args: Any, **kwargs: Any) -> Any:
        watch = current_watch()
        if watch is not None and not isinstance(self, ThreadPool):
            raise watch.refuse_program("another process (multiprocessing)")
        return found(self, *args, **kwargs)

    return give


@contextmanager
def tasks() -> Iterator[None]:
    """Inside the block, watch the tasks that calls start in this event loop."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if before is None:
            task: Any = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = before(loop, coroutine, **options)
        watch = current_watch()
        if watch is not None:
            watch.take_down(task)
        return task

    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


@contextmanager
def threads() -> Iterator[None]:
    """Inside the block, watch the threads that calls start, except those of thread pools."""
    with patches.changed((threading.Thread, "start"), make=_taken_down, why=_WHY):
        yield


def _taken_down(found: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        watch = current_watch()
        if watch is not None and inside_batch() and not _is_pool(self):
            watch.take_down_thread(self)
        found(self)

    return start


def _is_pool(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(f"{module}.".startswith(_POOLS) for module in modules)
