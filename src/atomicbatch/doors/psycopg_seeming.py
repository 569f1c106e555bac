"""
What psycopg is shown in the place of an app's connection: one whose transaction is the batch's.

psycopg's own code of ``commit()``, ``transaction()`` and the like is run with it, and what that
wants to send is taken from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atomicbatch.doors.psycopg_steps import AT, Command, Plan
from atomicbatch.doors.server_uses import Use
from atomicbatch.sql.lexing import text_of

# libpq's PQtransactionStatus().
_IDLE, _IN_TRANSACTION, _IN_ERROR, _UNKNOWN = 0, 2, 3, 4


class Seeming:
    """
    A connection of the app's, as it would be if its transaction were its own.

    psycopg's code is run with it in the place of the connection. It yields what it wants to send.
    """

    def __init__(self, connection: Any, use: Use) -> None:
        self.__dict__.update(_connection=connection, pgconn=SeemingLink(connection, use))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)

    @property
    def _prepared(self) -> _NothingPrepared:
        return _NothingPrepared()

    def _exec_command(self, command: Any, *_: Any, **__: Any) -> Plan:
        if not isinstance(command, bytes):
            command = text_of(command).encode()
        yield Command(command)


class SeemingLink:
    """libpq's connection, likewise."""

    def __init__(self, connection: Any, use: Use) -> None:
        self._connection = connection
        self._use = use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.pgconn, name)

    @property
    def transaction_status(self) -> int:
        """As libpq tells it."""
        wire = getattr(self._connection, AT, None)
        if wire is not None:
            return int(wire.pgconn.transaction_status)
        if self._connection.closed:
            return _UNKNOWN
        # Its own is idle, or is being asked who it is.
        if not self._use.in_transaction():
            return _IDLE
        return _IN_ERROR if self._use.is_broken() else _IN_TRANSACTION


class _NothingPrepared:
    """The statements that psycopg has prepared: none are, on the wire."""

    def clear(self) -> None:
        """Nothing is there."""

    def maintain_gen(self, _: Any) -> Iterator[Any]:
        """Nothing has to be done."""
        return iter(())
