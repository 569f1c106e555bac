"""Attempts: the user's transaction, begun once for each attempt at a batch, with the app in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.entrance import Entrance, Stay
from atomicbatch.engine import AsyncTransaction
from atomicbatch.engine.current import RunningBatch
from atomicbatch.errors import ConflictError
from atomicbatch.guard import Allowed, guarded, stopped_like
from atomicbatch.model import Batch


class Attempts:
    """
    The attempts at one batch, as a transaction: each block gives a fresh Dispatcher.

    Args:
        transaction: The user's.
        allowed: What it leaves alone.
        dispatcher: Makes the dispatcher, given what the calls run inside of.
        running: The batch.
        entrance: Of the app.
    """

    def __init__(
        self,
        transaction: AsyncTransaction[Any],
        allowed: Allowed,
        dispatcher: Callable[[Any], Dispatcher],
        running: RunningBatch,
        entrance: Entrance,
    ) -> None:
        self._transaction = transaction
        self._allowed = allowed
        self._dispatcher = dispatcher
        self._running = running
        self._entrance = entrance
        self._has_to_be_alone = False
        self._number = 0
        self._stay: Stay | None = None

    def begin(self, batch: Batch, *, deadline: float) -> AbstractAsyncContextManager[Dispatcher]:
        """Begin the next attempt."""
        manager = self._transaction.begin(batch, deadline=deadline)
        block: Any = stopped_like(manager, self._begin(manager))
        block.give_up = partial(self._give_up, getattr(manager, "give_up", None))
        stopped: AbstractAsyncContextManager[Dispatcher] = block
        return stopped

    @asynccontextmanager
    async def _begin(self, manager: AbstractAsyncContextManager[Any]) -> AsyncIterator[Dispatcher]:
        self._running.attempt()
        self._number += 1
        wants_alone = getattr(self._transaction, "wants_alone", None)
        alone = self._has_to_be_alone or (wants_alone is not None and wants_alone())
        async with self._entrance.alone() if alone else self._entrance.shared() as self._stay:
            try:
                async with guarded(manager, self._allowed) as watch:
                    if hasattr(watch.joined, "is_alone"):
                        watch.joined.is_alone, watch.joined.number = self._is_alone, self._number
                    yield self._dispatcher(watch)
            except ConflictError as error:
                self._has_to_be_alone = self._has_to_be_alone or error.alone
                raise
            self._running.committed = True

    def _give_up(self, give_up: Callable[[], bool] | None) -> bool:
        """Leave the app: nobody waits for the attempt any more, however long it still runs."""
        if self._stay is not None:
            self._stay.end()
        # Without the method nobody can tell how far the transaction has come with COMMIT.
        return give_up is None or give_up()

    def _is_alone(self) -> bool:
        """Tell whether nobody in the app could hold up the batch. Called in any thread."""
        return self._entrance.batches + self._entrance.requests <= 1
