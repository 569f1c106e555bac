"""Handlers' transactions as savepoints on the real connection, also after a failed statement."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from atomicbatch.join.stack import OverlapError, Stack, Virtual
from atomicbatch.sql.statements import Family, Kind

if TYPE_CHECKING:
    from atomicbatch.transactions.sqlalchemy.real import RealTransaction

logger = logging.getLogger("atomicbatch")
_OVERLAP = (
    "two transactions of one call overlap, and the one that rolls back has changed something, as "
    "has the other since; let the call use one session, or end one before it begins the other"
)


class Savepoints:
    """
    Sends what the stack of virtual transactions says.

    On PostgreSQL a statement that fails breaks the real transaction: the server refuses everybody's
    statements until there is a ROLLBACK TO. Here its own virtual transaction alone is broken; when
    another one wants to go on, what the broken one has done is undone.
    """

    __slots__ = ("_family", "_real", "_stack", "_suspect")

    def __init__(self, real: RealTransaction) -> None:
        self._real = real
        self._family = real.family
        self._stack = Stack(real.family)
        # Whose statement failed last, so that PostgreSQL may refuse everybody's.
        self._suspect: Virtual | None = None

    @property
    def wrote(self) -> bool:
        """Something may have changed the database."""
        return self._stack.wrote

    def begin(self) -> list[str]:
        """What to run right after BEGIN."""
        return self._stack.begin()

    def end(self) -> list[str]:
        """What to run right before COMMIT; it fails where the transaction is not in order."""
        return self._stack.end()

    def undo(self) -> list[str]:
        """What to run right before ROLLBACK; it fails where the transaction has ended."""
        return self._stack.undo()

    def before(self, virtual: Virtual, kind: Kind) -> None:
        """Make ready for a statement of a virtual transaction."""
        if self._suspect is not None:
            self._make_way(virtual)
        self._check_aborted(virtual)
        if sql := self._stack.before(virtual, kind):
            self._real.send(sql)

    def alone(self, kind: Kind) -> None:
        """Make ready for a statement that commits by itself and is atomic by itself."""
        if kind is not Kind.READ:
            self._stack.alone()

    def fetching(self, virtual: Virtual) -> None:
        """Make ready to fetch rows that are still in the server."""
        self._make_way(virtual)

    def failed(self, virtual: Virtual, *, by_server: bool) -> None:
        """A statement has failed; the server has refused it, or it never got there."""
        virtual.failed = True
        if by_server and self._family is Family.POSTGRESQL:
            self._suspect = virtual

    def succeeded(self, virtual: Virtual) -> None:
        """A statement has succeeded, or its transaction is over."""
        if self._suspect is virtual:
            self._suspect = None

    def is_broken(self, virtual: Virtual) -> bool:
        """Tell whether the database refuses its statements until it is rolled back."""
        return virtual is self._suspect and self._real.is_aborted()

    def unseen(self, virtual: Virtual) -> None:
        """Make ready for something whose end is not seen: it may write, and may fail."""
        self.before(virtual, Kind.WRITE)
        self.failed(virtual, by_server=True)

    def commit(self, virtual: Virtual) -> None:
        """A handler commits."""
        if self.is_broken(virtual):
            # What COMMIT of a broken transaction does: nothing but roll back, without a word.
            logger.warning(
                "a handler commits a transaction whose statement has failed; it is rolled back"
            )
            self.rollback(virtual)
            return
        self._real.send(self._stack.commit(virtual))
        self.succeeded(virtual)

    def rollback(self, virtual: Virtual) -> None:
        """A handler rolls back."""
        try:
            sql = self._stack.rollback(virtual)
        except OverlapError:
            self._refuse()
        suspect = self._suspect
        if sql:
            mended = suspect not in (None, virtual) and self._real.is_aborted()
            self._real.send(sql)
            if mended and suspect is not None:
                self._undo_broken(suspect)
        elif self.is_broken(virtual):
            self._refuse()
        self.succeeded(virtual)

    def control(self, virtual: Virtual, kind: Kind, name: str) -> None:
        """A handler sets a savepoint of its own, releases it, or rolls back to it."""
        if kind is not Kind.ROLLBACK_TO or self._suspect is not virtual:
            self._make_way(virtual)
        if kind is not Kind.ROLLBACK_TO:
            self._check_aborted(virtual)
        act = {
            Kind.SAVEPOINT: self._stack.savepoint,
            Kind.RELEASE: self._stack.release,
            Kind.ROLLBACK_TO: self._stack.rollback_to,
        }[kind]
        try:
            sql = act(virtual, name)
        except KeyError:
            self._real.refuse(f"a handler uses a savepoint that it has not set: {kind.value}")
        except OverlapError:
            self._refuse()
        self._real.send(sql)
        if kind is Kind.ROLLBACK_TO:
            self.succeeded(virtual)

    def inside(self, virtual: Virtual) -> bool:
        """Tell whether the handler has set savepoints that it has not released."""
        return self._stack.inside(virtual)

    def shared(self, virtual: Virtual) -> bool:
        """Tell whether another transaction is open, and may hold locks."""
        return self._stack.shared(virtual)

    def _check_aborted(self, virtual: Virtual) -> None:
        if virtual.aborted:
            self._real.refuse(
                "a handler goes on with a transaction after a failed statement while another "
                "is open; roll it back first"
            )

    def _make_way(self, virtual: Virtual) -> None:
        """Let one transaction go on although a statement of another has failed."""
        suspect = self._suspect
        if suspect is None or suspect is virtual:
            return
        if self._real.is_aborted():
            self._abandon(suspect)
        self._suspect = None

    def _undo_broken(self, suspect: Virtual) -> None:
        """Another's rollback has mended what a failed statement broke: not for its own handler."""
        self._suspect = None
        if suspect.mark is None:
            suspect.aborted = True  # that rollback has undone it already
        else:
            self._abandon(suspect)

    def _abandon(self, suspect: Virtual) -> None:
        try:
            sql = self._stack.abandon(suspect)
        except OverlapError:
            self._refuse()
        self._real.send(sql)

    def _refuse(self) -> NoReturn:
        self._real.refuse(_OVERLAP)
