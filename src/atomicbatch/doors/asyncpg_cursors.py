"""Cursors of asyncpg's in the server, and copies: what asyncpg sends for their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atomicbatch.doors.asyncpg_ends import at_home
from atomicbatch.doors.asyncpg_kind import KIND
from atomicbatch.doors.asyncpg_sending import send
from atomicbatch.doors.asyncpg_sides import ATTRIBUTE, Home, side_of
from atomicbatch.doors.asyncpg_uses import (
    by,
    connection_of,
    copying,
    limit_of,
    one_at_a_time,
    use_of_connection,
    watch_on,
)
from atomicbatch.doors.server_uses import Use
from atomicbatch.guard.watch import Watch, watching

Found = Callable[..., Any]


def closing_portal(found: Found) -> Found:
    fetch = fetching(found)

    def close_portal(self: Any, portal_name: str, timeout: Any) -> Any:
        side = getattr(self, ATTRIBUTE, None)
        if isinstance(side, Home):
            side.portals.discard(portal_name)
        return fetch(self, portal_name, timeout)

    return close_portal


def fetching(found: Found) -> Found:
    """Around what is done with the rest of a cursor's rows."""

    def fetch(self: Any, *args: Any) -> Any:
        watch = watching.get()
        connection = None if watch is None else connection_of(self)
        if watch is None or connection is None:
            return found(self, *args)
        use = use_of_connection(watch, connection)
        if use is None:
            return found(self, *args)
        return _fetch(found, self, use, connection, args)

    return fetch


async def _fetch(found: Found, home: Any, use: Use, connection: Any, args: Any) -> Any:
    *others, timeout = args
    limit = limit_of(home, timeout)

    async def perform(protocol: Any) -> Any:
        return await found(protocol, *others, limit)

    act = by(connection, perform)
    return await one_at_a_time(use, home, lambda: use.fetch_async(act))


def copying_by(found: Found) -> Found:
    def copy(self: Any, copy_stmt: Any, *args: Any) -> Any:
        watch = watch_on(self)
        if watch is None:
            return found(self, copy_stmt, *args)
        return _copy(found, self, watch, copy_stmt, args)

    return copy


async def _copy(found: Found, home: Any, watch: Watch, copy_stmt: str, args: Any) -> Any:
    *others, timeout = map(at_home, args)
    limit = limit_of(home, timeout)

    async def perform(protocol: Any) -> Any:
        await KIND.send_ahead(protocol, side_of(protocol))
        with copying(connection_of(home)):
            return await found(protocol, copy_stmt, *others, limit)

    return await send(home, watch, copy_stmt, None, perform)
