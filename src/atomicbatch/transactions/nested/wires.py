"""Wires: the event loop on which connections of async drivers live that outlive a test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_MOST_SECONDS_TO_STOP = 5


class Wires:
    """
    An event loop in a thread of its own; it starts when it is first needed.

    A connection of an async driver belongs to an event loop. Fixtures, tests and clients have
    several, which end one after the other, while what they store is in one transaction.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await something there, in this context."""
        loop = self._started()
        if asyncio.get_running_loop() is loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

    def run(self, awaitable: Awaitable[T]) -> T:
        """Wait for something there, in a thread that may be blocked."""

        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._started()).result()

    def are_here(self) -> bool:
        """Tell whether this is that event loop: it must not be waited for."""
        return self._loop is not None and asyncio._get_running_loop() is self._loop

    def stop(self) -> None:
        """End it; nothing may be left there."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_MOST_SECONDS_TO_STOP)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                # Not the app's policy: every driver works on asyncio's own.
                self._loop = asyncio.SelectorEventLoop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="atomicbatch-wires", daemon=True
                )
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
