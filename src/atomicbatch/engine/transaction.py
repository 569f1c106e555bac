"""What the engine asks of a transaction: the two protocols, Rollback, and several made one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, TypeVar

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


T = TypeVar("T")


def as_one(transaction: T | Sequence[T]) -> T:
    """
    Make one transaction of what an endpoint was given.

    Args:
        transaction: One, or a sequence of two that know each other: of the first, or of the second,
            ``together_with(other)`` makes what begins both.

    Raises:
        TypeError: They do not know each other, or one is a class that nobody has called.
    """
    for given in transaction if isinstance(transaction, list | tuple) else (transaction,):
        if isinstance(given, type):
            name = given.__name__
            raise TypeError(f"transaction={name} is a class: give what it makes, {name}()")
    if not isinstance(transaction, list | tuple):
        return transaction  # type: ignore[return-value]
    if len(transaction) == 1:
        only: T = transaction[0]
        return only
    for one, other in (transaction, transaction[::-1]) if len(transaction) == 2 else ():
        together: Any = getattr(one, "together_with", None)
        made: T | None = together(other) if together is not None else None
        if made is not None:
            return made
    names = ", ".join(type(one).__name__ for one in transaction)
    raise TypeError(
        f"transaction=[{names}]: an app has one transaction for its batches, or "
        f"[SQLAlchemyTransaction(), DriverTransaction()]"
    )
