"""
Blind spots: what no audit hook is told, and is watched by other means while an examination runs.

- SQLite's connections that are open already: each is asked to authorize its statements.
- psycopg and psycopg2 connect by PostgreSQL's own library: what calls it is wrapped.
- Processes of multiprocessing start by means of their own, and some wait for work.
- Tasks: the event loop's factory sees them start.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sqlite3.dbapi2
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing.pool import ThreadPool
from typing import Any

from atomicbatch.doctor.watching import IN_MEMORY, current_watch, refuse

# Beside SELECT itself; the rest changes something or holds a lock.
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_POSTGRESQL = (("psycopg2", "_connect"), ("psycopg.generators", "connect"))

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
