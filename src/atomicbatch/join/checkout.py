"""One session's use of the batch's connection: its statements, from the first to its end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.join.session import Session
from atomicbatch.join.settings import Making
from atomicbatch.join.stack import Virtual
from atomicbatch.join.steps import PERFORM, Ask, Steps
from atomicbatch.sql.kinds import Family, Kind, Statement
from atomicbatch.sql.statements import is_plain, read_statement

_EXCLUDES = (
    "a handler takes a lock that is to exclude another session (SKIP LOCKED, NOWAIT, an advisory "
    "lock), but both share the batch's transaction and its locks; use one session at a time in a "
    "call"
)
_WRITE = Kind.WRITE
_CHANGES_DATA = (Kind.READ, Kind.HOLD, Kind.WRITE)


class Checkout(Session):
    """One session's use of the connection."""

    __slots__ = ()

    # Statements --------------------------------------------------------------------------------

    def perform(
        self,
        sql: str,
        parameters: Iterable[Any] = (),
        *,
        by_driver: bool = False,
        takes_along: bool = False,
    ) -> Steps[Any]:
        """
        Perform a handler's statement.

        Args:
            sql: Its text.
            parameters: Whatever else the driver is given: settings may be among it.
            by_driver: It was given to the driver itself, which knows nothing of a library's
                autobegin: outside of a transaction it commits by itself.
            takes_along: It is given to the driver in such a way that SQL of ours can go ahead of
                it in the same round trip, if the link can do that.

        Returns:
            Its result. ``NOT_SENT``: it was about the session's transaction, and is done already.
        """
        transaction = self.transaction
        statement = read_statement(sql, transaction.family)
        # Nothing is delegated where nothing is sent: each generator more would cost 0.15 us.
        self._check()
        if transaction.has_called:
            yield from transaction.check_call()
        if statement.kind not in _CHANGES_DATA:
            return (yield from self._control(statement))
        alone = self._commits_alone(statement, by_driver)
        virtual = self.virtual or Virtual()
        ahead: Sequence[str] = ()
        if alone and transaction.family is not Family.POSTGRESQL:
            transaction.savepoints.note_alone(statement.kind)
        else:
            self.virtual = virtual
            if transaction.savepoints.suspect is not None:
                yield from transaction.savepoints.make_way(virtual)
            if texts := transaction.savepoints.before(virtual, statement.kind):
                if takes_along and transaction.sends_ahead and is_plain(sql):
                    ahead = texts
                else:
                    yield from transaction.connection.send(texts)
        if statement.excludes and transaction.savepoints.is_shared(virtual):
            self.refuse(_EXCLUDES)
        making: Making | None = None
        try:
            if statement.settings or transaction.settings:
                if ahead:
                    yield from transaction.connection.send(ahead)
                    ahead = ()
                making = yield from self._own_settings().before(statement, parameters)
            if statement.calls:
                result = yield from transaction.call()
            elif ahead:
                result = yield from transaction.connection.perform_after(ahead)
            else:
                result = yield PERFORM
        except NotReachedError as unreached:
            raise (unreached.__cause__ or unreached) from None
        except BaseException as error:
            transaction.note_failure(virtual, error)
            if alone and self.virtual is not None and isinstance(error, Exception):
                yield from self._end(commit=False)
            raise
        transaction.savepoints.note_success(virtual)
        if making is not None:
            yield from self._own_settings().after(making)
        if alone and self.virtual is not None:
            yield from self._end(commit=True)
        elif alone:
            self._read_only_transaction = False  # this has been the transaction
        if statement.sets_foreign_keys:
            yield from self._check_pragma(sql)
        return result

    def make_ready(self, sql: str) -> list[str] | None:
        """
        Make ready for a statement that needs nothing but savepoints, as nearly all do.

        It does what :meth:`perform` would do for it, without a generator.

        Returns:
            What to send before the statement, for which the shell then tells the transaction if it
            fails. None: nothing has been done; use :meth:`perform`.
        """
        transaction = self.transaction
        connection, savepoints = transaction.connection, transaction.savepoints
        if (
            self.auto
            or self.closed
            or self._read_only
            or self._read_only_transaction
            or transaction.has_called
            or savepoints.suspect is not None
            or connection.held
            or transaction.settings
            or not transaction.status.may_go_on
        ):
            return None
        statement = read_statement(sql, transaction.family)
        kind = statement.kind
        if not statement.is_ordinary or (
            transaction.begins_lazily and kind is _WRITE and not statement.is_dml
        ):
            return None
        connection.check()
        virtual = self.virtual
        if virtual is None:
            virtual = self.virtual = Virtual()
        return savepoints.before(virtual, kind)

    def fetch(self) -> Steps[Any]:
        """Fetch rows that are still in the server: PERFORM is the fetching."""
        self._check()
        if self.transaction.has_called:
            yield from self.transaction.check_call()
        virtual = self.virtual or Virtual()
        if self.transaction.connection.held:
            yield from self.transaction.connection.send(())
        yield from self.transaction.savepoints.make_way(virtual)
        return (yield from self._perform_in(virtual))

    def before_copy(self) -> Steps[None]:
        """Make ready for copied rows, of which no text of a statement tells."""
        self._check()
        if self.transaction.has_called:
            yield from self.transaction.check_call()
        if self._read_only or self._read_only_transaction:
            self.refuse("a handler copies on a connection that it has set to read only")
        if self.virtual is None and self.auto:
            self.refuse(
                "a handler copies under AUTOCOMMIT, whose end is not seen; begin a transaction "
                "first"
            )
        if self.virtual is None:
            self.virtual = Virtual()
        yield from self.transaction.savepoints.before_unseen(self.virtual)
        if self.transaction.settings:
            yield from self._own_settings().apply()

    def _commits_alone(self, statement: Statement, by_driver: bool) -> bool:
        """Tell whether a statement that is no control commits by itself; refuse what may not be."""
        is_write = statement.kind is Kind.WRITE
        if is_write and (self._read_only or self._read_only_transaction):
            self.refuse("a handler writes on a connection that it has set to read only")
        if self.virtual is None and (self.auto or by_driver):
            return True
        # sqlite3 begins before INSERT, UPDATE, DELETE and REPLACE only.
        begins_not = is_write and self.transaction.begins_lazily and not statement.is_dml
        return begins_not and not self._has_begun()

    def _check_pragma(self, sql: str) -> Steps[None]:
        wanted = re.search(r"[=(]\s*['\"]?(\w+)", sql)
        if wanted is None:
            return
        is_on = yield Ask("PRAGMA foreign_keys")
        if bool(is_on) != (wanted[1].upper() in ("1", "ON", "TRUE", "YES")):
            self.refuse(
                "a handler sets PRAGMA foreign_keys, which SQLite ignores inside a transaction; "
                "set it when connections are made (the pool's event 'connect')"
            )

    # Its end -----------------------------------------------------------------------------------

    def close(self) -> Steps[None]:
        """The session, or its call, has no more use for the connection."""
        transaction = self.transaction
        try:
            if transaction.resets_by_commit and transaction.status.may_go_on:
                yield from self.commit()
            yield from self.rollback()
            if transaction.has_called and transaction.status.active:
                transaction.connection.check()
                yield from transaction.check_call()
        finally:
            self.closed = True

    def mark_lost(self, error: BaseException | None) -> None:
        """The session's library says that its connection cannot be used any more."""
        virtual, self.virtual, self.closed = self.virtual, None, True
        transaction = self.transaction
        cancelled = not isinstance(error, Exception)
        has_work = virtual is not None and (virtual.wrote or virtual.failed)
        if cancelled and not has_work and transaction.status.error is None:
            # Cancelled while it stood in line for the connection, or given up of its own accord:
            # nothing was under way, and it has nothing that would have to be undone.
            if virtual is not None:
                transaction.savepoints.forget(virtual)
            return
        transaction.connection.mark_lost(error)
