"""
Worker threads for ``def`` handlers: those of a batch never wait for those of other requests.

anyio bounds worker threads to 40 for all requests together. Requests that wait for rows which a
batch holds may take all of them; the batch's next call would wait for a thread, they for the
batch, for ever. So every batch has a bound of its own.
"""

from __future__ import annotations

import sys
from typing import Any

from atomicbatch.engine.current import current_batch

# A call that gathers many blocking functions waits for itself at most.
_THREADS_PER_BATCH = 40


def install() -> None:
    """Give every batch worker threads of its own; again does nothing."""
    if "anyio" not in sys.modules:
        return
    from anyio import CapacityLimiter
    from anyio._backends import _asyncio

    # There is no public way to choose the limiter by context. Before anyio 4 backends were modules.
    backend: Any = getattr(_asyncio, "AsyncIOBackend", _asyncio)
    original = backend.current_default_thread_limiter
    if getattr(original, "atomicbatch", False):
        return

    def current_default_thread_limiter(*_: type) -> Any:
        batch = current_batch()
        if batch is None:
            return original()
        if batch.thread_limiter is None:
            batch.thread_limiter = CapacityLimiter(_THREADS_PER_BATCH)
        return batch.thread_limiter

    current_default_thread_limiter.atomicbatch = True  # type: ignore[attr-defined]
    backend.current_default_thread_limiter = (
        current_default_thread_limiter
        if backend is _asyncio
        else classmethod(current_default_thread_limiter)
    )
