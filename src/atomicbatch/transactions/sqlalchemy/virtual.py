"""What a session gets instead of a connection of the pool: commit() and rollback() are virtual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

from atomicbatch.transactions.sqlalchemy.attributes import CHANGING, HARMLESS, OF_CURSORS
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout
from atomicbatch.transactions.sqlalchemy.own import OwnConnection

_set = object.__setattr__


class VirtualConnection:
    """A driver's connection (PEP 249) as a session sees it."""

    __slots__ = ("_checkout",)

    _checkout: SessionCheckout

    def __init__(self, checkout: SessionCheckout) -> None:
        _set(self, "_checkout", checkout)

    def cursor(self, *args: Any, **kwargs: Any) -> VirtualCursor:
        return VirtualCursor(self._checkout, *self._checkout.cursor(args, kwargs))

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """A shortcut that sqlite3 and psycopg have."""
        cursor = self.cursor()
        cursor.execute(operation, *args, **kwargs)
        return cursor

    def executemany(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = self.cursor()
        cursor.executemany(operation, *args, **kwargs)
        return cursor

    def commit(self) -> None:
        self._checkout.commit()

    def rollback(self) -> None:
        self._checkout.rollback()

    def close(self) -> None:
        self._checkout.close()

    def __enter__(self) -> VirtualConnection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        (self.commit if kind is None else self.rollback)()

    @property
    def driver_connection(self) -> OwnConnection:
        """What SQLAlchemy's adapters of async drivers have."""
        if not self._checkout.real.dialect.is_async:
            raise AttributeError("driver_connection")
        return OwnConnection(self._checkout)

    _connection = driver_connection

    def run_async(self, fn: Callable[[Any], Any]) -> Any:
        """Await what a function makes of the driver's own connection (AdaptedConnection)."""
        return await_only(fn(self.driver_connection))

    def __getattr__(self, name: str) -> Any:
        if name == "autocommit":
            return self._checkout.autocommit()
        if name == "get_autocommit":
            return self._get_autocommit
        if name in ("set_isolation_level", "set_autocommit", "set_read_only"):
            return self._setter(name.removeprefix("set_"))
        if name == "set_deferrable":
            return _nothing
        if name == "isolation_level":
            return self._checkout.isolation_level()
        if name == "in_transaction":
            return self._checkout.in_transaction()
        if name in CHANGING:
            self._checkout.refuse_change(name)
        return self._checkout.attribute(name, harmless=name in HARMLESS, kept=name in OF_CURSORS)

    def _get_autocommit(self) -> bool:
        return self._checkout.checkout.auto

    def _setter(self, name: str) -> Callable[[Any], None]:
        return lambda value: setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit":
            self._checkout.set_auto(value)
        elif name == "isolation_level":
            self._checkout.set_isolation_level(value)
        elif name in ("read_only", "readonly"):
            self._checkout.set_read_only(bool(value))
        elif name == "deferrable":
            pass
        else:
            self._checkout.set_attribute(name, value, kept=name in OF_CURSORS)


def _nothing(_: object) -> None:
    pass


class VirtualCursor:
    """A driver's cursor whose statements pass the gate of the batch's transaction."""

    __slots__ = ("_checkout", "_cursor", "_streams")
    # For ``doors/sqlalchemy.py``.
    is_of_batch = True

    _checkout: SessionCheckout
    _cursor: Any
    _streams: bool

    def __init__(self, checkout: SessionCheckout, cursor: Any, streams: bool) -> None:
        _set(self, "_checkout", checkout)
        _set(self, "_cursor", cursor)
        _set(self, "_streams", streams)

    # What SQLAlchemy asks of each; what a driver's cursor lacks, __getattr__ tells.
    description = property(attrgetter("_cursor.description"))
    rowcount = property(attrgetter("_cursor.rowcount"))
    lastrowid = property(attrgetter("_cursor.lastrowid"))

    @property
    def connection(self) -> VirtualConnection:
        return VirtualConnection(self._checkout)

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = self._cursor
        result = self._checkout.perform(cursor.execute, operation, args, kwargs)
        return self if result is cursor else result

    def executemany(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = self._cursor
        result = self._checkout.perform(cursor.executemany, operation, args, kwargs)
        return self if result is cursor else result

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        def call(_: str) -> Any:
            return self._cursor.callproc(*args, **kwargs)

        return self._checkout.perform(call, "CALL procedure", (), {})

    def executescript(self, *_: object) -> None:
        self._checkout.refuse("a handler uses executescript(), which commits first; use execute()")

    def stream(self, *_: object, **__: object) -> None:
        self._checkout.refuse(
            "a handler uses stream(), during which the connection takes no other statement; "
            "use a server-side cursor"
        )

    def fetchone(self) -> Any:
        return self._fetch(self._cursor.fetchone)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        return self._fetch(self._cursor.fetchmany, *args, **kwargs)

    def fetchall(self) -> Any:
        return self._fetch(self._cursor.fetchall)

    def nextset(self, *args: Any, **kwargs: Any) -> Any:
        return self._checkout.next_set(self._cursor.nextset, args, kwargs)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        return self._checkout.close_cursor(self._cursor.close, args, kwargs)

    def _fetch(self, fetch: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Rows that are still in the server are fetched by a statement.
        if self._streams:
            return self._checkout.fetch(fetch, args, kwargs)
        return fetch(*args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def __next__(self) -> Any:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def __enter__(self) -> VirtualCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("copy"):
            self._checkout.before_copy()
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)


class _Record:
    """A pool's record of a connection, as SQLAlchemy and the hooks of pools use it."""

    __slots__ = ("_checkout", "_fairy", "dbapi_connection", "finalize_callback")

    # Later than any "invalidated at": a virtual connection says nothing about the pool.
    starttime = float("inf")
    in_use = True

    def __init__(
        self, checkout: SessionCheckout, fairy: PoolProxiedConnection, connection: VirtualConnection
    ) -> None:
        self._checkout = checkout
        self._fairy = fairy
        self.dbapi_connection = connection
        self.finalize_callback: list[Callable[[Any], None]] = []

    @property
    def connection(self) -> VirtualConnection:
        return self.dbapi_connection

    @property
    def driver_connection(self) -> Any:
        return _own(self._checkout, self.dbapi_connection)

    @property
    def info(self) -> Any:
        return self._fairy.info

    @property
    def record_info(self) -> Any:
        return self._fairy.record_info

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        if not soft:
            self._checkout.mark_lost(e)


def _own(checkout: SessionCheckout, connection: VirtualConnection) -> Any:
    """The driver's own connection; for sync drivers it is the same as ``dbapi_connection``."""
    return OwnConnection(checkout) if checkout.real.dialect.is_async else connection


class ProxiedConnection(PoolProxiedConnection):
    """
    A virtual connection in the shape of a connection checked out of a pool.

    Most sessions want cursors of it, and no more: the rest is made when it is asked for.
    """

    __slots__ = ("_checkout", "_fairy", "_is_valid", "_record", "_virtual")

    def __init__(self, checkout: SessionCheckout, fairy: PoolProxiedConnection) -> None:
        self._checkout = checkout
        self._fairy = fairy
        self._is_valid = True
        self._virtual: VirtualConnection | None = None
        self._record: _Record | None = None

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]
        if self._virtual is None and self._is_valid:
            self._virtual = VirtualConnection(self._checkout)
        return self._virtual

    @property
    def _connection_record(self) -> _Record:
        if self._record is None:
            self._record = _Record(self._checkout, self._fairy, self.dbapi_connection)
        return self._record

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        return _own(self._checkout, self.dbapi_connection)

    connection = driver_connection

    @property
    def info(self) -> Any:
        return self._connection_record.info

    @property
    def record_info(self) -> Any:
        return self._connection_record.record_info

    @property
    def is_valid(self) -> bool:
        return self._is_valid

    @property
    def is_detached(self) -> bool:
        return False

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return VirtualCursor(self._checkout, *self._checkout.cursor(args, kwargs))

    def commit(self) -> None:
        self._checkout.commit()

    def rollback(self) -> None:
        self._checkout.rollback()

    def close(self) -> None:
        try:
            callbacks = self._record and self._record.finalize_callback
            while callbacks:
                callbacks.pop(0)(self.dbapi_connection)
        finally:
            self._checkout.close()

    def _close_special(self, transaction_reset: bool = False) -> None:  # noqa: ARG002
        self.close()

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """SQLAlchemy says so after a connection was lost, or a statement cancelled."""
        if self._is_valid and not soft:
            self._checkout.mark_lost(e)
            self._is_valid, self._virtual = False, None

    def detach(self) -> None:
        self._checkout.refuse(
            "a handler detaches its connection from the pool; leave it in the pool"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dbapi_connection, name)
