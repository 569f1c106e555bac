"""What a session gets instead of a connection of the pool: commit() and rollback() are virtual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import PoolProxiedConnection

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.lease import Lease

_set = object.__setattr__
# Methods of drivers' connections that would reach the real transaction.
_REFUSED = {
    "begin": "begins a transaction by the driver's begin()",
    "executescript": "uses executescript(), which commits first",
    "tpc_begin": "uses two-phase commit",
    "tpc_commit": "uses two-phase commit",
    "tpc_prepare": "uses two-phase commit",
    "tpc_rollback": "uses two-phase commit",
    "xid": "uses two-phase commit",
    "reset": "resets its connection",
    "select_db": "changes the connection's database",
    "set_session": "changes the connection's session",
}


class VirtualConnection:
    """A driver's connection (PEP 249) as a session sees it."""

    __slots__ = ("_lease",)

    _lease: Lease

    def __init__(self, lease: Lease) -> None:
        _set(self, "_lease", lease)

    def cursor(self, *args: Any, **kwargs: Any) -> VirtualCursor:
        return self._lease.cursor(args, kwargs)

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
        self._lease.commit()

    def rollback(self) -> None:
        self._lease.rollback()

    def close(self) -> None:
        self._lease.close()

    def __enter__(self) -> VirtualConnection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        (self.commit if kind is None else self.rollback)()

    def __getattr__(self, name: str) -> Any:
        if name in _REFUSED:
            self._lease.refuse(f"a handler {_REFUSED[name]}; use an ordinary transaction")
        if name == "set_isolation_level":
            return self._set_isolation_level
        if name == "autocommit":
            return self._lease.autocommit()
        return self._lease.attribute(name)

    def _set_isolation_level(self, level: object) -> None:
        # psycopg2: 0 is ISOLATION_LEVEL_AUTOCOMMIT.
        self._lease.auto = level in (0, "AUTOCOMMIT", "autocommit")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "autocommit":
            self._lease.auto = bool(value)
        elif name == "isolation_level":
            self._lease.auto = value is None
        else:
            self._lease.set_attribute(name, value)


class VirtualCursor:
    """A driver's cursor whose statements pass the gate of the batch's transaction."""

    __slots__ = ("_cursor", "_lease", "_streams")

    _lease: Lease
    _cursor: Any
    _streams: bool

    def __init__(self, lease: Lease, cursor: Any, streams: bool) -> None:
        _set(self, "_lease", lease)
        _set(self, "_cursor", cursor)
        _set(self, "_streams", streams)

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = self._cursor
        result = self._lease.perform(cursor.execute, operation, args, kwargs)
        return self if result is cursor else result

    def executemany(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = self._cursor
        result = self._lease.perform(cursor.executemany, operation, args, kwargs)
        return self if result is cursor else result

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        def call(_: str) -> Any:
            return self._cursor.callproc(*args, **kwargs)

        return self._lease.perform(call, "CALL procedure", (), {})

    def executescript(self, *_: object) -> None:
        self._lease.refuse(f"a handler {_REFUSED['executescript']}; use execute()")

    def fetchone(self) -> Any:
        return self._fetch(self._cursor.fetchone)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        return self._fetch(self._cursor.fetchmany, *args, **kwargs)

    def fetchall(self) -> Any:
        return self._fetch(self._cursor.fetchall)

    def _fetch(self, fetch: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Rows that are still in the server are fetched by a statement.
        if self._streams:
            return self._lease.fetch(fetch, args, kwargs)
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
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("copy"):
            self._lease.used_raw()
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)


class _Record:
    """The little of a pool's record of a connection that SQLAlchemy asks for."""

    __slots__ = ("_fairy", "finalize_callback")

    # Later than any "invalidated at": a virtual connection says nothing about the pool.
    starttime = float("inf")

    def __init__(self, fairy: PoolProxiedConnection) -> None:
        self._fairy = fairy
        self.finalize_callback: list[Callable[[Any], None]] = []

    @property
    def info(self) -> Any:
        return self._fairy.info

    @property
    def record_info(self) -> Any:
        return self._fairy.record_info


class ProxiedConnection(PoolProxiedConnection):
    """A virtual connection in the shape of a connection checked out of a pool."""

    __slots__ = ("_connection_record", "_fairy", "_lease", "dbapi_connection")

    def __init__(self, lease: Lease, fairy: PoolProxiedConnection) -> None:
        self._lease = lease
        self._fairy = fairy
        self._connection_record: Any = _Record(fairy)
        self.dbapi_connection: Any = VirtualConnection(lease)

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        self._lease.used_raw()
        return self._fairy.driver_connection

    @property
    def info(self) -> Any:
        return self._connection_record.info

    @property
    def record_info(self) -> Any:
        return self._connection_record.record_info

    @property
    def is_valid(self) -> bool:
        return self.dbapi_connection is not None

    @property
    def is_detached(self) -> bool:
        return False

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return self._lease.cursor(args, kwargs)

    def commit(self) -> None:
        self._lease.commit()

    def rollback(self) -> None:
        self._lease.rollback()

    def close(self) -> None:
        callbacks = self._connection_record.finalize_callback
        try:
            while callbacks:
                callbacks.pop(0)(self.dbapi_connection)
        finally:
            self._lease.close()

    def _close_special(self, transaction_reset: bool = False) -> None:  # noqa: ARG002
        self.close()

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """SQLAlchemy says so after a connection was lost, or a statement cancelled."""
        if self.dbapi_connection is not None and not soft:
            self._lease.lose(e)
            self.dbapi_connection = None

    def detach(self) -> None:
        self._lease.refuse("a handler detaches its connection from the pool; leave it in the pool")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dbapi_connection, name)
