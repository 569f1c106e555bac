"""psycopg2: what a batch has to know of its connections, and how its own is opened."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from atomicbatch.doors.server_uses import Use
from atomicbatch.drivers import psycopg2
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.pep249 import first_column
from atomicbatch.drivers.postgresql import state_of
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, aside
from atomicbatch.sql.kinds import Family

# psycopg2's numbers for isolation levels; None: the server's own.
_LEVELS = {
    1: "READ COMMITTED",
    2: "REPEATABLE READ",
    3: "SERIALIZABLE",
    4: "READ UNCOMMITTED",
}

_SETTINGS = "SELECT count(*) FROM pg_settings WHERE source = 'session'"


def _place(connection: Any) -> Place | None:
    info = plain.info(connection)
    return of_server("postgresql", info.host, info.port, info.dbname)


PSYCOPG2 = Driver("psycopg2", Family.POSTGRESQL, _place)


class Plain:
    """
    psycopg2's own classes and what they have, past our doors; filled in once it is imported.

    Attributes:
        connection: The class of its connections.
        cursor: The class of its cursors.
        wire: Our class for the batch's own connections, which has no doors.
        our_cursor: Likewise for cursors of our own.
        execute: Of cursors.
        info, autocommit, isolation_level, readonly, deferrable, status, cursor_factory: Each reads
            an attribute of a connection.
        error: ``psycopg2.ProgrammingError``.
        quote: Writes a name into SQL, given a connection.
    """

    connection: Any
    cursor: Any
    wire: Any
    our_cursor: Any
    execute: Any
    info: Any
    autocommit: Any
    isolation_level: Any
    readonly: Any
    deferrable: Any
    status: Any
    cursor_factory: Any
    error: Any
    quote: Any

    def learn(self) -> None:
        """Take what is wanted from psycopg2, which has just been imported."""
        extensions = sys.modules["psycopg2.extensions"]
        self.connection, self.cursor = extensions.connection, extensions.cursor
        self.wire = type("connection", (extensions.connection,), {})
        self.our_cursor = type("cursor", (extensions.cursor,), {})
        self.execute = extensions.cursor.execute
        self.error = sys.modules["psycopg2"].ProgrammingError
        self.quote = extensions.quote_ident
        for name in (
            *("info", "autocommit", "isolation_level", "readonly", "deferrable", "status"),
            "cursor_factory",
        ):
            setattr(self, name, vars(extensions.connection)[name].__get__)

    def in_front(self, ours: type, base: type, factory: type | None = None) -> Any:
        """
        Put a class of ours between a class of the app's and the driver's own.

        Args:
            ours: What is put in front of the driver's own.
            base: The driver's own.
            factory: The app's; None: the driver's own.
        """
        factory = factory or base
        if issubclass(factory, ours):
            return factory
        return _in_front(ours, base, factory)  # type: ignore[arg-type]  # it is hashable


@lru_cache(maxsize=1024)
def _in_front(ours: type, base: type, factory: type) -> type:
    bases = (ours, base) if factory is base else (factory, _in_front(ours, base, base))
    names = {"__module__": factory.__module__, "__qualname__": factory.__qualname__}
    return type(factory.__name__, bases, names)


plain: Final = Plain()


class Psycopg2Kind:
    """See :class:`~atomicbatch.doors.server_uses.Kind`."""

    named: Driver = PSYCOPG2
    driver: SyncDriver | AsyncDriver = psycopg2
    is_async: bool = False

    def state(self, connection: Any) -> State:
        return state_of(plain.connection.get_transaction_status(connection))

    def is_closed(self, wire: Any) -> bool:
        """Tell whether the driver has closed the batch's own connection, since it was lost."""
        return bool(wire.closed)

    def is_auto(self, connection: Any) -> bool:
        # Inside of "with connection:" it begins transactions all the same.
        return plain.autocommit(connection) and not getattr(
            connection, "_atomicbatch_entered", False
        )

    def level(self, connection: Any) -> str:
        return _LEVELS.get(plain.isolation_level(connection), "")

    def is_read_only(self, connection: Any) -> bool:
        return plain.readonly(connection) is True

    def ask(self, connection: Any, text: str) -> Any:
        if self.is_auto(connection):
            return _ask(connection, text)
        if getattr(connection, "_atomicbatch_entered", False):
            try:
                return _ask(connection, text)
            finally:
                with suppress(Exception):  # it is lost: then that has been raised
                    plain.connection.rollback(connection)
        return _ask_in_autocommit(connection, text)

    def forget_settings(self, connection: Any, use: Use, what: str) -> None:
        """
        Refuse what forgets the settings of a session, if it has any: the batch's is shared.

        Args:
            connection: The app's.
            use: What stands for it.
            what: Forgets them: ``reset()``.
        """
        with aside():
            has_some = bool(int(self.ask(connection, _SETTINGS)))
        if has_some:
            use.refuse(
                f"a handler resets a connection that has settings of its own ({what}); in a batch "
                f"it shares one with others, so let it roll back there"
            )

    def open(self, connection: Any) -> Any:
        dsn = getattr(connection, "_atomicbatch_dsn", None)
        if dsn is None:
            info = plain.info(connection)
            make_dsn = sys.modules["psycopg2.extensions"].make_dsn
            dsn = make_dsn(**{**info.dsn_parameters, "password": info.password or None})
        wire = plain.wire(dsn)
        wire._atomicbatch_dsn = dsn
        self.adopt(wire)
        if wire.encoding != connection.encoding:
            wire.set_client_encoding(connection.encoding)
        return wire

    def adopt(self, wire: Any) -> None:
        plain.connection.rollback(wire)  # nothing, where none is open
        _set_auto(wire, True)

    def close(self, wire: Any) -> None:
        with suppress(Exception):
            plain.connection.close(wire)


KIND: Final = Psycopg2Kind()


def _set_auto(connection: Any, on: bool) -> None:
    plain.connection.autocommit.__set__(connection, on)


def _ask_in_autocommit(connection: Any, text: str) -> Any:
    """
    Run a query outside of a transaction: one would take two more round trips.

    Nothing is sent for the switch, as long as there is nothing that a transaction is to have.
    """
    of_transactions = ("isolation_level", "readonly", "deferrable")
    found = {name: getattr(plain, name)(connection) for name in of_transactions}
    for name in found:
        getattr(plain.connection, name).__set__(connection, None)
    try:
        _set_auto(connection, True)
        return _ask(connection, text)
    finally:
        with suppress(Exception):  # it is lost: then that has been raised
            _set_auto(connection, False)
            for name, value in found.items():
                getattr(plain.connection, name).__set__(connection, value)


def _ask(connection: Any, text: str) -> Any:
    cursor = plain.our_cursor(connection)
    cursor.execute(text)
    value = first_column(cursor.fetchone())
    cursor.close()
    return value
