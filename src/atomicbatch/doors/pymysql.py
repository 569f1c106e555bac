"""The door of PyMySQL; what is done behind it is in ``mysql_commands.py``."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from atomicbatch import patches
from atomicbatch.doors import mysql_sessions
from atomicbatch.doors.mysql_commands import WHY, Found, change, leave_answer, performing
from atomicbatch.doors.mysql_kinds import OWN_SOCKET, MySQLKind, PyMySQL
from atomicbatch.doors.server_uses import Use
from atomicbatch.guard.watch import aside

KIND: Final = PyMySQL()


def change_pymysql(module: ModuleType) -> None:
    """Let PyMySQL's connections join, or ask."""
    if change(module, KIND, _answer, {"connect": _connecting, "close": _closing}):
        patches.change(module.Connection, "kill", _aside, why=WHY)


def _answer(connection: Any, use: Use, sql: Any) -> None:
    leave_answer(KIND, connection, use, KIND.run(performing(KIND, connection, use, sql)))


def _aside(found: Found) -> Found:
    def kill(self: Any, *args: Any) -> Any:
        with aside():
            return found(self, *args)

    return kill


def _connecting(kind: MySQLKind, found: Found) -> Found:
    def connect(self: Any, sock: Any = None) -> Any:
        if (use := kind.joined(self)) is not None:
            use.end()
        mysql_sessions.forget(self, kind.reader)
        if sock is not None:
            vars(self)[OWN_SOCKET] = True
        with aside():
            return found(self, sock)

    return connect


def _closing(kind: MySQLKind, found: Found) -> Found:
    def close(self: Any) -> Any:
        if (use := kind.joined(self)) is not None:
            use.end()
        return found(self)

    return close
