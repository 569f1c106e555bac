"""
psycopg's pools: what keeps connections in order is done outside of the batch.

A pool checks, sets up and resets its own connections, which has nothing to do with what a handler
does on them. One that is given back with an open transaction is rolled back in the batch, and goes
back as it was taken. The batch's own connection is another one, so a pool of one is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.psycopg_kinds import kind_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.guard.watch import aside, watching

WHY = "what takes no part in a batch is refused"
_NAMES = ("_start_workers", "_connect", "_check_connection", "_putconn", "putconn")


def change_psycopg_pool(module: ModuleType) -> None:
    """Let pools work outside of batches."""
    sync, asynchronous = module.ConnectionPool, module.AsyncConnectionPool
    if not all(hasattr(pool, name) for pool in (sync, asynchronous) for name in _NAMES):
        return
    for pool in (sync, asynchronous):
        patches.change(pool, "_start_workers", _starting_anew, why=WHY)
    # Those without a connection of their own open one when somebody asks for it.
    for name in ("_connect", "_check_connection", "_putconn"):
        patches.change(sync, name, _aside, why=WHY)
        patches.change(asynchronous, name, _aside_async, why=WHY)
    patches.change(sync, "putconn", _giving_back, why=WHY)
    patches.change(asynchronous, "putconn", _giving_back_async, why=WHY)


def _starting_anew(found: Callable[..., Any]) -> Callable[..., Any]:
    def start(*args: Any, **options: Any) -> Any:
        # Its threads or tasks outlive the call that has opened it.
        return Context().run(found, *args, **options)

    return start


def _aside(found: Callable[..., Any]) -> Callable[..., Any]:
    def act(*args: Any, **options: Any) -> Any:
        if watching.get() is None:
            return found(*args, **options)
        with aside():
            return found(*args, **options)

    return act


def _aside_async(found: Callable[..., Any]) -> Callable[..., Any]:
    async def act(*args: Any, **options: Any) -> Any:
        if watching.get() is None:
            return await found(*args, **options)
        with aside():
            return await found(*args, **options)

    return act


def _giving_back(found: Callable[..., Any]) -> Callable[..., Any]:
    def give_back(self: Any, connection: Any) -> Any:
        try:
            if (use := _use_given_to(self, connection)) is not None:
                use.end()
        finally:
            with aside():
                found(self, connection)

    return give_back


def _giving_back_async(found: Callable[..., Any]) -> Callable[..., Any]:
    async def give_back(self: Any, connection: Any) -> Any:
        try:
            if (use := _use_given_to(self, connection)) is not None:
                await use.end_async()
        finally:
            with aside():
                await found(self, connection)

    return give_back


def _use_given_to(pool: Any, connection: Any) -> Use | None:
    """Tell what stands for a connection that is given back; None if the pool will not take it."""
    watch = watching.get()
    if watch is None or getattr(connection, "_pool", None) is not pool:
        return None
    return use_of(watch, connection, kind_of(connection), executes=False)
