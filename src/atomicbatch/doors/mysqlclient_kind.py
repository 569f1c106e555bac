"""mysqlclient: what a batch has to know of its connections, and how its own is opened."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from atomicbatch.drivers import mysqlclient
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver
from atomicbatch.sql.kinds import Family

# Of MySQLdb.connect(), in their order.
_PARAMETERS = ("host", "user", "password", "database", "port", "unix_socket")
# "Transaction characteristics can't be changed while a transaction is in progress".
_IN_PROGRESS = 1568


class Origin:
    """
    What a connection was opened by.

    Args:
        args: Those of ``MySQLdb.connect()``.
        options: Likewise, by name.
    """

    def __init__(self, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        # They have had other names.
        named = {"db": "database", "passwd": "password"}
        self.options = dict(zip(_PARAMETERS, args, strict=False))
        self.options.update({named.get(name, name): value for name, value in options.items()})

    def place(self) -> Place | None:
        """Name the database; None: a file of options tells, which we do not read."""
        options = self.options
        if "read_default_file" in options:
            return None
        host = options.get("unix_socket") or options.get("host")
        return of_server("mysql", host, options.get("port"), options.get("database"))


def _place(connection: Any) -> Place | None:
    origin: Origin | None = vars(connection).get("_atomicbatch_origin")
    return None if origin is None else origin.place()


def flags_of(connection: Any) -> int:
    """Tell what ``client_flag`` a connection was opened with, which the driver does not."""
    origin: Origin | None = vars(connection).get("_atomicbatch_origin")
    return 0 if origin is None else int(origin.options.get("client_flag") or 0)


MYSQLCLIENT = Driver("MySQLdb", Family.MYSQL, _place)


class Plain:
    """
    mysqlclient's own class of connections, past our doors; filled in once it is imported.

    Attributes:
        base: ``MySQLdb.connections.Connection``.
        connection: Its base, which is written in C.
        wire: Our class for the batch's own connections, which has no doors.
        error: ``MySQLdb.Error``.
    """

    base: Any
    connection: Any
    wire: Any
    error: Any

    def learn(self, connections: Any) -> None:
        """Take what is wanted from ``MySQLdb.connections``, which has just been imported."""
        self.base = connections.Connection
        self.connection = sys.modules["MySQLdb._mysql"].connection
        self.error = connections.Error
        methods = ("query", "close", "commit", "rollback", "autocommit", "select_db", "change_user")
        own = {name: getattr(self.connection, name) for name in methods}
        self.wire = type("Connection", (connections.Connection,), own)


plain: Final = Plain()


class MysqlclientKind:
    """See :class:`~atomicbatch.doors.server_uses.Kind`."""

    named: Driver = MYSQLCLIENT
    driver: SyncDriver | AsyncDriver = mysqlclient
    is_async: bool = False

    def state(self, connection: Any) -> State:
        # The driver does not tell what it knows: the server is asked, if anything was sent to it.
        if not connection.open:
            return State.UNKNOWN
        if not getattr(connection, "_atomicbatch_sent", True):
            return State.IDLE
        if _is_in_transaction(connection):
            return State.OPEN
        connection._atomicbatch_sent = False
        return State.IDLE

    def is_auto(self, connection: Any) -> bool:
        return bool(connection.open) and bool(connection.get_autocommit())

    def level(self, connection: Any) -> str:  # noqa: ARG002 - it is set by SQL only
        return ""

    def is_read_only(self, connection: Any) -> bool:  # noqa: ARG002
        return False

    def ask(self, connection: Any, text: str) -> Any:
        value = _ask(connection, text)
        # What names no table begins no transaction.
        if " from " in text.lower() and not self.is_auto(connection):
            plain.connection.rollback(connection)
        return value

    def open(self, connection: Any) -> Any:
        origin: Origin = connection._atomicbatch_origin
        options = {**origin.options, "autocommit": True}
        for name in ("cursorclass", "conv", "use_unicode"):
            options.pop(name, None)
        wire = plain.wire(**options)
        wire._atomicbatch_origin = origin
        # Of the batch's own it is known: another thread may be using it, and it may not be asked.
        wanted = getattr(connection, "_atomicbatch_characters", "")
        wanted = wanted or connection.character_set_name()
        if wire.character_set_name() != wanted:
            wire.set_character_set(wanted)
        wire._atomicbatch_characters = wanted
        return wire

    def adopt(self, wire: Any) -> None:
        plain.connection.rollback(wire)
        plain.connection.autocommit(wire, True)

    def close(self, wire: Any) -> None:
        with suppress(Exception):
            plain.connection.close(wire)


KIND: Final = MysqlclientKind()


def _ask(connection: Any, text: str) -> Any:
    plain.connection.query(connection, text.encode())
    rows = plain.connection.store_result(connection).fetch_row(0)
    return rows[0][0] if rows else None


def _is_in_transaction(connection: Any) -> bool:
    if "MariaDB" in connection.get_server_info():
        return bool(int(_ask(connection, "SELECT @@in_transaction")))
    # MySQL has no such variable. It refuses this in a transaction; elsewhere it says what is so.
    try:
        plain.connection.query(connection, b"SET TRANSACTION READ WRITE")
    except plain.error as error:
        if error.args[0] != _IN_PROGRESS:
            raise
        return True
    return False
