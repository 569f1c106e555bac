"""Blocks: a transaction, with a watch on what its calls do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from atomicbatch.guard.places import Allowed
from atomicbatch.guard.watch import Watch, watching
from atomicbatch.model import Batch

B = TypeVar("B")
C = TypeVar("C")


def stopped_like(manager: object, block: B) -> B:
    """
    Let the time limit stop a block as it would stop the transaction inside of it.

    Args:
        manager: The transaction, with the methods that ``engine/deadline.py`` calls.
        block: What is around it; it gets the same methods.
    """
    for name in ("interrupt", "sever", "give_up"):
        if hasattr(manager, name):
            setattr(block, name, getattr(manager, name))
    return block


@asynccontextmanager
async def guarded(
    manager: AbstractAsyncContextManager[Any],
    allowed: Allowed,
    make: Callable[[Allowed], Watch] = Watch,
) -> AsyncIterator[Watch]:
    """
    Begin a transaction and watch what its calls do; the async twin of :func:`guarded_sync`.

    Args:
        manager: What an adapter's ``begin()`` has returned.
        allowed: What batches leave alone.
        make: Makes the watch.
    """
    watch = make(allowed)
    undone = True
    try:
        with _entering(watch) as entered:
            async with manager as joined:
                entered(joined)
                yield watch
                watch.check()
        undone = False
    finally:
        watch.end(undone=undone)


@contextmanager
def guarded_sync(
    manager: AbstractContextManager[Any],
    allowed: Allowed,
    make: Callable[[Allowed], Watch] = Watch,
) -> Iterator[Watch]:
    """Begin a transaction and watch what its calls do; the sync twin of :func:`guarded`."""
    watch = make(allowed)
    undone = True
    try:
        with _entering(watch) as entered, manager as joined:
            entered(joined)
            yield watch
            watch.check()
        undone = False
    finally:
        watch.end(undone=undone)


class Guarded(Generic[C]):
    """
    A sync transaction whose block is watched from begin to end.

    Args:
        transaction: The adapter; its attribute ``outside`` is looked at, if it has one.
    """

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self._allowed = Allowed.of(transaction)

    def begin(self, batch: Batch, *, deadline: float) -> AbstractContextManager[C]:
        """Begin the adapter's transaction; what is written past it inside is refused."""
        manager = self._transaction.begin(batch, deadline=deadline)
        return stopped_like(manager, self._begin(manager))

    @contextmanager
    def _begin(self, manager: AbstractContextManager[C]) -> Iterator[C]:
        with guarded_sync(manager, self._allowed) as watch, watch.call():
            joined: C = watch.joined
            yield joined


@contextmanager
def _entering(watch: Watch) -> Iterator[Callable[[Any], None]]:
    """Watch the beginning of a transaction, until it says what its block gives."""
    before = copy_context()
    token = watching.set(watch)
    is_over = False

    def over() -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            watching.reset(token)

    def entered(joined: Any) -> None:
        over()
        watch.begun(joined, before)

    try:
        yield entered
    finally:
        over()


@contextmanager
def watched(joined: Any, allowed: Allowed) -> Iterator[Watch | None]:
    """
    Watch the inside of a transaction, unless somebody else does already.

    Args:
        joined: What its block gives.
        allowed: What batches leave alone.
    """
    if watching.get() is not None:
        yield None
        return
    watch = Watch(allowed)
    watch.begun(joined, copy_context())
    token = watching.set(watch)
    try:
        yield watch
    finally:
        watching.reset(token)
        watch.hear(last=True)
