"""One session of a handler's: what it takes for its transaction, and how that begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from atomicbatch.errors import NotBatchableError, TransactionError
from atomicbatch.join.settings import OwnSettings
from atomicbatch.join.stack import Virtual
from atomicbatch.join.steps import NOT_SENT, PERFORM, Steps
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Family, Kind, Statement

OVER = "the batch that this connection belonged to is over"
_NOTHING: Mapping[str, str] = {}


class Session:
    """
    One session, in a transaction of its own that is part of the batch's.

    Its library begins and ends it by the driver's methods, or by SQL: BEGIN, COMMIT, SAVEPOINT.

    Attributes:
        transaction: The real one, which it shares.
        virtual: Its own open transaction, or None.
        auto: Each statement commits by itself (AUTOCOMMIT), except after an explicit BEGIN.
        closed: It was closed, or its call is over.
    """

    __slots__ = (
        "_by_savepoint",
        "_explicit",
        "_read_only",
        "_read_only_transaction",
        "_settings",
        "auto",
        "closed",
        "transaction",
        "virtual",
    )  # fmt: skip

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.virtual: Virtual | None = None
        self.auto = transaction.auto
        self.closed = False
        # It has sent BEGIN itself.
        self._explicit = False
        # It has said that it only reads: always, or in the transaction that is open.
        self._read_only = False
        self._read_only_transaction = False
        # What it has set by SET, where anybody of the batch has.
        self._settings: OwnSettings | None = None
        # A savepoint has begun it, so that its release commits (SQLite).
        self._by_savepoint = False

    # Its transaction ---------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Tell whether COMMIT and ROLLBACK have nothing to do; then they need no turn."""
        if self.virtual is not None:
            return False
        self._explicit = self._read_only_transaction = False
        return True

    def commit(self) -> Steps[None]:
        """The session commits."""
        if self.virtual is None and not self.closed:
            self._explicit = False
            return
        if self.commit_at_once():
            return
        if self.transaction.has_called:
            yield from self.transaction.check_call()
        yield from self._end(commit=True)

    def commit_at_once(self) -> bool:
        """The session commits, if nothing has to be sent for it; tell whether it is done."""
        self._check()
        transaction, virtual = self.transaction, self.virtual
        if (
            transaction.has_called
            or transaction.savepoints.suspect is not None
            or (virtual is not None and transaction.savepoints.is_to_check(virtual))
        ):
            return False
        self._leave_transaction()
        self._end_settings(commit=virtual is None or not virtual.aborted)
        if virtual is not None:
            transaction.savepoints.forget(virtual)
        return True

    def rollback_at_once(self) -> bool:
        """The session rolls back, if it has nothing to undo; tell whether it is done."""
        transaction, virtual = self.transaction, self.virtual
        if (
            virtual is None
            or virtual.mark is not None
            or transaction.has_called
            or transaction.savepoints.suspect is not None
            or not transaction.status.may_go_on
        ):
            return False
        self._leave_transaction()
        self._end_settings(commit=False)
        return True

    def rollback(self) -> Steps[None]:
        """The session rolls back."""
        if self.virtual is None:
            self._explicit = False
        elif self.transaction.status.may_go_on:
            if self.transaction.has_called:
                # Rolling back would also undo the savepoint that tells what the procedure has done.
                yield from self.transaction.check_call()
            yield from self._end(commit=False)
        else:
            self.virtual = None  # it goes with the batch

    def _end(self, *, commit: bool) -> Steps[None]:
        if commit and self.virtual is not None:
            yield from self._check_deferred(self.virtual)
        savepoints, virtual = self.transaction.savepoints, self._leave_transaction()
        is_kept = commit and virtual is None
        try:
            if virtual is not None and commit:
                is_kept = yield from savepoints.commit(virtual)
            elif virtual is not None:
                yield from savepoints.rollback(virtual)
        finally:
            self._end_settings(commit=is_kept)

    def _check_deferred(self, virtual: Virtual) -> Steps[None]:
        """Let fail what would fail at COMMIT, which then rolls back."""
        savepoints = self.transaction.savepoints
        if not savepoints.is_to_check(virtual):
            return
        try:
            yield from savepoints.check_deferred(virtual)
        except Exception:
            if self.transaction.status.may_go_on:
                yield from self._end(commit=False)
            raise

    def _leave_transaction(self) -> Virtual | None:
        virtual, self.virtual = self.virtual, None
        self._explicit = self._read_only_transaction = False
        self._by_savepoint = False
        return virtual

    def _end_settings(self, *, commit: bool) -> None:
        if self._settings is not None:
            self._settings.end(commit=commit)

    # Control of its transaction by SQL ---------------------------------------------------------

    def _control(self, statement: Statement) -> Steps[Any]:
        kind = statement.kind
        if kind is Kind.REFUSED:
            why = self.transaction.status.advice.refusal(statement.refusal)
            self.refuse(f"a call cannot be part of a batch: {why}")
        elif kind in (Kind.COMMIT, Kind.ROLLBACK):
            yield from self._end(commit=kind is Kind.COMMIT)
            if statement.chains:
                self._explicit = self.auto
                self.virtual = Virtual()
        elif kind is not Kind.ROLLBACK_TO and (yield from self._is_broken()):
            # The database itself says that nothing is possible but to roll back.
            return (yield from self._perform_in(self.virtual or Virtual()))
        elif kind in (Kind.BEGIN, Kind.ISOLATION):
            if kind is Kind.BEGIN:
                yield from self._begin()
            if statement.level:
                self.transaction.want_level(statement.level)
            self._read_only_transaction |= statement.read_only
        else:
            yield from self._savepoint(kind, statement.savepoint)
        return NOT_SENT

    def _begin(self) -> Steps[None]:
        transaction = self.transaction
        if transaction.family is Family.MYSQL and self.virtual is not None:
            yield from self._end(commit=True)  # as MySQL does
        self._explicit = self.auto or transaction.begins_lazily
        self.virtual = self.virtual or Virtual()

    def _is_broken(self) -> Steps[bool]:
        """Tell whether the database refuses savepoints, since a statement has failed."""
        if self.virtual is None:
            return False
        return (yield from self.transaction.savepoints.is_broken(self.virtual))

    def _savepoint(self, kind: Kind, name: str) -> Steps[None]:
        transaction = self.transaction
        if self.virtual is None and self.auto and transaction.family is not Family.SQLITE:
            self.refuse(
                "a handler uses a savepoint under AUTOCOMMIT, where PostgreSQL refuses it and "
                "MariaDB ignores it; begin a transaction first"
            )
        if self.virtual is None:
            self.virtual = Virtual()
        if kind is Kind.SAVEPOINT and transaction.begins_lazily:
            # SQLite takes it for the transaction, and its release for COMMIT.
            self._by_savepoint |= not self._has_begun()
        yield from transaction.savepoints.control(self.virtual, kind, name)
        if kind is Kind.SAVEPOINT:
            if transaction.settings:
                yield from self._own_settings().apply()
            if self._settings is not None:
                self._settings.savepoint(name)
        elif kind is Kind.RELEASE:
            if self._settings is not None:
                self._settings.released(name)
            if self._by_savepoint and not transaction.savepoints.has_own(self.virtual):
                yield from self._end(commit=True)
        elif self._settings is not None:
            self._settings.rolled_back_to(name)

    # What its library sets without SQL ---------------------------------------------------------

    def set_auto(self, on: bool) -> Steps[None]:
        """
        Switch AUTOCOMMIT, as the driver does.

        On PostgreSQL a driver refuses that inside a transaction; whoever stands for it must know.
        """
        if self.virtual is not None and on and not self.auto:
            yield from self.commit()
        self.auto = on

    def set_level(self, level: str) -> None:
        """Set the isolation level, AUTOCOMMIT included; empty: the server's own."""
        self.auto = level == "AUTOCOMMIT"
        if level and not self.auto:
            self.transaction.want_level(level)

    def set_read_only(self, read_only: bool) -> None:
        """Say that the session only reads."""
        self._read_only = read_only

    def in_transaction(self) -> bool:
        """Tell what sqlite3's own ``in_transaction`` would be, for this session alone."""
        return self._has_begun() if self.transaction.begins_lazily else self.virtual is not None

    # What both need ----------------------------------------------------------------------------

    def _check(self) -> None:
        if self.closed or not self.transaction.status.active:
            self.refuse_stale()
        self.transaction.connection.check()

    def _perform_in(self, virtual: Virtual) -> Steps[Any]:
        try:
            return (yield PERFORM)
        except BaseException as error:
            self.transaction.note_failure(virtual, error)
            raise

    def _own_settings(self) -> OwnSettings:
        if self._settings is None:
            self._settings = OwnSettings(self.transaction.settings)
        return self._settings

    def own_settings(self, values: Mapping[str, str], of_all: Mapping[str, str]) -> None:
        """
        Take note of settings that its own connection has, unlike the batch's.

        Args:
            values: Its own, by name.
            of_all: What they are on the batch's; empty, where they are not among these.
        """
        if values:
            self._own_settings().bring(values, of_all)

    @property
    def lasting(self) -> Mapping[str, str]:
        """What it has set for longer than its transactions, as those have committed it."""
        return _NOTHING if self._settings is None else self._settings.committed

    def _has_begun(self) -> bool:
        """Tell whether sqlite3 itself, where it begins late, would have begun a transaction."""
        virtual = self.virtual
        return self._explicit or (
            virtual is not None and (virtual.wrote or virtual.mark is not None)
        )

    # What a batch cannot do --------------------------------------------------------------------

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: what the handler does cannot be made part of it."""
        self.transaction.status.refuse(what)

    def refusal(self, what: str) -> NotBatchableError:
        """Fail the batch, and make the error to raise."""
        return self.transaction.status.refusal(what)

    def refuse_stale(self) -> NoReturn:
        """Refuse what comes after the session's call, or after the batch."""
        if not self.transaction.status.active:
            raise TransactionError(OVER)
        self.refuse(
            "a session or a task outlives the call that opened it and still uses the "
            "database; close sessions within the call, and use on_commit for later work"
        )
