"""
The door of aiomysql, which is PyMySQL on an event loop, and what asyncmy has in common with it.

What is done behind it is in ``mysql_commands.py``. Pools open connections by ``connect()``, which
is outside of the batch; they close those that come back with a transaction open.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import ModuleType
from typing import Any, Final

from atomicbatch.doors import mysql_sessions
from atomicbatch.doors.mysql_commands import Found, change, leave_answer, performing
from atomicbatch.doors.mysql_kinds import AioMySQL, MySQLKind
from atomicbatch.doors.server_uses import Use
from atomicbatch.guard.watch import aside

KIND: Final = AioMySQL()


def change_aiomysql(module: ModuleType) -> None:
    """Let aiomysql's connections join, or ask."""
    change_async(module, KIND)


def change_async(module: ModuleType, kind: AioMySQL) -> bool:
    """
    Let connections of aiomysql or asyncmy join, or ask.

    Returns:
        They join: the driver is one that we know.
    """
    doors = {kind.connect: _connecting, "close": _closing, "ensure_closed": _closing_async}
    return change(module, kind, partial(_answer, kind), doors)


async def _answer(kind: AioMySQL, connection: Any, use: Use, sql: Any) -> None:
    results = await kind.run(performing(kind, connection, use, sql))
    leave_answer(kind, connection, use, results)


# Connections ------------------------------------------------------------------------------------


def _connecting(kind: MySQLKind, found: Found) -> Found:
    async def connect(self: Any) -> Any:
        if (use := kind.joined(self)) is not None:
            await use.end_async()
        mysql_sessions.forget(self, kind.reader)
        with aside():
            return await found(self)

    return connect


def _closing(kind: AioMySQL, found: Found) -> Found:
    def close(self: Any) -> None:
        use = kind.joined(self)
        # Without a loop it is the garbage collector that closes it.
        if use is not None and use.in_transaction() and asyncio._get_running_loop() is not None:
            kind.closed.note(use)
        found(self)

    return close


def _closing_async(kind: MySQLKind, found: Found) -> Found:
    async def ensure_closed(self: Any) -> None:
        if (use := kind.joined(self)) is not None:
            await use.end_async()
        await found(self)

    return ensure_closed
