"""One call's use of a connection of the app's: its statements run in the batch's transaction."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar
from weakref import ref

from atomicbatch.doors.sqlite import readable
from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.join.acts import Place
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.steps import NOT_SENT, Steps, run
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.statements import read_statement
from atomicbatch.transactions.sqlite.connections import move_back
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.pragmas import FIXED, Pragma, State, state_of
from atomicbatch.transactions.sqlite.real import Real
from atomicbatch.transactions.sqlite.texts import pragma_in, statements_of, why_unsuitable

T = TypeVar("T")
LEGACY = getattr(sqlite3, "LEGACY_TRANSACTION_CONTROL", -1)
_execute: Any = sqlite3.Cursor.execute
_of_connection: Any = vars(sqlite3.Connection)
_total_changes: Any = _of_connection["total_changes"].__get__
_isolation_level: Any = _of_connection["isolation_level"]
_autocommit: Any = _of_connection.get("autocommit")
_ENDS = (Kind.COMMIT, Kind.ROLLBACK)
_JOURNAL = re.compile(r"[=(]\s*['\"]?(\w+)")


class ConnectionUse:
    """
    Stands for a connection of the app's during one call.

    Args:
        real: The batch's transaction in its database.
        owner: The app's connection.
        origin: What it was opened by.
        database: What it leads to.
        begin: Begins ``real``, given the pragmas that the connection has.

    Attributes:
        thread: The one that has used it last.
        changes: How many rows it has changed in the batch.
        checkout: Its transaction.
    """

    def __init__(
        self,
        real: Real,
        owner: sqlite3.Connection,
        origin: Origin,
        database: Database,
        begin: Callable[[Real, State, sqlite3.Connection], None],
    ) -> None:
        self.real = real
        self.thread = threading.get_ident()
        self._owner = ref(owner)
        self.changes = 0
        self.checkout = Checkout(real.transaction)
        self._origin = origin
        self._database = database
        self._begin = begin
        self._state: State = {}
        self._is_stale = True
        self._version = origin.version
        self._level: Any = _isolation_level.__get__(owner)
        self._mode: Any = LEGACY if _autocommit is None else _autocommit.__get__(owner)
        self._is_closed = False
        self._note_mode()

    @property
    def owner(self) -> sqlite3.Connection:
        """The app's connection, which is there for as long as the app has it."""
        owner = self._owner()
        if owner is None:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        return owner

    def is_of(self, connection: object) -> bool:
        """Tell whether it stands for this connection."""
        return self._owner() is connection

    def is_gone(self) -> bool:
        """Nobody has the connection any more. What it had open is undone."""
        if self._owner() is not None:
            return False
        self.close()
        return True

    # Statements --------------------------------------------------------------------------------

    def execute(self, cursor: Any, method: Callable[..., Any], sql: Any, args: Any) -> Any:
        """Execute a statement by a cursor of the app's; ``method`` is sqlite3's own."""
        if not isinstance(sql, str):
            return method(cursor, sql, *args)  # which says what is wrong with it
        self._check()
        pragma = pragma_in(sql)
        if pragma is not None and self._is_about_connection(pragma, sql):
            return self._execute_here(cursor, method, pragma, sql, args)

        def perform() -> Any:
            return method(cursor, sql, *args)

        with self.real.inside:
            self._make_ready(sql)
            self.real.move_here(cursor, self.owner)
            if self._perform(sql, args, perform) is NOT_SENT:
                _execute(cursor, "")  # it has no rows any more
        return cursor

    def executescript(self, cursor: Any, sql: Any) -> Any:
        """Execute several statements, one by one; as sqlite3 does, commit first."""
        if not isinstance(sql, str):
            return sqlite3.Cursor.executescript(cursor, sql)
        self._check()
        if self._mode == LEGACY:
            self.commit()
        with self.real.inside:
            for text in statements_of(sql):
                pragma = pragma_in(text)
                if pragma is not None and self._is_about_connection(pragma, text):
                    own = sqlite3.Cursor(self.owner)
                    self._execute_here(own, _execute, pragma, text, ())
                    continue
                self._make_ready(text)
                self._perform(text, (), partial(_run_through, self.real.connection, text), True)
        return cursor

    def read(self, act: Callable[[Any], T]) -> T:
        """Read by sqlite3's own connection."""
        self._check()
        with self.real.inside:
            self._make_ready("SELECT 1")
            result: T = self._perform("SELECT 1", (), partial(act, self.real.connection))
            return result

    def _perform(
        self, sql: str, args: Any, perform: Callable[[], Any], by_driver: bool = False
    ) -> Any:
        real = self.real
        self.thread = threading.get_ident()
        if (why := self._out_of_place(sql)) is not None:
            raise _refused_by_sqlite(why)
        # What Python functions write passes a door itself, so calling them only reads.
        sql = readable(self.owner, sql)
        real.lock.take(self, sql, self._origin.options.get("timeout", 5.0))
        before = _total_changes(real.connection)
        if self._mode is False and self.checkout.virtual is None:
            # Python 3.12's own begins again after each end.
            run(self.checkout.perform("BEGIN"), real.link)
        try:
            return run(self.checkout.perform(sql, args, by_driver=by_driver), real.link, perform)
        finally:
            real.lock.note_begun(self)
            if real.transaction.is_open:
                self.changes += _total_changes(real.connection) - before

    def _out_of_place(self, sql: str) -> str | None:
        """Tell what SQLite says of a BEGIN inside a transaction, or of the end of none."""
        kind = read_statement(sql, Family.SQLITE).kind
        if kind is Kind.BEGIN and self.in_transaction():
            return "cannot start a transaction within a transaction"
        if kind in _ENDS and not self.in_transaction():
            return f"cannot {kind.value} - no transaction is active"
        return None

    def _check(self) -> None:
        thread = self._origin.thread
        if self.checkout.closed and not self.checkout.transaction.status.active:
            self.checkout.refuse_stale()
        if self._is_closed or (thread is not None and thread != threading.get_ident()):
            sqlite3.Connection.cursor(self.owner)  # which says that it is closed, or another's

    def _make_ready(self, sql: str) -> None:
        """Let the batch's own connection be like this one. With ``inside`` held."""
        real, origin = self.real, self._origin
        if (why := why_unsuitable(sql)) is not None:
            self.checkout.refuse(why)
        if self._is_stale:
            if real.adopted is None:
                self._state = state_of(self.owner, is_read_only=self._database.is_read_only)
            self._is_stale = False
            real.speaker = None
        if not real.transaction.is_open:
            self._begin(real, self._state, self.owner)
        real.is_used = True
        if real.adopted is not None:
            return
        if real.speaker is not self or self._version != origin.version:
            if (why := real.likeness.become(self.owner, origin, self._state)) != "":
                self.checkout.refuse(why)
            self._version, real.speaker = origin.version, self
        elif real.connection.text_factory is not self.owner.text_factory:
            real.connection.text_factory = self.owner.text_factory

    # Pragmas -----------------------------------------------------------------------------------

    def _is_about_connection(self, pragma: Pragma, sql: str) -> bool:
        """Tell whether a pragma is for the app's own connection, rather than the batch's."""
        if pragma.is_refused:
            self.checkout.refuse(
                f"a handler sets PRAGMA {pragma.name}, which would change how all connections of "
                f"the batch work; set it outside of batches"
            )
        if self.real.adopted is not None:
            return False
        if pragma.name == "journal_mode":
            self._check_journal(pragma, sql)
            return True
        return pragma.is_own

    def _check_journal(self, pragma: Pragma, sql: str) -> None:
        wanted = _JOURNAL.search(sql)
        if not pragma.has_value or wanted is None or not self.real.transaction.is_open:
            return
        (now,) = sqlite3.Cursor(self.owner).execute("PRAGMA journal_mode").fetchone()
        if _text(now).lower() != wanted[1].lower():
            self.checkout.refuse(
                "a handler changes PRAGMA journal_mode, which is not possible in a transaction; "
                "set it when the database is made"
            )

    def _execute_here(
        self, cursor: Any, method: Callable[..., Any], pragma: Pragma, sql: str, args: Any
    ) -> Any:
        """Execute a pragma by the app's own connection, as if there were no batch."""
        if pragma.has_value and pragma.name in FIXED and self.in_transaction():
            sql, args = "", ()  # SQLite takes no notice of it there
        move_back(cursor)
        method(cursor, sql, *args)
        self._is_stale = self._is_stale or pragma.has_value
        return cursor

    # Its transaction ---------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit."""
        self._end(self.checkout.commit)

    def rollback(self) -> None:
        """Roll back."""
        self._end(self.checkout.rollback)

    def _end(self, act: Callable[[], Steps[None]]) -> None:
        self._check()
        if self._mode is True or self.checkout.is_idle():
            return
        with self.real.inside:
            if self.real.transaction.is_open:
                run(act(), self.real.link)
            else:
                self.checkout.transaction.status.check()
                self.checkout.refuse_stale()

    def note_close(self) -> None:
        """The app is about to close its connection."""
        if self.real.adopted is not None:
            self.checkout.refuse("a handler closes a database in memory; leave it open")
        self.close()
        self._is_closed = True

    @property
    def place(self) -> Place:
        """Where it is closed at the end of its call."""
        return self.real.place

    def is_at_rest(self) -> bool:
        """Tell whether there is nothing to undo, and nobody is in a statement."""
        return self.checkout.virtual is None and not self.real.is_busy()

    def mark_stale(self) -> None:
        """Its call is over."""
        self.checkout.closed = True

    def close(self) -> None:
        """Nobody uses it any more: what nobody has committed is rolled back."""
        checkout, real = self.checkout, self.real
        if not checkout.is_idle() and real.transaction.is_open:
            with real.inside:
                if real.transaction.is_open:
                    run(checkout.close(), real.link)
        checkout.closed = True

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        return self._mode is False or self.checkout.in_transaction()

    def isolation_level(self) -> Any:
        """The attribute."""
        return self._level

    def autocommit(self) -> Any:
        """The attribute."""
        return self._mode

    def set_mode(self, name: str, value: Any) -> None:
        """Set one of the last two."""
        attribute = _isolation_level if name == "isolation_level" else _autocommit
        if name == "autocommit" or value is None:
            self.commit()
        if self.real.adopted is None:
            attribute.__set__(self.owner, value)
        if name == "isolation_level":
            self._level = value
        else:
            self._mode = value
        self._note_mode()

    def _note_mode(self) -> None:
        self.checkout.auto = self._mode is True or (self._mode is not False and self._level is None)

    @property
    def has_written(self) -> bool:
        """Its own transaction is open, and has written."""
        virtual = self.checkout.virtual
        return virtual is not None and virtual.wrote

    @property
    def has_unseen_rows(self) -> bool:
        """The batch has written to its database, which only the batch sees."""
        return self.real.transaction.wrote

    # Other -------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop the statement that is running."""
        self.real.stop()

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: the handler does something that cannot be made part of it."""
        self.checkout.refuse(
            f"a handler uses {what}, which cannot be part of a batch; write by SQL, or do it "
            f"outside of batches"
        )


def _run_through(connection: sqlite3.Connection, text: str) -> None:
    """Run a statement to its end, as executescript() does."""
    sqlite3.Cursor(connection).execute(text).fetchall()


def _refused_by_sqlite(why: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(why)
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_ERROR, "SQLITE_ERROR"
    return error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
