"""
The door of asyncpg.

Whatever asyncpg sends, it sends by the methods of one object, the ``Protocol`` of a connection. In
a batch's call they send by the protocol of the batch's own connection, the wire. What is no sending
stays the connection's own: whether it is closed, closing it, what the garbage collector does.

- ``asyncpg_sending.py``, ``asyncpg_cursors.py``: the methods that send.
- ``asyncpg_uses.py``: what stands for a connection, to which they go.
- ``asyncpg_sides.py``, ``asyncpg_statements.py``: statements, which are prepared on both sides.
- ``asyncpg_wire.py``: the wire, and SQL of ours that travels with a statement.
- ``asyncpg_kind.py``: what the adapter has to know.
- This file: connections and pools, and how the doors are put in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors import asyncpg_cursors, asyncpg_sending
from atomicbatch.doors.asyncpg_kind import ASYNCPG, KIND
from atomicbatch.doors.asyncpg_sending import PREPARES, reset_settings
from atomicbatch.doors.asyncpg_sides import Abroad, Home, noting, side_of
from atomicbatch.doors.asyncpg_statements import Means
from atomicbatch.doors.asyncpg_uses import (
    connection_of,
    one_at_a_time,
    standing,
    use_of_connection,
)
from atomicbatch.doors.asyncpg_wire import connecting
from atomicbatch.errors import TransactionError
from atomicbatch.guard.watch import aside, watching

WHY = "what takes no part in a batch is refused"
# The methods of ``Protocol`` that send, and what takes their places.
_SENDING = {
    "query": asyncpg_sending.querying,
    "prepare": asyncpg_sending.preparing,
    "bind_execute": asyncpg_sending.executing,
    "bind_execute_many": asyncpg_sending.executing_many,
    "bind": asyncpg_sending.binding,
    "execute": asyncpg_cursors.fetching,
    "close_portal": asyncpg_cursors.closing_portal,
    "copy_in": asyncpg_cursors.copying_by,
    "copy_out": asyncpg_cursors.copying_by,
    "close_statement": asyncpg_sending.forgetting,
    "is_in_transaction": asyncpg_sending.telling,
}
# What else we need of asyncpg: of a protocol, a connection, its pool, and modules.
_OF_PROTOCOL = ("set_connection", "connection_made", "_get_timeout")
_OF_CONNECTION = (
    "_get_statement",
    "_introspect_types",
    "_process_log_message",
    "_reset",
    "_stmt_exclusive_section",
    "close",
    "reset",
    "terminate",
)
_OF_HOLDER = ("_con", "connect", "release")
_OF_MODULE = ("PreparedStatementState", "NO_TIMEOUT")
_OF_CONNECTING = ("_connect", "_connect_addr")


def change_asyncpg(pool: ModuleType) -> None:
    """Change asyncpg's classes, all of which are there when its pool is."""
    module = sys.modules["asyncpg.protocol.protocol"]
    utils = sys.modules["asyncpg.connect_utils"]
    protocol, connection = module.Protocol, pool.connection.Connection
    holder = pool.PoolConnectionHolder
    if not (
        _has(protocol, *_SENDING, *_OF_PROTOCOL)
        and _has(connection, *_OF_CONNECTION)
        and _has(holder, *_OF_HOLDER)
        and _has(module, *_OF_MODULE)
        and _has(utils, *_OF_CONNECTING)
    ):
        _change_to_guard(protocol)
        return
    if not hasattr(KIND, "asyncpg"):
        KIND.asyncpg = Means(
            prepare=protocol.prepare,
            query=protocol.query,
            close_portal=protocol.close_portal,
            state=module.PreparedStatementState,
            record=module.Record,
            no_timeout=module.NO_TIMEOUT,
            exceptions=pool.exceptions,
        )
    for name, door in _SENDING.items():
        patches.change(protocol, name, door, why=WHY, as_it_is=True)
    patches.change(protocol, "set_connection", noting, why=WHY)
    patches.change(protocol, "connection_made", connecting, why=WHY)
    patches.change(connection, "_introspect_types", _introspecting, why=WHY)
    patches.change(connection, "reset", _resetting, why=WHY, as_it_is=True)
    patches.change(connection, "close", _closing, why=WHY)
    patches.change(connection, "terminate", _terminating, why=WHY)
    patches.change(holder, "connect", _set_aside, why=WHY)
    patches.change(holder, "release", _releasing, why=WHY, as_it_is=True)
    patches.change(utils, "_connect", _set_aside, why=WHY)


def _has(owner: Any, *names: str) -> bool:
    return all(hasattr(owner, name) for name in names)


# Connections and pools ----------------------------------------------------------------------------


def _set_aside(found: Callable[..., Any]) -> Callable[..., Any]:
    """Around what opens connections, and sets them up."""

    async def connect(*args: Any, **options: Any) -> Any:
        with aside():
            return await found(*args, **options)

    return connect


def _introspecting(found: Callable[..., Any]) -> Callable[..., Any]:
    """Around what asks about types: the batch may have made them."""

    async def introspect(self: Any, typeoids: Any, timeout: Any) -> Any:
        watch = watching.get()
        connection = None if watch is None else connection_of(self._protocol)
        use = None
        if watch is not None and connection is not None:
            use = use_of_connection(watch, connection)
        if use is None:
            return await found(self, typeoids, timeout)

        async def perform(wire: Any) -> Any:
            side = side_of(wire._protocol)
            await KIND.send_ahead(wire._protocol, side)
            return await found(wire, typeoids, timeout)

        standing_use = use
        return await one_at_a_time(
            use, self._protocol, lambda: standing_use.perform_async(PREPARES, None, perform)
        )

    return introspect


def _closing(found: Callable[..., Any]) -> Callable[..., Any]:
    async def close(self: Any, **options: Any) -> Any:
        try:
            await _end(self, is_given_back=False)
        finally:
            result = await found(self, **options)
        return result

    return close


def _terminating(found: Callable[..., Any]) -> Callable[..., Any]:
    def terminate(self: Any) -> Any:
        watch = watching.get()
        use = None if watch is None or self.is_closed() else standing(watch, self)
        if use is not None and use.in_transaction():
            KIND.closed.note(use)
        return found(self)

    return terminate


def _resetting(found: Callable[..., Any]) -> Callable[..., Any]:
    async def reset(self: Any, *, timeout: Any = None) -> Any:
        watch = watching.get()
        side = side_of(self._protocol)
        if isinstance(side, Home) and side.skips_reset:
            return await self._reset()
        if watch is None or not watch.joins or isinstance(side, Abroad):
            return await found(self, timeout=timeout)
        self._check_open()
        await _end(self)
        # The batch has left its session as it was; what the app has set before is reset.
        with aside():
            return await found(self, timeout=timeout)

    return reset


def _releasing(found: Callable[..., Any]) -> Callable[..., Any]:
    """Around the return of a connection to its pool, which resets it by hooks of the app's."""

    def release(self: Any, timeout: Any) -> Any:
        watch = watching.get()
        if watch is None or not watch.joins:
            return found(self, timeout)
        return _release(found, self, timeout)

    return release


async def _release(found: Callable[..., Any], holder: Any, timeout: Any) -> Any:
    connection = holder._con
    try:
        await _end(connection)
    finally:
        with aside(), _skipping_reset(connection):
            result = await found(holder, timeout)
    return result


@contextmanager
def _skipping_reset(connection: Any) -> Iterator[None]:
    """
    Spare a round trip where nothing has been sent since the connection was last reset.

    What a handler has set in a batch it has set on the wire.
    """
    side = None if connection is None or connection.is_closed() else side_of(connection._protocol)
    if not isinstance(side, Home):
        yield
        return
    side.skips_reset = side.clean_at == connection._protocol.queries_count
    try:
        yield
    finally:
        side.skips_reset = False
    side.clean_at = None if connection.is_closed() else connection._protocol.queries_count


async def _end(connection: Any, *, is_given_back: bool = True) -> None:
    """Undo what is open on a connection that the app has no more use for, or gives back."""
    watch = watching.get()
    if watch is None or connection is None or connection.is_closed():
        return
    use = standing(watch, connection)
    if use is not None:
        with suppress(TransactionError):  # the batch has taken note
            await connection._reset()
            await use.end_async()
            if is_given_back:
                await reset_settings(use, connection)


# Where asyncpg is not as we know it ---------------------------------------------------------------


def _change_to_guard(protocol: Any) -> None:
    """Refuse what it writes in a batch."""
    for name in ("query", "prepare", "bind_execute", "bind_execute_many", "bind", "copy_in"):
        if hasattr(protocol, name):
            patches.change(protocol, name, _asking, why=WHY)


def _asking(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        side = None if watch is None else side_of(self)
        if watch is not None and isinstance(side, Home) and side.connection is not None:
            given = (*args, *options.values())
            texts = [one if isinstance(one, str) else getattr(one, "query", "") for one in given]
            watch.sends(side.connection, ASYNCPG, max(texts, key=len, default=""))
        return found(self, *args, **options)

    return ask
