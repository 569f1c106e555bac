"""Status: may the batch go on, and if not, why. Everybody in the join asks it; it asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from atomicbatch.errors import BrokenTransactionError, NotBatchableError, TransactionError


def _nowhere() -> str:
    return ""


class Status:
    """
    The status of one attempt at a batch.

    Attributes:
        active: The attempt has not ended.
        undone: It has been rolled back.
        error: Why it cannot be committed, or None.
        has_escaped: Something of it may be stored, although it cannot be committed.

    Args:
        place: Names the app's function that runs now, for messages; empty: nobody knows.
    """

    def __init__(self, place: Callable[[], str] = _nowhere) -> None:
        self.active = True
        self.undone = False
        self.error: TransactionError | None = None
        self.has_escaped = False
        self._place = place

    @property
    def may_go_on(self) -> bool:
        """The attempt has neither ended nor failed."""
        return self.active and self.error is None

    def check(self) -> None:
        """Refuse to go on after an error."""
        if self.error is not None:
            raise self.error

    def doom(self, error: TransactionError) -> None:
        """Note that the batch cannot be committed. The first reason counts."""
        if self.error is None and self.active:
            self.error = error

    def escaped(self, what: str) -> BrokenTransactionError:
        """Note that something may be stored already. That counts more than any other reason."""
        error = BrokenTransactionError(what)
        self.error, self.has_escaped = error, True
        return error

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: what a handler does cannot be made part of it."""
        raise self.refusal(what)

    def refusal(self, what: str) -> NotBatchableError:
        """Fail the batch, and make the error to raise. It names the app's function."""
        place = self._place()
        error = NotBatchableError(f"{what} ({place})" if place else what)
        self.doom(error)
        return error
