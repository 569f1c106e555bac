"""
The door of psycopg2.

It is written in C: its classes cannot be changed. So ``psycopg2.connect`` gives connections of a
subclass of the class that the caller wants, and so are their cursors (``psycopg2_cursors.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.psycopg2_cursors import asking_cursor, prepare
from atomicbatch.doors.psycopg2_kind import KIND, PSYCOPG2, plain
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.guard.watch import aside, watching

WHY = "what takes no part in a batch is refused"
# libpq's PQtransactionStatus() and psycopg2's own ``status``.
_IDLE, _IN_TRANSACTION, _IN_ERROR = 0, 2, 3
_READY, _BEGUN = 1, 2


def change_psycopg2(module: ModuleType) -> None:
    """Let psycopg2 give connections with a door; ``connect`` calls ``_connect`` by its name."""
    plain.learn()
    prepare()
    Connection.cursor = _making_cursors(plain.connection.cursor)
    Connection.commit = _ending("commit", plain.connection.commit)
    Connection.rollback = _ending("rollback", plain.connection.rollback)
    patches.change(module, "_connect", _connecting, why=WHY)


def _connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    def connect(dsn: Any, connection_factory: Any = None, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        factory = asking_connection(connection_factory)
        if watch is None:
            connection = found(dsn, factory, *args, **options)
        else:
            with aside():
                connection = found(dsn, factory, *args, **options)
            watch.opens(connection)
        give_door(connection)._atomicbatch_dsn = dsn
        return connection

    return connect


def asking_connection(factory: Any) -> Any:
    """Put ours between a class of the app's for connections and the driver's own."""
    if factory is None or isinstance(factory, type):
        return plain.in_front(Connection, plain.connection, factory)
    return factory


def give_door(connection: Any) -> Any:
    """Give a connection a door that has none, as far as that is possible; return the connection."""
    if isinstance(connection, (Connection, plain.wire)):
        return connection
    kind = type(connection)
    if kind is not plain.connection:
        connection.__class__ = asking_connection(kind)
        connection.cursor_factory = plain.cursor_factory(connection)
        return connection
    # Its class cannot be changed. Cursors that are asked for by a class of their own are not seen.
    connection.cursor_factory = asking_cursor(connection.cursor_factory)
    return connection


def _set(name: str) -> property:
    """An attribute that must not be set inside of a transaction."""

    def get(connection: Any) -> Any:
        return getattr(plain, name)(connection)

    def set_to(connection: Any, value: Any) -> None:
        use = _use_of(connection)
        if use is not None and _has_begun(connection, use):
            raise plain.error("set_session cannot be used inside a transaction")
        getattr(plain.connection, name).__set__(connection, value)
        if use is not None and name == "autocommit":
            use.set_auto(KIND.is_auto(connection))

    return property(get, set_to)


class Connection:
    """
    What is put in front of psycopg2's connections.

    Attributes:
        _atomicbatch_dsn: What it was opened by, if that is known.
        _atomicbatch_factory: What the app has set as ``cursor_factory``.
        _atomicbatch_entered: It is inside of "with connection:".
        _atomicbatch_mark: How many of its transactions have ended in batches.
        _atomicbatch_running: A statement of it runs on a batch's connection.
    """

    closed: int
    cursor: Any
    commit: Any
    rollback: Any
    _atomicbatch_dsn: Any = None
    _atomicbatch_entered = False
    _atomicbatch_factory: Any = None
    _atomicbatch_mark = 0
    _atomicbatch_running = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # By this the driver itself makes cursors with a door.
        self.cursor_factory = None

    @property
    def cursor_factory(self) -> Any:
        """The app's class of cursors, or None."""
        return self._atomicbatch_factory

    @cursor_factory.setter
    def cursor_factory(self, factory: Any) -> None:
        self._atomicbatch_factory = factory
        plain.connection.cursor_factory.__set__(self, asking_cursor(factory))

    # Its transaction -----------------------------------------------------------------------------

    def __enter__(self) -> Any:
        entered = super().__enter__()  # type: ignore[misc]
        self._atomicbatch_entered = True
        return entered

    def __exit__(self, *error: Any) -> Any:
        self._atomicbatch_entered = False
        return super().__exit__(*error)  # type: ignore[misc]  # it calls commit() or rollback()

    def close(self) -> None:
        """Close it, and roll back what is open."""
        if (use := _use_of(self)) is not None:
            use.end()
        plain.connection.close(self)

    def reset(self) -> None:
        """Roll back, and forget the settings of the session."""
        use = _use_of(self)
        if use is not None:
            self.rollback()
            KIND.forget_settings(self, use, "reset()")
        super().reset()  # type: ignore[misc]

    autocommit = _set("autocommit")
    isolation_level = _set("isolation_level")
    readonly = _set("readonly")
    deferrable = _set("deferrable")

    def set_session(self, *args: Any, **options: Any) -> None:
        """Set several of them."""
        use = _use_of(self)
        if use is not None and _has_begun(self, use):
            raise plain.error("set_session cannot be used inside a transaction")
        super().set_session(*args, **options)  # type: ignore[misc]
        if use is not None:
            use.set_auto(KIND.is_auto(self))

    def set_isolation_level(self, level: Any) -> None:
        """Roll back, and set the isolation level, or autocommit."""
        use = _use_of(self)
        if use is not None:
            self.rollback()
        super().set_isolation_level(level)  # type: ignore[misc]
        if use is not None:
            use.set_auto(KIND.is_auto(self))

    @property
    def status(self) -> int:
        """What the driver knows of its transaction."""
        use = _use_of(self)
        if use is None or self.closed:
            return int(plain.status(self))
        return _BEGUN if _has_begun(self, use) else _READY

    @property
    def info(self) -> Any:
        """What libpq knows of it."""
        use, info = _use_of(self), plain.info(self)
        return info if use is None or self.closed else Info(info, use)

    def get_transaction_status(self) -> int:
        """What libpq knows of its transaction."""
        return int(self.info.transaction_status)

    # What is elsewhere ---------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop its statement."""
        use = _use_of(self)
        if use is None:
            super().cancel()  # type: ignore[misc]
        elif self._atomicbatch_running:
            plain.connection.cancel(use.wire)

    def set_client_encoding(self, encoding: str) -> None:
        """Set how it speaks."""
        use, before = _use_of(self), self.encoding  # type: ignore[attr-defined]
        super().set_client_encoding(encoding)  # type: ignore[misc]
        if use is not None and before != self.encoding:  # type: ignore[attr-defined]
            use.refuse(
                "a handler changes the client encoding of its connection, which the batch's "
                "connections share; set it before, outside of batches"
            )

    # What a batch cannot do ----------------------------------------------------------------------

    def lobject(self, oid: int = 0, mode: str | None = None, *args: Any, **options: Any) -> Any:
        """Open a large object; without a number, make one."""
        watch = watching.get()
        if watch is not None:
            _refuse(self, "a large object (lobject()); use a column of type bytea")
            if not oid or "w" in (mode or "") or mode == "n":
                watch.writes(self, PSYCOPG2, "lobject()")
        given = (oid,) if mode is None else (oid, mode)
        return super().lobject(*given, *args, **options)  # type: ignore[misc]

    def tpc_begin(self, xid: Any) -> None:
        """Begin a transaction of two phases."""
        _refuse(self, "two-phase commit (tpc_begin()); use commit()")
        super().tpc_begin(xid)  # type: ignore[misc]

    def tpc_recover(self) -> Any:
        """List the transactions that are prepared."""
        _refuse(self, "two-phase commit (tpc_recover()); do it outside of batches")
        return super().tpc_recover()  # type: ignore[misc]

    def tpc_commit(self, *args: Any) -> None:
        """Commit one that is prepared."""
        _refuse(self, "two-phase commit (tpc_commit()); do it outside of batches")
        super().tpc_commit(*args)  # type: ignore[misc]

    def tpc_rollback(self, *args: Any) -> None:
        """Roll one back that is prepared."""
        _refuse(self, "two-phase commit (tpc_rollback()); do it outside of batches")
        super().tpc_rollback(*args)  # type: ignore[misc]


# Many pass here: what they need is at hand.


def _making_cursors(found: Callable[..., Any]) -> Callable[..., Any]:
    def cursor(self: Any, *args: Any, **options: Any) -> Any:
        """Make a cursor with a door."""
        if len(args) > 1 and args[1] is not None:
            args = (args[0], asking_cursor(args[1]), *args[2:])
        elif options and (wanted := options.get("cursor_factory")) is not None:
            options["cursor_factory"] = asking_cursor(wanted)
        return found(self, *args, **options)

    return cursor


def _ending(how: str, found: Callable[..., Any]) -> Callable[..., Any]:
    def end(self: Any) -> None:
        """Commit, or roll back."""
        if watching.get() is None or self.closed or (use := _use_of(self)) is None:
            found(self)
            return
        self._atomicbatch_mark += 1
        getattr(use, how)()

    end.__name__ = how
    return end


class Info:
    """Stands for psycopg2's ``connection.info`` in a batch."""

    def __init__(self, info: Any, use: Use) -> None:
        self._info = info
        self._use = use

    @property
    def transaction_status(self) -> int:
        """libpq's number."""
        if not self._use.in_transaction():
            return _IDLE
        return _IN_ERROR if self._use.is_broken() else _IN_TRANSACTION

    def __getattr__(self, name: str) -> Any:
        return getattr(self._info, name)


def _use_of(connection: Any) -> Use | None:
    watch = watching.get()
    return None if watch is None else use_of(watch, connection, KIND, executes=False)


def _has_begun(connection: Any, use: Use) -> bool:
    """Tell whether the driver itself, which does not read SQL, knows of a transaction."""
    return use.in_transaction() and not KIND.is_auto(connection)


def _refuse(connection: Any, what: str) -> None:
    """Refuse something where the connection takes part in a batch."""
    watch = watching.get()
    use = None if watch is None else use_of(watch, connection, KIND, executes=True)
    if use is not None:
        use.refuse(f"a handler uses {what}")
