"""
Blind spots: what no audit hook is told, and is watched by other means while an examination runs.

- SQLite's connections that are open already: each is asked to authorize its statements; and
  aiosqlite gives them to threads of its own, which know nothing of the call.
- psycopg and psycopg2 connect by PostgreSQL's own library: what calls it is wrapped.
- Processes of multiprocessing start by means of their own, and some wait for work.
- Tasks: the event loop's factory sees them start. Threads have a method for it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sqlite3.dbapi2
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial, wraps
from multiprocessing.pool import ThreadPool
from typing import Any

from atomicbatch.doctor.watching import IN_MEMORY, current_watch, refuse
from atomicbatch.engine.current import inside_batch

# Beside SELECT itself; the rest changes something or holds a lock.
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_POSTGRESQL = (("psycopg2", "_connect"), ("psycopg.generators", "connect"))

# Its place among the arguments of sqlite3.connect(), after the database.
_CACHED_STATEMENTS = 6
# Their threads wait for work of any call; aiosqlite's belong to connections, which are seen.
_POOLS = ("anyio.", "aiosqlite.", "concurrent.futures.")
# A start is refused wherever it comes from; what has been started before is given work by the
# others, a pool's all by way of its _check_running().
_MULTIPROCESSING = (
    ("multiprocessing.process", "BaseProcess", "start"),
    ("multiprocessing.pool", "Pool", "_check_running"),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
)


@contextmanager
def sqlite_connections() -> Iterator[None]:
    """Let each connection that is opened inside the block ask whether it may do what it does."""
    modules, original = (sqlite3, sqlite3.dbapi2), sqlite3.connect

    def connect(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        if len(args) < _CACHED_STATEMENTS:
            # It asks when it prepares a statement, and not again for one that it has kept.
            options.setdefault("cached_statements", 0)
        connection: sqlite3.Connection = original(database, *args, **options)
        try:
            name = os.fsdecode(database)
        except TypeError:
            return connection
        if name not in IN_MEMORY:
            connection.set_authorizer(_authorizer(id(connection), name))
        return connection

    _set(modules, "connect", connect)
    try:
        yield
    finally:
        _set(modules, "connect", original)


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
    """Let the threads of aiosqlite's connections know, inside the block, whom they work for."""
    connections: Any = getattr(sys.modules.get("aiosqlite"), "Connection", None)
    original = getattr(connections, "_execute", None)
    if original is None:
        yield
        return

    @wraps(original)
    async def execute(self: object, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        watch = current_watch()
        if watch is not None and not watch.has_joined(id(self)):
            function = partial(copy_context().run, function)
        return await original(self, function, *args, **kw)

    connections._execute = execute
    try:
        yield
    finally:
        connections._execute = original


@contextmanager
def postgresql_connections() -> Iterator[None]:
    """Watch, inside the block, the drivers on PostgreSQL's library that have been imported."""
    originals = []
    for module_name, function_name in _POSTGRESQL:
        module = sys.modules.get(module_name)
        original = getattr(module, function_name, None)
        if original is not None:
            originals.append((module, function_name, original))
            driver = module_name.partition(".")[0]
            setattr(module, function_name, _wrapped(original, driver))
    try:
        yield
    finally:
        for module, function_name, original in originals:
            setattr(module, function_name, original)


def _wrapped(original: Callable[..., Any], driver: str) -> Callable[..., Any]:
    def connect(*args: Any, **kwargs: Any) -> Any:
        watch = current_watch()
        if watch is None:
            return original(*args, **kwargs)
        watch.databases[f"a database by {driver}"] = None
        raise refuse(ConnectionRefusedError, f"use {driver} itself")

    return connect


@contextmanager
def processes() -> Iterator[None]:
    """Watch, inside the block, whoever starts a process of multiprocessing or gives it work."""
    originals = []
    for module_name, class_name, method_name in _MULTIPROCESSING:
        owner = getattr(sys.modules.get(module_name), class_name, None)
        original = getattr(owner, method_name, None)
        if original is not None:
            originals.append((owner, method_name, original))
            setattr(owner, method_name, _in_this_process(original))
    try:
        yield
    finally:
        for owner, method_name, original in originals:
            setattr(owner, method_name, original)


def _in_this_process(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def give(self: object, *args: Any, **kwargs: Any) -> Any:
        watch = current_watch()
        if watch is not None and not isinstance(self, ThreadPool):
            raise watch.refuse_program("another process (multiprocessing)")
        return original(self, *args, **kwargs)

    return give


def _set(modules: Iterable[object], name: str, value: object) -> None:
    for module in modules:
        setattr(module, name, value)


@contextmanager
def tasks() -> Iterator[None]:
    """Watch, inside the block, the tasks that calls start in this event loop."""
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
    """Watch, inside the block, the threads that calls start; pools of threads are none of them."""
    original = threading.Thread.start

    @wraps(original)
    def start(self: threading.Thread) -> None:
        watch = current_watch()
        if watch is not None and inside_batch() and not _is_pool(self):
            watch.take_down_thread(self)
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]


def _is_pool(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(f"{module}.".startswith(_POOLS) for module in modules)
