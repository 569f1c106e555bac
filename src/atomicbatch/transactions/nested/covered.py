"""Savepoints that may be covered: by a transaction inside, with whose end too much would end."""

from __future__ import annotations

from collections.abc import Callable

from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.stack import Virtual
from atomicbatch.join.transaction import Transaction
from atomicbatch.sql.kinds import Kind


class CoveredSavepoints(Savepoints):
    """
    The savepoints of a transaction in which others may be open.

    Args:
        transaction: Whose they are.
        prefix: What their names begin with.
        check: Called before each write: it raises if that would be undone too early.
    """

    __slots__ = ("_check",)

    def __init__(self, transaction: Transaction, prefix: str, check: Callable[[], None]) -> None:
        super().__init__(transaction.connection, transaction.settings, prefix)
        self.checks_deferred = transaction.savepoints.checks_deferred
        self._check = check

    def before(self, virtual: Virtual, kind: Kind) -> list[str]:
        if kind is not Kind.READ:
            self._check()
        return super().before(virtual, kind)

    def note_alone(self, kind: Kind) -> None:
        if kind is not Kind.READ:
            self._check()
        super().note_alone(kind)
