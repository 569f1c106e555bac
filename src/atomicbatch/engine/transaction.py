"""What the engine asks of a transaction: the two protocols, and Rollback."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

from atomicbatch.model import Batch

C_co = TypeVar("C_co", covariant=True)


class Rollback(Exception):
    """Leaves a transaction's block so that it rolls back; ``__cause__`` says why, if known."""


class Transaction(Protocol[C_co]):
    """Begins transactions; the whole contract is in ``transactions/contract.py``."""

    def begin(self, batch: Batch, *, deadline: float) -> AbstractContextManager[C_co]:
        """
        Enter: BEGIN, by ``deadline`` (time.monotonic()). Leave: COMMIT, or ROLLBACK.

        What it returns may have the methods that ``engine/deadline.py`` calls when time is up.
        """


class AsyncTransaction(Protocol[C_co]):
    """The async twin of Transaction."""

    def begin(self, batch: Batch, *, deadline: float) -> AbstractAsyncContextManager[C_co]:
        """Enter: BEGIN, by ``deadline`` (time.monotonic()). Leave: COMMIT, or ROLLBACK."""
