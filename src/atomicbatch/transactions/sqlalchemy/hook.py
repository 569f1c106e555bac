"""
The one door: every session of SQLAlchemy gets its connection from Engine.raw_connection().

Session, AsyncSession, Connection, SQLModel and raw_connection() itself all do. The door is changed
for all engines at once, so that those made later, in an app's lifespan for instance, have it too.
Outside of batches it costs one look at a context variable.
"""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.characteristics import ConnectionCharacteristic
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import immutabledict

from atomicbatch.transactions.sqlalchemy.connection import VirtualConnection, VirtualCursor
from atomicbatch.transactions.sqlalchemy.joined import current_call

_raw_connection = Engine.raw_connection
_installing = threading.Lock()


def raw_connection(self: Engine) -> PoolProxiedConnection:
    """Return a connection of the pool; inside a batch, one of the batch's transaction."""
    call = current_call.get()
    if call is None or not call.joined.active or call.joined.is_outside(self):
        return _raw_connection(self)
    _guard_characteristics(self.dialect)
    return call.joined.connection(self, call)


raw_connection.__doc__ = _raw_connection.__doc__


def install() -> None:
    """Change the door; again does nothing."""
    with _installing:
        if Engine.raw_connection is not raw_connection:
            Engine.raw_connection = raw_connection  # type: ignore[method-assign]
            event.listen(Engine, "before_cursor_execute", _refuse_older_connections)


def uninstall() -> None:
    """Put the door back as it was."""
    with _installing:
        if Engine.raw_connection is raw_connection:
            Engine.raw_connection = _raw_connection  # type: ignore[method-assign]
            event.remove(Engine, "before_cursor_execute", _refuse_older_connections)


def _refuse_older_connections(connection: Connection, cursor: Any, *_: object) -> None:
    """A session that was opened before the batch would carry its work past it."""
    call = current_call.get()
    if call is None or type(cursor) is VirtualCursor:
        return
    joined = call.joined
    if joined.active and not joined.is_outside(connection.engine):
        joined.refuse(
            "a handler uses a session or connection that was opened before the batch; open it "
            "within the call"
        )


class _Guarded(ConnectionCharacteristic):
    """An option of connections (the isolation level, say) that stops at virtual ones."""

    __slots__ = ("_name", "_original")

    def __init__(self, name: str, original: ConnectionCharacteristic) -> None:
        self._name = name
        self._original = original

    @property
    def transactional(self) -> bool:  # type: ignore[override]
        return self._original.transactional

    def set_connection_characteristic(
        self, dialect: Dialect, conn: Connection, dbapi_conn: Any, value: Any
    ) -> None:
        if isinstance(dbapi_conn, VirtualConnection):
            self.set_characteristic(dialect, dbapi_conn, value)
        else:
            self._original.set_connection_characteristic(dialect, conn, dbapi_conn, value)

    def set_characteristic(self, dialect: Dialect, dbapi_conn: Any, value: Any) -> None:
        if isinstance(dbapi_conn, VirtualConnection):
            dbapi_conn._lease.set_characteristic(self._name, value)
        else:
            self._original.set_characteristic(dialect, dbapi_conn, value)

    def reset_characteristic(self, dialect: Dialect, dbapi_conn: Any) -> None:
        if not isinstance(dbapi_conn, VirtualConnection):
            self._original.reset_characteristic(dialect, dbapi_conn)

    def get_characteristic(self, dialect: Dialect, dbapi_conn: Any) -> Any:
        return self._original.get_characteristic(dialect, dbapi_conn)


def _guard_characteristics(dialect: Dialect) -> None:
    if getattr(dialect, "_atomicbatch_guarded", False):
        return
    known: Any = dialect
    characteristics = known.connection_characteristics
    known.connection_characteristics = immutabledict(
        {
            name: _Guarded(name, one) if one.transactional else one
            for name, one in characteristics.items()
        }
    )
    known._atomicbatch_guarded = True
