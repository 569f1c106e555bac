"""One session's use of the real connection: its statements, and what it takes for a transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.exc import MissingGreenlet

from atomicbatch.errors import NotBatchableError, TransactionError
from atomicbatch.join.stack import Virtual
from atomicbatch.sql.lexing import text_of
from atomicbatch.sql.statements import Family, Kind, Statement, read_statement
from atomicbatch.transactions.sqlalchemy.connection import VirtualCursor
from atomicbatch.transactions.sqlalchemy.drivers import buffered, value_of
from atomicbatch.transactions.sqlalchemy.settings import OwnSettings

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.real import RealTransaction

OVER = "the batch that this connection belonged to is over"
# psycopg2.extensions.ISOLATION_LEVEL_*; None is 5: as the server has it.
_PSYCOPG2_LEVELS = {
    0: "AUTOCOMMIT", 1: "READ COMMITTED", 2: "REPEATABLE READ", 3: "SERIALIZABLE",
    4: "READ UNCOMMITTED", 5: "",
}  # fmt: skip
_PLAINLY: AbstractContextManager[None] = nullcontext()
_CHANGES_DATA = (Kind.READ, Kind.HOLD, Kind.WRITE)


class Lease:
    """
    One session's use of the real connection.

    Attributes:
        virtual: Its open transaction, or None.
        auto: Each statement commits by itself (AUTOCOMMIT), except after an explicit BEGIN.
        closed: It was closed, or its call is over.
        needs_closing: It has something open that its end has to undo.
    """

    __slots__ = (
        "_attributes",
        "_by_savepoint",
        "_explicit",
        "_read_only",
        "_read_only_transaction",
        "_real",
        "_settings",
        "auto",
        "closed",
        "virtual",
    )  # fmt: skip

    def __init__(self, real: RealTransaction) -> None:
        self._real = real
        self.virtual: Virtual | None = None
        self.auto = real.auto
        self.closed = False
        # It has sent BEGIN itself.
        self._explicit = False
        # It has said that it only reads: always, or in the transaction that is open.
        self._read_only = False
        self._read_only_transaction = False
        # What it has set by SET, where anybody of the batch has.
        self._settings: OwnSettings | None = None
        # What cursors that it makes take from their connection.
        self._attributes: dict[str, Any] = {}
        # A savepoint has begun it, so that its release commits (SQLite).
        self._by_savepoint = False

    @property
    def real(self) -> RealTransaction:
        return self._real

    @property
    def needs_closing(self) -> bool:
        return self.virtual is not None

    # Statements --------------------------------------------------------------------------------

    def cursor(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> VirtualCursor:
        real = self._real
        if self.closed or not real.joined.active:
            self._stale()
        streams = bool(args or kwargs)
        if streams and real.family is Family.MYSQL:
            # While rows are still in the server, MySQL takes no other statement on the
            # connection; drivers then drop the rows without saying so.
            args = () if real.dialect.is_async else tuple(buffered(arg) for arg in args)
            kwargs, streams = {}, False
        if not self._attributes:
            return VirtualCursor(self, real.fairy.cursor(*args, **kwargs), streams)
        with real.inside:
            connection = real.fairy.dbapi_connection
            before = {name: getattr(connection, name) for name in self._attributes}
            try:
                for name, value in self._attributes.items():
                    setattr(connection, name, value)
                return VirtualCursor(self, real.fairy.cursor(*args, **kwargs), streams)
            finally:
                for name, value in before.items():
                    setattr(connection, name, value)

    def perform(
        self,
        execute: Callable[..., Any],
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        by_driver: bool = False,
    ) -> Any:
        """
        Run a handler's statement.

        Args:
            execute: Called with the operation and the arguments.
            operation: SQL, as the driver takes it.
            args: More for the driver.
            kwargs: More for the driver.
            by_driver: Given to the driver itself, which knows nothing of SQLAlchemy's autobegin.
        """
        real = self._real
        statement = read_statement(text_of(operation), real.family)
        with real.inside:
            self._check()
            kind = statement.kind
            if kind not in _CHANGES_DATA:
                if self._is_broken(kind):
                    # The database itself says that nothing is possible but to roll back.
                    return self._fail(partial(execute, operation, *args, **kwargs))
                self._control(statement)
                real.gate.pause()
                return None
            if (self._read_only or self._read_only_transaction) and kind is Kind.WRITE:
                real.refuse("a handler writes on a connection that it has set to read only")
            virtual, savepoints = self.virtual, real.savepoints
            alone = virtual is None and (self.auto or by_driver)
            if kind is Kind.WRITE and real.begins_lazily and statement.detail != "dml":
                # sqlite3 begins before INSERT, UPDATE, DELETE and REPLACE only.
                alone = alone or not self._has_begun()
            if virtual is None:
                virtual = Virtual()
            if alone and real.family is not Family.POSTGRESQL:
                savepoints.alone(kind)
            else:
                self.virtual = virtual
                savepoints.before(virtual, kind)
            if statement.detail == "excludes" and savepoints.shared(virtual):
                self.refuse(
                    "a handler takes a lock that is to exclude another session (SKIP LOCKED, "
                    "NOWAIT, an advisory lock), but both share the batch's transaction and its "
                    "locks; use one session at a time in a call"
                )
            making = None
            around = real.calling() if statement.detail == "call" else _PLAINLY
            try:
                if statement.settings or real.settings:
                    making = self._own_settings().before(statement, (args, kwargs))
                with around:
                    result = execute(operation, *args, **kwargs)
            except BaseException as error:
                real.failed(virtual, error)
                if alone and self.virtual is not None:
                    self._end(commit=False)
                raise
            savepoints.succeeded(virtual)
            if making is not None:
                self._own_settings().after(making)
            if alone and self.virtual is not None:
                self._end(commit=True)
            if statement.detail == "foreign_keys":
                self._check_pragma(operation)
            return result

    def _is_broken(self, kind: Kind) -> bool:
        """Tell whether a savepoint would be refused, since a statement has failed (PostgreSQL)."""
        return (
            kind in (Kind.SAVEPOINT, Kind.RELEASE)
            and self.virtual is not None
            and self._real.savepoints.is_broken(self.virtual)
        )

    def _fail(self, execute: Callable[[], Any]) -> Any:
        try:
            return execute()
        except BaseException as error:
            self._real.failed(self.virtual or Virtual(), error)
            raise

    def fetch(
        self, fetch: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Fetch rows that are still in the server."""
        with self._real.inside:
            self._check()
            virtual = self.virtual or Virtual()
            self._real.savepoints.fetching(virtual)
            try:
                return fetch(*args, **kwargs)
            except BaseException as error:
                self._real.failed(virtual, error)
                raise

    def copies(self) -> None:
        """A handler's cursor is about to copy rows, which no text of a statement tells."""
        real = self._real
        with real.inside:
            self._check()
            if self._read_only or self._read_only_transaction:
                real.refuse("a handler copies on a connection that it has set to read only")
            if self.virtual is None and self.auto:
                real.refuse(
                    "a handler copies under AUTOCOMMIT, whose end is not seen; begin a transaction "
                    "first"
                )
            if self.virtual is None:
                self.virtual = Virtual()
            real.savepoints.unseen(self.virtual)
            if real.settings:
                self._own_settings().apply()

    def _own_settings(self) -> OwnSettings:
        if self._settings is None:
            self._settings = OwnSettings(self._real.settings)
        return self._settings

    def _control(self, statement: Statement) -> None:
        """A handler controls its transaction by SQL."""
        kind, detail = statement.kind, statement.detail
        if kind is Kind.REFUSED:
            self.refuse(f"a call cannot be part of a batch: {detail}")
        elif kind in (Kind.COMMIT, Kind.ROLLBACK):
            self._end(commit=kind is Kind.COMMIT)
            if detail == "chain":
                self._explicit = self.auto
                self.virtual = Virtual()
        elif kind in (Kind.BEGIN, Kind.ISOLATION):
            if kind is Kind.BEGIN:
                if self._real.family is Family.MYSQL and self.virtual is not None:
                    self._end(commit=True)  # as MySQL does
                self._explicit = self.auto or self._real.begins_lazily
                self.virtual = self.virtual or Virtual()
            for option in filter(None, detail.split(", ")):
                if option == "READ ONLY":
                    self._read_only_transaction = True
                else:
                    self._real.want_level(option)
        else:
            self._savepoint(kind, detail)

    def _savepoint(self, kind: Kind, name: str) -> None:
        real = self._real
        if self.virtual is None and self.auto and real.family is not Family.SQLITE:
            self.refuse(
                "a handler uses a savepoint under AUTOCOMMIT, where PostgreSQL refuses it and "
                "MariaDB ignores it; begin a transaction first"
            )
        if self.virtual is None:
            self.virtual = Virtual()
        if kind is Kind.SAVEPOINT and real.begins_lazily:
            # SQLite takes it for the transaction, and its release for COMMIT.
            self._by_savepoint |= not self._has_begun()
        real.savepoints.control(self.virtual, kind, name)
        if kind is Kind.SAVEPOINT:
            if real.settings:
                self._own_settings().apply()
            if self._settings is not None:
                self._settings.savepoint(name)
        elif kind is Kind.RELEASE:
            if self._settings is not None:
                self._settings.released(name)
            if self._by_savepoint and not real.savepoints.inside(self.virtual):
                self._end(commit=True)
        elif kind is Kind.ROLLBACK_TO and self._settings is not None:
            self._settings.rolled_back_to(name)

    def _has_begun(self) -> bool:
        """Tell whether sqlite3 itself, where it begins late, would have begun a transaction."""
        virtual = self.virtual
        return self._explicit or (
            virtual is not None and (virtual.wrote or virtual.mark is not None)
        )

    def _check_pragma(self, operation: Any) -> None:
        wanted = re.search(r"[=(]\s*['\"]?(\w+)", text_of(operation))
        if wanted is None:
            return
        is_on = value_of(self._real.fairy, "PRAGMA foreign_keys")
        if bool(is_on) != (wanted[1].upper() in ("1", "ON", "TRUE", "YES")):
            self.refuse(
                "a handler sets PRAGMA foreign_keys, which SQLite ignores inside a transaction; "
                "set it when connections are made (the pool's event 'connect')"
            )

    # Its transaction ---------------------------------------------------------------------------

    def commit(self) -> None:
        if self.virtual is None and not self.closed:
            self._explicit = False
            return
        with self._real.inside:
            self._check()
            self._end(commit=True)

    def rollback(self) -> None:
        if self.virtual is None:
            self._explicit = False
            return
        joined = self._real.joined
        with self._real.inside:
            if not joined.active or joined.error is not None:
                self.virtual = None  # it goes with the batch
                return
            self._end(commit=False)

    def close(self) -> None:
        """The session, or its call, has no more use for the connection."""
        try:
            joined = self._real.joined
            if self._real.resets_by_commit and joined.active and joined.error is None:
                self.commit()
            self.rollback()
            if self._real.has_called and joined.active:
                with self._real.inside:
                    self._real.check()
        except MissingGreenlet:
            pass  # closed where nothing can be sent: the end of the call rolls it back
        finally:
            self.closed = True

    def _end(self, *, commit: bool) -> None:
        virtual, self.virtual = self.virtual, None
        self._explicit = self._read_only_transaction = False
        self._by_savepoint = False
        if self._settings is not None:
            self._settings.end(commit=commit)
        if virtual is None:
            return
        savepoints = self._real.savepoints
        (savepoints.commit if commit else savepoints.rollback)(virtual)

    # The connection's attributes and options ---------------------------------------------------

    def autocommit(self) -> Any:
        """What the driver's own ``autocommit`` is: an attribute, or a method (MySQL)."""
        return self.set_auto if self._real.family is Family.MYSQL else self.auto

    def set_auto(self, value: object) -> None:
        """
        Switch AUTOCOMMIT as the driver does.

        Raises:
            Exception: The driver's ProgrammingError where it refuses that in a transaction.
        """
        on = bool(value)
        if self.virtual is not None and on != self.auto:
            if self._real.family is Family.POSTGRESQL:
                raise self._real.dialect.loaded_dbapi.ProgrammingError(
                    "autocommit cannot be changed inside a transaction"
                )
            if on:
                self.commit()
        self.auto = on

    def isolation_level(self) -> Any:
        """What the driver's own ``isolation_level`` is; with sqlite3, None is AUTOCOMMIT."""
        if self._real.family is Family.SQLITE and self.auto:
            return None
        return self._real.fairy.isolation_level

    def set_isolation_level(self, level: Any) -> None:
        if self._real.family is Family.SQLITE:
            self.set_auto(level is None)
            return
        if self.virtual is not None and self._real.dialect.driver == "psycopg2":
            self.rollback()  # as psycopg2 does
        # psycopg2 knows numbers, psycopg an enumeration.
        name = _PSYCOPG2_LEVELS.get(level, level) if isinstance(level, int) else level
        name = str(getattr(level, "name", name) or "").replace("_", " ").upper()
        self.auto = name == "AUTOCOMMIT"
        if name and not self.auto:
            self._real.want_level(name)

    def set_read_only(self, read_only: bool) -> None:
        self._read_only = read_only

    def in_transaction(self) -> bool:
        """What sqlite3's own ``in_transaction`` would be, for this session alone."""
        getattr(self._real.fairy.dbapi_connection, "in_transaction")  # noqa: B009  # it may have none
        return self._has_begun() if self._real.begins_lazily else self.virtual is not None

    def refuse_change(self, name: str) -> NoReturn:
        """A handler wants to change how the connection works for everybody who shares it."""
        self.refuse(
            f"a handler uses {name} of the driver's connection, which would change it for all "
            f"calls of the batch, and for whoever gets it next; do that when connections are made "
            f"(the pool's event 'connect')"
        )

    def attribute(self, name: str, *, harmless: bool, kept: bool) -> Any:
        """An attribute of the driver's connection; what may leave the transaction is refused."""
        if name in self._attributes:
            return self._attributes[name]
        value = getattr(self._real.fairy.dbapi_connection, name)
        if name == "xid" or name.startswith("tpc_"):
            self.refuse("a handler uses two-phase commit; use an ordinary transaction")
        if not (harmless or kept):
            self.refuse(
                f"a handler uses {name} of the driver's connection, which may leave the batch's "
                f"transaction or change the connection for others; use SQLAlchemy's means"
            )
        return value

    def set_attribute(self, name: str, value: Any, *, kept: bool) -> None:
        if not kept:
            self.refuse(
                f"a handler sets {name} of the driver's connection, which is not its own in a "
                f"batch; set it when connections are made (the pool's event 'connect')"
            )
        getattr(self._real.fairy.dbapi_connection, name)
        self._attributes[name] = value

    def set_characteristic(self, name: str, value: Any) -> None:
        """
        SQLAlchemy sets an option of the connection, the isolation level for instance.

        It must not reach the real one: setting AUTOCOMMIT commits what is open.
        """
        if name == "isolation_level":
            self.auto = value == "AUTOCOMMIT"
            if not self.auto:
                self._real.want_level(str(value))
        elif name.endswith("readonly"):
            self._read_only = bool(value)

    # What a batch cannot do --------------------------------------------------------------------

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch, since it cannot be made faithful."""
        self._real.refuse(what)

    def refusal(self, what: str) -> NotBatchableError:
        """Fail the batch, and make the error to raise."""
        return self._real.joined.refusal(what)

    def lose(self, error: BaseException | None) -> None:
        """The session cannot use the connection any more."""
        virtual, self.virtual, self.closed = self.virtual, None, True
        real = self._real
        cancelled = error is None or isinstance(error, asyncio.CancelledError)
        has_work = virtual is not None and (virtual.wrote or virtual.failed)
        if cancelled and not has_work and real.joined.error is None:
            # Cancelled while it stood in line for the connection, or given up of its own accord:
            # nothing was under way, and it has nothing that would have to be undone.
            if virtual is not None:
                real.savepoints.commit(virtual)
            return
        real.lose(error)

    def _check(self) -> None:
        if self.closed or not self._real.joined.active:
            self._stale()
        self._real.check()

    def _stale(self) -> NoReturn:
        if not self._real.joined.active:
            raise TransactionError(OVER)
        self.refuse(
            "a session or a task outlives the call that opened it and still uses the "
            "database; close sessions within the call, and use on_commit for later work"
        )
