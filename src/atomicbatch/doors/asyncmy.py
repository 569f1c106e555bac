"""
The door of asyncmy, which is compiled, and otherwise much like aiomysql.

Its classes of connections and statements can be changed like any others. Statements that the server
has prepared belong to the app's own session: they do not join.
"""

from __future__ import annotations

import asyncio
import struct
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.aiomysql import change_async
from atomicbatch.doors.mysql_commands import WHY, Found
from atomicbatch.doors.mysql_kinds import AioMySQL, decoders_of, place_of
from atomicbatch.doors.mysql_sessions import OWN_SOCKET, RESULT_READER
from atomicbatch.doors.server_uses import use_of
from atomicbatch.drivers import asyncmy as driver
from atomicbatch.drivers.driver import AsyncDriver, SyncDriver
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.watch import Driver, Watch
from atomicbatch.sql.kinds import Family

_PREPARED = (
    "a handler uses a statement that the server has prepared for the app's own connection "
    "(prepare(), or stmt_cache_size=); use a cursor, and connect without stmt_cache_size"
)
_TEXTS = "_atomicbatch_prepared"


class Asyncmy(AioMySQL):
    """What an adapter has to know of asyncmy, see ``Kind``."""

    named = Driver("asyncmy", Family.MYSQL, place_of)
    oldest = "asyncmy 0.2.15"
    driver: SyncDriver | AsyncDriver = driver
    reader = "read_packet"
    connect = "connect"
    reads_by = ("_encoding", "_use_unicode", "_decoders", "_read_timeout")
    flags = "_client_flag"
    prepares = 22
    executes = (23, 0xFA)  # one by one, and in bulk
    private = (*("_execute_command", "read_packet", RESULT_READER, "connect", "prepare"),)

    def is_closed(self, connection: Any) -> bool:
        return not connection._connected

    def shown(self, connection: Any) -> int:
        return driver.status(connection)

    def copied(self, connection: Any) -> Any:
        if connection._sock is not None:
            raise NotBatchableError(OWN_SOCKET)
        wire = driver.copied(connection)
        wire._loop = asyncio.get_running_loop()
        wire._echo, wire._query_callback = False, None
        return wire

    def is_known(self, module: ModuleType) -> bool:
        # Imported from 0.2.15 on, to be raised where a connection is used that was closed: the
        # versions before stumble over it.
        return super().is_known(module) and hasattr(module, "CR_SERVER_GONE_ERROR")

    def plain_attributes(self, module: ModuleType) -> dict[str, Any]:
        numbers = decoders_of(module)
        return {"_cursor_cls": module.Cursor, "_use_unicode": True, "_decoders": numbers}

    def check_command(self, watch: Watch, connection: Any, command: int, sql: Any) -> None:
        # A prepared statement takes no part.
        super().check_command(watch, connection, command, sql)
        if command not in (self.prepares, *self.executes):
            return
        if (use := use_of(watch, connection, self, executes=True)) is not None:
            use.refuse(_PREPARED)
        if command == self.prepares:
            watch.sends(connection, self.named, sql)
            return
        (number,) = struct.unpack_from("<I", sql)
        text = vars(connection).get(_TEXTS, {}).get(number)
        if text is None:
            watch.writes(connection, self.named, "a prepared statement")
        else:
            watch.sends(connection, self.named, text)


KIND = Asyncmy()


def change_asyncmy(module: ModuleType) -> None:
    """Let asyncmy's connections join, or ask."""
    if change_async(module, KIND):
        patches.change(module.Connection, "prepare", _preparing, why=WHY)
        patches.change(module.PreparedStatement, "close", _closing, why=WHY)


# The command to execute a statement says no more of it than its number.


def _preparing(found: Found) -> Found:
    async def prepare(self: Any, query: Any) -> Any:
        statement = await found(self, query)
        vars(self).setdefault(_TEXTS, {})[statement._statement_id] = query
        return statement

    return prepare


def _closing(found: Found) -> Found:
    async def close(self: Any) -> None:
        if self._connection is not None:
            vars(self._connection).get(_TEXTS, {}).pop(self._statement_id, None)
        await found(self)

    return close
