"""Handlers' transactions as savepoints on the real connection, also after a failed statement."""

from __future__ import annotations

import logging
from typing import NoReturn

from atomicbatch.drivers.answers import answer_of
from atomicbatch.join.connection import Connection
from atomicbatch.join.settings import Settings
from atomicbatch.join.stack import OverlapError, Stack, Virtual
from atomicbatch.join.steps import Ask, Send, Steps
from atomicbatch.sql.kinds import Family, Kind

logger = logging.getLogger("atomicbatch")
# What is checked stays deferred for whoever is next, as at the beginning of a transaction.
_CHECKS = ("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED")
_OVERLAP = (
    "two transactions of one call overlap, and the one that rolls back has changed something, as "
    "has the other since; let the call use one session, or end one before it begins the other"
)


class Savepoints:
    """
    Has the connection send what the stack of virtual transactions says.

    On PostgreSQL a statement that fails breaks the real transaction: the server refuses everybody's
    statements until there is a ROLLBACK TO. Here its own virtual transaction alone is broken; when
    another one wants to go on, what the broken one has done is undone.

    Attributes:
        suspect: Whose statement has failed last, and nobody has asked yet whether PostgreSQL
            therefore refuses everybody's.
        checks_deferred: When a handler commits, check what is deferred until COMMIT.
    """

    __slots__ = (
        "_connection",
        "_is_postgresql",
        "_settings",
        "_stack",
        "checks_deferred",
        "suspect",
    )

    def __init__(self, connection: Connection, settings: Settings, prefix: str = "ab") -> None:
        self._connection = connection
        self._settings = settings
        self._is_postgresql = connection.family is Family.POSTGRESQL
        self._stack = Stack(connection.family, prefix)
        self.suspect: Virtual | None = None
        self.checks_deferred = False

    @property
    def wrote(self) -> bool:
        """Something may have changed the database."""
        return self._stack.wrote

    def after_begin(self) -> list[str]:
        """What to run right after BEGIN."""
        return self._stack.after_begin()

    def before_commit(self) -> list[str]:
        """What to run right before COMMIT; it fails where the transaction is not in order."""
        return self._stack.before_commit()

    def before_rollback(self) -> list[str]:
        """What to run right before ROLLBACK; it fails where the transaction has ended."""
        return self._stack.before_rollback()

    def before(self, virtual: Virtual, kind: Kind) -> list[str]:
        """What to send before a statement, once the way is made for it."""
        if virtual.aborted:
            self._refuse_aborted()
        return self._stack.before(virtual, kind)

    def make_way(self, virtual: Virtual) -> Steps[None]:
        """Let one transaction go on although a statement of another has failed."""
        suspect = self.suspect
        if suspect is None or suspect is virtual:
            return
        if (yield from self._is_aborted()):
            yield from self._abandon(suspect)
        self.suspect = None

    def note_alone(self, kind: Kind) -> None:
        """Take note of a statement that commits by itself and is atomic by itself."""
        if kind is not Kind.READ:
            self._stack.note_alone()

    def before_unseen(self, virtual: Virtual) -> Steps[None]:
        """Make ready for something whose end is not seen: it may write, and may fail."""
        yield from self.make_way(virtual)
        if texts := self.before(virtual, Kind.WRITE):
            yield from self._connection.send(texts)
        self.note_failure(virtual, by_server=True)

    def note_failure(self, virtual: Virtual, *, by_server: bool) -> None:
        """A statement has failed; the server has refused it, or it never got there."""
        virtual.failed = True
        if by_server and self._is_postgresql:
            self.suspect = virtual

    def note_success(self, virtual: Virtual) -> None:
        """A statement has succeeded, or its transaction is over."""
        if self.suspect is virtual:
            self.suspect = None

    def is_broken(self, virtual: Virtual) -> Steps[bool]:
        """Tell whether the database refuses its statements until it is rolled back."""
        return virtual is self.suspect and (yield from self._is_aborted())

    def commit(self, virtual: Virtual) -> Steps[bool]:
        """A handler commits; tell whether that is no rollback."""
        if virtual is self.suspect and (yield from self._is_aborted()):
            # What COMMIT of a broken transaction does: nothing but roll back, without a word.
            logger.warning(
                "a handler commits a transaction whose statement has failed; it is rolled back"
            )
            yield from self.rollback(virtual)
            return False
        self.forget(virtual)
        return not virtual.aborted

    def is_to_check(self, virtual: Virtual) -> bool:
        """
        Tell whether something may be deferred until this transaction commits.

        While another one is open, nothing is checked: what it has done is not complete yet. What is
        deferred then fails the batch's own COMMIT, if it has to.
        """
        return (
            self.checks_deferred
            and virtual.wrote
            and virtual is not self.suspect
            and not self._stack.is_shared(virtual)
        )

    def check_deferred(self, virtual: Virtual) -> Steps[None]:
        """Check what is deferred until a handler commits; the error is what COMMIT would raise."""
        held = self._connection.held
        try:
            yield Send([*held, *_CHECKS])
        except BaseException as error:
            self.note_failure(virtual, by_server=isinstance(error, Exception))
            self._connection.note_failure(error)
            raise
        self._connection.held = ()

    def forget(self, virtual: Virtual) -> None:
        """A transaction is over that has nothing to commit or to undo."""
        self._stack.commit(virtual)
        self.note_success(virtual)

    def rollback(self, virtual: Virtual) -> Steps[None]:
        """A handler rolls back."""
        try:
            texts = self._stack.rollback(virtual)
        except OverlapError:
            self._refuse()
        suspect = self.suspect
        if texts:
            other = None if suspect is virtual else suspect
            mends = other is not None and (yield from self._is_aborted())
            yield from self._send_rollback(texts)
            if mends and other is not None:
                yield from self._undo_broken(other)
        elif (yield from self.is_broken(virtual)):
            self._refuse()
        self.note_success(virtual)

    def control(self, virtual: Virtual, kind: Kind, name: str) -> Steps[None]:
        """A handler sets a savepoint of its own, releases it, or rolls back to it."""
        if kind is not Kind.ROLLBACK_TO or self.suspect is not virtual:
            yield from self.make_way(virtual)
        if virtual.aborted and kind is not Kind.ROLLBACK_TO:
            self._refuse_aborted()
        act = {
            Kind.SAVEPOINT: self._stack.set_savepoint,
            Kind.RELEASE: self._stack.release,
            Kind.ROLLBACK_TO: self._stack.rollback_to,
        }[kind]
        try:
            texts = act(virtual, name)
        except KeyError:
            self._connection.status.refuse(
                f"a handler uses a savepoint that it has not set: {kind.value}"
            )
        except OverlapError:
            self._refuse()
        if kind is Kind.ROLLBACK_TO:
            yield from self._send_rollback(texts)
            self.note_success(virtual)
        elif texts:
            yield from self._connection.send(texts)

    def has_own(self, virtual: Virtual) -> bool:
        """Tell whether the handler has set savepoints that it has not released."""
        return self._stack.has_own(virtual)

    def is_shared(self, virtual: Virtual) -> bool:
        """Tell whether another transaction is open, and may hold locks."""
        return self._stack.is_shared(virtual)

    def _undo_broken(self, suspect: Virtual) -> Steps[None]:
        """Another's rollback has mended what a failed statement broke: not for its own handler."""
        self.suspect = None
        if suspect.mark is None:
            suspect.aborted = True  # that rollback has undone it already
        else:
            yield from self._abandon(suspect)

    def _abandon(self, suspect: Virtual) -> Steps[None]:
        try:
            texts = self._stack.abandon(suspect)
        except OverlapError:
            self._refuse()
        yield from self._send_rollback(texts)

    def _send_rollback(self, texts: list[str]) -> Steps[None]:
        self._settings.forget()
        yield from self._connection.send(texts)

    def _is_aborted(self) -> Steps[bool]:
        """Find out whether a failed statement makes PostgreSQL refuse all others."""
        known = self._connection.state.is_aborted()
        if known is not None:
            return known
        try:
            yield Ask("SELECT 1")
        except Exception as error:
            answer = answer_of(error)
            if answer is not None and answer.state == "25P02":
                return True
            self._connection.note_failure(error)
            raise
        return False

    def _refuse_aborted(self) -> NoReturn:
        self._connection.status.refuse(
            "a handler goes on with a transaction after a failed statement while another "
            "is open; roll it back first"
        )

    def _refuse(self) -> NoReturn:
        self._connection.status.refuse(_OVERLAP)
