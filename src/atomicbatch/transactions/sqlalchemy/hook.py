"""
The one door: every session of SQLAlchemy gets its connection from Engine.raw_connection().

Session, AsyncSession, Connection, SQLModel and raw_connection() itself all do. The door is changed
for all engines at once, so that those made later, in an app's lifespan for instance, have it too.
Side doors are shut: the pool's own, and connections that were taken out before the batch. Outside
of batches all that costs a look at a context variable.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.engine.characteristics import ConnectionCharacteristic
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.pool.base import ResetStyle, _ConnectionFairy
from sqlalchemy.util import immutabledict

from atomicbatch.errors import NotBatchableError
from atomicbatch.transactions.sqlalchemy.connection import VirtualConnection
from atomicbatch.transactions.sqlalchemy.joined import Call, current_call

_raw_connection = Engine.raw_connection
_pool_connect = Pool.connect
_cursor = _ConnectionFairy.cursor
_installing = threading.Lock()


def raw_connection(self: Engine) -> PoolProxiedConnection:
    """Return a connection of the pool; inside a batch, one of the batch's transaction."""
    call = current_call.get()
    if call is None or call.joined.is_outside(self.dialect):
        return _raw_connection(self)
    joined = call.joined
    if not joined.active:
        if joined.undone:
            joined.refuse_left_behind()
        return _raw_connection(self)
    _guard_characteristics(self.dialect)
    return joined.connection(self, call)


raw_connection.__doc__ = _raw_connection.__doc__


@wraps(_pool_connect)
def pool_connect(self: Pool) -> PoolProxiedConnection:
    """Inside a batch a connection of the pool itself would carry work past it."""
    call = current_call.get()
    dialect = self._dialect
    # A pool of something else, without an engine, has none.
    if call is not None and isinstance(dialect, Dialect) and not call.joined.is_outside(dialect):
        if call.joined.active:
            call.joined.refuse(
                "a handler takes a connection from the pool itself; take it from the engine"
            )
        if call.joined.undone:
            call.joined.refuse_left_behind()
    return _pool_connect(self)


@wraps(_cursor)
def cursor(self: _ConnectionFairy, *args: Any, **kwargs: Any) -> Any:
    call = current_call.get()
    if call is not None:
        _refuse_older(self, call)
    return _cursor(self, *args, **kwargs)


def commit(self: _ConnectionFairy) -> None:
    # It has none of its own, but passes it on to the driver's connection.
    call = current_call.get()
    # Where the pool itself commits, it does so when a connection comes back, whenever that is.
    if call is not None and self._pool._reset_on_return is not ResetStyle.reset_commit:
        try:
            _refuse_older(self, call)
        except NotBatchableError:
            # SQLAlchemy takes the transaction for ended, and the next one to get the connection
            # would commit what is still open.
            self.dbapi_connection.rollback()
            raise
    self.dbapi_connection.commit()


def _refuse_older(fairy: _ConnectionFairy, call: Call) -> None:
    """A session that was opened before the batch would carry its work past it."""
    joined = call.joined
    if not joined.active or any(fairy is own for own in joined.fairies):
        return
    if not joined.is_outside(fairy._pool._dialect):  # type: ignore[arg-type]
        joined.refuse(
            "a handler uses a session or connection that was opened before the batch; open it "
            "within the call"
        )


# What is changed of SQLAlchemy: where, and by what.
_CHANGES: tuple[tuple[type, str, Any, Any], ...] = (
    (Engine, "raw_connection", _raw_connection, raw_connection),
    (Pool, "connect", _pool_connect, pool_connect),
    (_ConnectionFairy, "cursor", _cursor, cursor),
    (_ConnectionFairy, "commit", None, commit),
)


def install() -> None:
    """Change the doors; again does nothing."""
    with _installing:
        for owner, name, _, changed in _CHANGES:
            setattr(owner, name, changed)


def uninstall() -> None:
    """Put the doors back as they were."""
    with _installing:
        for owner, name, original, _ in _CHANGES:
            if original is not None:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)


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
