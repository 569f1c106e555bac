"""
anyio and batches: worker threads for ``def`` handlers, their event loop, and cancel scopes.

anyio allows 40 worker threads for all requests together. Requests that wait for rows of a batch may
take all of them. Then the batch's next call waits for a thread, and they wait for the batch, for
ever. So every batch has a bound of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.engine import after_commit
from atomicbatch.engine.current import current_batch


def install() -> None:
    """Give every batch worker threads of its own, whenever anyio is imported."""
    patches.when_imported("anyio._backends._asyncio", _bound_by_batch)


def shielded() -> AbstractContextManager[object]:
    """
    Keep out the cancel scopes of anyio that are around us.

    They cancel a task again in every round of the event loop, until it leaves them. A task that has
    to wait for something before it can leave would keep the loop busy.
    """
    if "anyio" not in sys.modules:
        return nullcontext()
    from anyio import CancelScope

    return CancelScope(shield=True)


def _bound_by_batch(backends: ModuleType) -> None:
    # There is no public way to choose the limiter by context. Before anyio 4 backends were modules.
    owner: Any = getattr(backends, "AsyncIOBackend", backends)
    why = "every batch has worker threads of its own"
    patches.change(owner, "current_default_thread_limiter", _limiter_of_batch, why=why)
    after_commit.hand_to_loop = _hand_to_loop


def _limiter_of_batch(found: Callable[[], Any]) -> Callable[[], Any]:
    def current_default_thread_limiter() -> Any:
        batch = current_batch()
        if batch is None:
            return found()
        if batch.thread_limiter is None:
            from anyio import CapacityLimiter

            batch.thread_limiter = CapacityLimiter(batch.take_threads())
        return batch.thread_limiter

    return current_default_thread_limiter


def _hand_to_loop(act: Callable[[], object]) -> bool:
    from anyio import from_thread

    try:
        from_thread.run_sync(act)
    except RuntimeError:
        return False  # not one of anyio's threads, or its event loop has ended
    return True
