"""
The one door: every session of SQLAlchemy gets its connection from Engine.raw_connection().

Session, AsyncSession, Connection, SQLModel and raw_connection() itself all do. The door is changed
for all engines at once, so that those made later, in an app's lifespan for instance, have it too.
Side doors are shut: the pool's own, and connections that were taken out before the batch. Outside
of batches all that costs a look at a context variable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.engine.characteristics import ConnectionCharacteristic
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.pool.base import ResetStyle, _ConnectionFairy
from sqlalchemy.util import immutabledict

from atomicbatch import patches
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard import aside, let_pass
from atomicbatch.join.status import Phase
from atomicbatch.transactions.sqlalchemy.attempt import Call, current_call
from atomicbatch.transactions.sqlalchemy.virtual import VirtualConnection

_WHY = "sessions inside a batch work in its transaction"


def install() -> None:
    """Change the doors; again does nothing."""
    patches.change(Engine, "raw_connection", _raw_connection, why=_WHY)
    patches.change(Pool, "connect", _pool_connect, why=_WHY)
    patches.change(_ConnectionFairy, "cursor", _cursor, why=_WHY)
    patches.change(_ConnectionFairy, "commit", _commit, why=_WHY)


def uninstall() -> None:
    """Put the doors back as they were."""
    patches.undo(_WHY)


def _raw_connection(
    found: Callable[[Engine], PoolProxiedConnection],
) -> Callable[[Engine], PoolProxiedConnection]:
    def raw_connection(self: Engine) -> PoolProxiedConnection:
        """Return a connection of the pool; inside a batch, one of the batch's transaction."""
        call = current_call.get()
        if call is None:
            return found(self)
        attempt, dialect = call.attempt, self.dialect
        if attempt.is_outside(dialect):
            with aside():
                fairy = found(self)
            attempt.leave_alone(fairy)
            return fairy
        if not attempt.active:
            if attempt.phase is Phase.UNDONE:
                attempt.refuse_left_behind()
            return found(self)
        if attempt.leaves_to_door(self):
            return found(self)
        if not getattr(dialect, "_atomicbatch_guarded", False):
            _guard_characteristics(dialect)
        call.check_thread()
        return attempt.connection(self, call)

    return raw_connection


def _pool_connect(
    found: Callable[[Pool], PoolProxiedConnection],
) -> Callable[[Pool], PoolProxiedConnection]:
    def connect(self: Pool) -> PoolProxiedConnection:
        """Inside a batch a connection of the pool itself would carry work past it."""
        call = current_call.get()
        dialect = self._dialect
        # A pool of something else, without an engine, has none.
        if (
            call is not None
            and isinstance(dialect, Dialect)
            and not call.attempt.is_outside(dialect)
            and not call.attempt.leaves_older_to_door(dialect)
        ):
            if call.attempt.active:
                call.attempt.refuse(
                    "a handler takes a connection from the pool itself; take it from the engine"
                )
            if call.attempt.phase is Phase.UNDONE:
                call.attempt.refuse_left_behind()
        return found(self)

    return connect


def _cursor(found: Callable[..., Any]) -> Callable[..., Any]:
    def cursor(self: _ConnectionFairy, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is not None:
            _refuse_older(self, call)
        return found(self, *args, **kwargs)

    return cursor


def _commit(
    found: Callable[[_ConnectionFairy], None] | None,
) -> Callable[[_ConnectionFairy], None]:
    def commit(self: _ConnectionFairy) -> None:
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
        if found is not None:
            found(self)
        else:
            # It has none of its own, but passes it on to the driver's connection.
            self.dbapi_connection.commit()

    return commit


def _refuse_older(fairy: _ConnectionFairy, call: Call) -> None:
    """A session that was opened before the batch would carry its work past it."""
    attempt = call.attempt
    dialect: Any = fairy._pool._dialect
    if attempt.is_outside(dialect):
        let_pass(fairy.driver_connection)
        attempt.leave_alone(fairy)
        return
    if attempt.leaves_older_to_door(dialect):
        return
    if not attempt.active or any(fairy is own for own in attempt.fairies):
        return
    attempt.refuse(
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
            dbapi_conn._checkout.set_characteristic(self._name, value)
        else:
            self._original.set_characteristic(dialect, dbapi_conn, value)

    def reset_characteristic(self, dialect: Dialect, dbapi_conn: Any) -> None:
        if not isinstance(dbapi_conn, VirtualConnection):
            self._original.reset_characteristic(dialect, dbapi_conn)

    def get_characteristic(self, dialect: Dialect, dbapi_conn: Any) -> Any:
        return self._original.get_characteristic(dialect, dbapi_conn)


def _guard_characteristics(dialect: Dialect) -> None:
    known: Any = dialect
    characteristics = known.connection_characteristics
    known.connection_characteristics = immutabledict(
        {
            name: _Guarded(name, one) if one.transactional else one
            for name, one in characteristics.items()
        }
    )
    known._atomicbatch_guarded = True
