"""Inside: one task at a time works on a batch's connection by an async driver."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager


class TaskInside(AbstractAsyncContextManager[None]):
    """A lock for tasks of one event loop; it is handed on in the order of asking."""

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._is_taken:
            await self._wait()
        self._is_taken = True

    async def __aexit__(self, *_: object) -> None:
        self.release()

    async def acquire_within(self, seconds: float) -> bool:
        """Take it, or give up after some time; tell which."""
        if self._is_taken:
            try:
                async with asyncio.timeout(seconds):
                    await self._wait()
            except TimeoutError:
                return False
        self._is_taken = True
        return True

    def release(self) -> None:
        """Hand it on, so that nobody slips in between."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._is_taken = False

    def is_taken(self) -> bool:
        """Tell, in any thread, whether a task is inside."""
        return self._is_taken

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # it was our turn already
            raise
