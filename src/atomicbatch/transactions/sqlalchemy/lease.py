"""One session's use of the real connection: its statements, and what it takes for a transaction."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from atomicbatch.errors import TransactionError
from atomicbatch.transactions.sqlalchemy.connection import VirtualCursor
from atomicbatch.transactions.sqlalchemy.drivers import buffered, run_plainly, text_of, value_of
from atomicbatch.transactions.statements import Family, Kind, Statement, read_statement
from atomicbatch.transactions.virtual import Virtual

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.real import RealTransaction

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
        "_explicit", "_read_only", "_real", "_restore", "_settings", "auto", "closed", "virtual",
    )  # fmt: skip

    def __init__(self, real: RealTransaction) -> None:
        self._real = real
        self.virtual: Virtual | None = None
        self.auto = real.auto
        self.closed = False
        # It has sent BEGIN itself.
        self._explicit = False
        # It has said that it only reads.
        self._read_only = False
        # What each setting was that it has made for its transaction alone.
        self._settings: dict[str, str] = {}
        # What attributes of the driver's connection were before it set them.
        self._restore: dict[str, Any] = {}

    @property
    def real(self) -> RealTransaction:
        return self._real

    @property
    def needs_closing(self) -> bool:
        return self.virtual is not None or bool(self._restore)

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
        return VirtualCursor(self, real.fairy.cursor(*args, **kwargs), streams)

    def perform(
        self,
        execute: Callable[..., Any],
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a handler's statement."""
        real = self._real
        statement = read_statement(text_of(operation), real.family)
        with real.inside:
            self._check()
            kind = statement.kind
            if kind not in _CHANGES_DATA:
                return self._control(statement)
            if self._read_only and kind is Kind.WRITE:
                real.refuse("a handler writes on a connection that it has set to read only")
            virtual, savepoints = self.virtual, real.savepoints
            alone = virtual is None and self.auto
            if virtual is None:
                virtual = Virtual()
            if alone and real.family is not Family.POSTGRESQL:
                savepoints.alone(kind)
            else:
                self.virtual = virtual
                savepoints.before(virtual, kind)
            if statement.setting:
                self._keep_setting(statement.setting)
            try:
                result = execute(operation, *args, **kwargs)
            except BaseException as error:
                real.failed(virtual, error)
                if alone and self.virtual is not None:
                    self._end(commit=False)
                raise
            savepoints.succeeded(virtual)
            if alone and self.virtual is not None:
                self._end(commit=True)
            if statement.detail:
                self._check_pragma(operation)
            return result

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

    def used_raw(self) -> None:
        """A handler gets at the driver's own connection: it may have changed anything."""
        real = self._real
        with real.inside:
            self._check()
            if self.virtual is None:
                self.virtual = Virtual()
            real.used_raw(self.virtual)

    def _control(self, statement: Statement) -> None:
        """A handler controls its transaction by SQL."""
        kind, detail = statement.kind, statement.detail
        if kind is Kind.REFUSED:
            self.refuse(f"a call cannot be part of a batch: {detail}")
        elif kind is Kind.COMMIT:
            self._end(commit=True)
        elif kind is Kind.ROLLBACK:
            self._end(commit=False)
        elif kind in (Kind.BEGIN, Kind.ISOLATION):
            if kind is Kind.BEGIN:
                self._explicit = self.auto
                self.virtual = self.virtual or Virtual()
            if detail == "READ ONLY":
                self._read_only = True
            elif detail:
                self._real.want_level(detail)
        else:
            self.virtual = self.virtual or Virtual()
            self._real.savepoints.control(self.virtual, kind, detail)

    def _check_pragma(self, operation: Any) -> None:
        wanted = re.search(r"=\s*['\"]?(\w+)", text_of(operation))
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
            self.rollback()
            if self._restore:
                for name, value in self._restore.items():
                    setattr(self._real.fairy.dbapi_connection, name, value)
                self._restore.clear()
        finally:
            self.closed = True

    def _end(self, *, commit: bool) -> None:
        virtual, self.virtual = self.virtual, None
        settings, self._settings = self._settings, {}
        self._explicit = self._read_only = False
        if virtual is None:
            return
        savepoints = self._real.savepoints
        (savepoints.commit if commit else savepoints.rollback)(virtual)
        # Also after ROLLBACK TO: the savepoint may be newer than the setting.
        self._restore_settings(virtual, settings)

    def _keep_setting(self, name: str) -> None:
        """A savepoint that is released keeps SET LOCAL; a COMMIT would have ended it."""
        if name not in self._settings:
            value = value_of(self._real.fairy, f"SELECT current_setting({_literal(name)}, true)")
            self._settings[name] = value or ""

    def _restore_settings(self, virtual: Virtual, settings: dict[str, str]) -> None:
        if settings:
            self._real.savepoints.setting(virtual)
        for name, value in settings.items():
            run_plainly(
                self._real.fairy, [f"SELECT set_config({_literal(name)}, {_literal(value)}, true)"]
            )

    # The connection's attributes and options ---------------------------------------------------

    def autocommit(self) -> Any:
        """What the driver's own ``autocommit`` is: an attribute, or a method (MySQL)."""
        return self._set_auto if self._real.family is Family.MYSQL else self.auto

    def _set_auto(self, value: object) -> None:
        self.auto = bool(value)

    def attribute(self, name: str) -> Any:
        value = getattr(self._real.fairy, name)
        if name in ("transaction", "pipeline", "run", "backup"):
            self.used_raw()
        return value

    def set_attribute(self, name: str, value: Any) -> None:
        target = self._real.fairy.dbapi_connection
        self._restore.setdefault(name, getattr(target, name))
        setattr(target, name, value)

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

    def lose(self, error: BaseException | None) -> None:
        """The connection cannot be used any more."""
        self.virtual, self.closed = None, True
        self._real.lose(error)

    def _check(self) -> None:
        if self.closed or not self._real.joined.active:
            self._stale()
        self._real.check()

    def _stale(self) -> NoReturn:
        if not self._real.joined.active:
            raise TransactionError("the batch that this connection belonged to is over")
        self.refuse(
            "a session or a task outlives the call that opened it and still uses the "
            "database; close sessions within the call, and use on_commit for later work"
        )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
