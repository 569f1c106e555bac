"""One session's checkout of the batch's connection: it runs the join's steps, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from sqlalchemy.exc import MissingGreenlet

from atomicbatch.errors import NotBatchableError
from atomicbatch.join.acts import Place
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.steps import NOT_SENT, run
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import text_of
from atomicbatch.transactions.sqlalchemy.dialects import buffered
from atomicbatch.transactions.sqlalchemy.real import RealTransaction

# psycopg2.extensions.ISOLATION_LEVEL_*; None is 5: as the server has it.
_PSYCOPG2_LEVELS = {
    0: "AUTOCOMMIT", 1: "READ COMMITTED", 2: "REPEATABLE READ", 3: "SERIALIZABLE",
    4: "READ UNCOMMITTED", 5: "",
}  # fmt: skip


class SessionCheckout:
    """
    One session's checkout of the real connection, as its virtual connections use it.

    Each method enters the gate, and has the join's checkout say what is to be sent.

    Attributes:
        real: The real transaction.
        checkout: The join's.
    """

    __slots__ = ("_attributes", "checkout", "real")

    def __init__(self, real: RealTransaction) -> None:
        self.real = real
        self.checkout = Checkout(real.transaction)
        # What cursors that it makes take from their connection.
        self._attributes: dict[str, Any] = {}

    @property
    def place(self) -> Place:
        """Where it is closed at the end of its call."""
        return self.real.place

    def is_at_rest(self) -> bool:
        """Tell whether there is nothing to undo, and nobody is in a statement."""
        real = self.real
        if self.checkout.virtual is not None or real.transaction.has_called:
            return False
        # A thread that was left behind may be in one: then wait until it is through it.
        if not real.gate.enter_now():
            return False
        real.gate.leave()
        return True

    def mark_stale(self) -> None:
        """Its call is over."""
        self.checkout.closed = True

    # Statements --------------------------------------------------------------------------------

    def cursor(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        """Make a cursor of the driver's; tell whether its rows may stay in the server."""
        real = self.real
        if self.checkout.closed or not real.attempt.active:
            self.checkout.refuse_stale()
        streams = bool(args or kwargs)
        if streams and real.family is Family.MYSQL:
            # While rows are still in the server, MySQL takes no other statement on the
            # connection; drivers then drop the rows without saying so.
            args = () if real.dialect.is_async else tuple(buffered(arg) for arg in args)
            kwargs, streams = {}, False
        if not self._attributes:
            # Past the pool's door for it, which is for connections from before the batch.
            connection: Any = real.fairy.dbapi_connection
            if connection is None:
                connection = real.fairy  # which says that it is gone
            return connection.cursor(*args, **kwargs), streams
        with real.inside:
            connection = real.fairy.dbapi_connection
            before = {name: getattr(connection, name) for name in self._attributes}
            try:
                for name, value in self._attributes.items():
                    setattr(connection, name, value)
                return real.fairy.cursor(*args, **kwargs), streams
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
        real, checkout = self.real, self.checkout
        sql = text_of(operation)
        if by_driver or real.transaction.sends_ahead:
            return self._perform_by_steps(execute, operation, sql, args, kwargs, by_driver)
        with real.inside:
            texts = checkout.make_ready(sql)
            virtual = checkout.virtual
            if texts is not None and virtual is not None:
                if texts:
                    try:
                        real.link.send(texts)
                    except BaseException as error:
                        real.transaction.connection.note_ours_failed(error)
                try:
                    return execute(operation, *args, **kwargs)
                except BaseException as error:
                    real.transaction.note_failure(virtual, error)
                    raise
        return self._perform_by_steps(execute, operation, sql, args, kwargs, by_driver)

    def _perform_by_steps(
        self,
        execute: Callable[..., Any],
        operation: Any,
        sql: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        by_driver: bool,
    ) -> Any:
        real = self.real
        takes_along = real.transaction.sends_ahead and real.link.takes_along(execute)
        steps = self.checkout.perform(
            sql, (args, kwargs), by_driver=by_driver, takes_along=takes_along
        )
        with real.inside:
            result = run(steps, real.link, partial(execute, operation, *args, **kwargs))
            if result is NOT_SENT:
                real.gate.pause()
                return None
            return result

    def fetch(
        self, fetch: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Fetch rows that are still in the server."""
        with self.real.inside:
            return run(self.checkout.fetch(), self.real.link, partial(fetch, *args, **kwargs))

    def next_set(
        self, go_on: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Let a cursor go on to its next result, for which some drivers use the connection."""
        if self.real.dialect.is_async:
            return go_on(*args, **kwargs)
        with self.real.inside:
            if self.checkout.closed or not self.real.transaction.is_open:
                self.checkout.refuse_stale()
            return go_on(*args, **kwargs)

    def close_cursor(
        self, close: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """
        Close a cursor, for which some drivers use the connection.

        mysqlclient looks for results that are still to come, and server-side cursors send CLOSE.
        Other threads must be in no statement meanwhile.
        """
        real = self.real
        if real.dialect.is_async:
            return close(*args, **kwargs) if self._has_connection() else None
        with real.inside:
            return close(*args, **kwargs) if self._has_connection() else None

    def _has_connection(self) -> bool:
        """
        Tell whether a cursor that is closed may use the connection.

        Once the batch is over, it is somebody else's, whose transaction breaks if a cursor is
        closed that PostgreSQL does not know there. SQLite's are closed in any case: an open one
        keeps its lock.
        """
        if self.real.family is Family.SQLITE:
            return True
        is_left = self.checkout.closed and self.real.family is Family.POSTGRESQL
        return self.real.transaction.is_open and not is_left

    def before_copy(self) -> None:
        """A handler's cursor is about to copy rows, which no text of a statement tells."""
        with self.real.inside:
            run(self.checkout.before_copy(), self.real.link)

    # Its transaction ---------------------------------------------------------------------------

    def commit(self) -> None:
        checkout = self.checkout
        if checkout.closed or not checkout.is_idle():
            with self.real.inside:
                if not checkout.commit_at_once():
                    run(checkout.commit(), self.real.link)

    def rollback(self) -> None:
        checkout = self.checkout
        if not checkout.is_idle():
            with self.real.inside:
                if not checkout.rollback_at_once():
                    run(checkout.rollback(), self.real.link)

    def close(self) -> None:
        """The session, or its call, has no more use for the connection."""
        checkout = self.checkout
        transaction = checkout.transaction
        try:
            if not checkout.is_idle() or transaction.has_called or transaction.resets_by_commit:
                with self.real.inside:
                    run(checkout.close(), self.real.link)
        except MissingGreenlet:
            pass  # closed where nothing can be sent: the end of the call rolls it back
        finally:
            checkout.closed = True

    # The connection's attributes and options ---------------------------------------------------

    def autocommit(self) -> Any:
        """What the driver's own ``autocommit`` is: an attribute, or a method (MySQL)."""
        return self.set_auto if self.real.family is Family.MYSQL else self.checkout.auto

    def set_auto(self, value: object) -> None:
        """
        Switch AUTOCOMMIT as the driver does.

        Raises:
            Exception: The driver's ProgrammingError where it refuses that in a transaction.
        """
        checkout = self.checkout
        on = bool(value)
        if checkout.virtual is not None and on != checkout.auto:
            if self.real.family is Family.POSTGRESQL:
                raise self.real.dialect.loaded_dbapi.ProgrammingError(
                    "autocommit cannot be changed inside a transaction"
                )
            if on:
                self.commit()
        checkout.auto = on

    def isolation_level(self) -> Any:
        """What the driver's own ``isolation_level`` is; with sqlite3, None is AUTOCOMMIT."""
        if self.real.family is Family.SQLITE and self.checkout.auto:
            return None
        return self.real.link.isolation_level()

    def set_isolation_level(self, level: Any) -> None:
        if self.real.family is Family.SQLITE:
            self.set_auto(level is None)
            return
        if self.checkout.virtual is not None and self.real.dialect.driver == "psycopg2":
            self.rollback()  # as psycopg2 does
        # psycopg2 knows numbers, psycopg an enumeration.
        name = _PSYCOPG2_LEVELS.get(level, level) if isinstance(level, int) else level
        name = str(getattr(level, "name", name) or "").replace("_", " ").upper()
        self.checkout.set_level(name)

    def set_read_only(self, read_only: bool) -> None:
        self.checkout.set_read_only(read_only)

    def in_transaction(self) -> bool:
        """What sqlite3's own ``in_transaction`` would be, for this session alone."""
        getattr(self.real.fairy.dbapi_connection, "in_transaction")  # noqa: B009  # it may have none
        return self.checkout.in_transaction()

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
        value = getattr(self.real.fairy.dbapi_connection, name)
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
        getattr(self.real.fairy.dbapi_connection, name)
        self._attributes[name] = value

    def set_characteristic(self, name: str, value: Any) -> None:
        """
        SQLAlchemy sets an option of the connection, the isolation level for instance.

        It must not reach the real one: setting AUTOCOMMIT commits what is open.
        """
        if name == "isolation_level":
            self.checkout.set_level(str(value))
        elif name.endswith("readonly"):
            self.checkout.set_read_only(bool(value))

    # What a batch cannot do --------------------------------------------------------------------

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: what the handler does cannot be made part of it."""
        self.checkout.refuse(what)

    def refusal(self, what: str) -> NotBatchableError:
        """Fail the batch, and make the error to raise."""
        return self.checkout.refusal(what)

    def mark_lost(self, error: BaseException | None) -> None:
        """The session cannot use the connection any more."""
        self.checkout.mark_lost(error)
