"""Slots: at most so many batches hold a connection to one database; they stand in line."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

_LOOK_UP_SECONDS = 0.25


class Slots:
    """
    A counting semaphore for threads and tasks of any event loop.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], bool]] = deque()

    def take_now(self) -> bool:
        """Take a slot if one is free; tell whether it was."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
        return False

    def take(self, deadline: float, *, stopped: Callable[[], bool] = lambda: False) -> bool:
        """
        Wait for a slot until ``deadline`` (time.monotonic()), in a thread that may be blocked.

        Args:
            deadline: When to stop waiting.
            stopped: Asked now and then: nobody waits for it any more.

        Returns:
            Whether there is one.
        """
        if self.take_now():
            return True
        waiter = self._join_line(_ThreadWaiter())
        try:
            while True:
                seconds = max(0.0, deadline - time.monotonic())
                if waiter.wait(min(seconds, _LOOK_UP_SECONDS)):
                    return True
                if seconds <= _LOOK_UP_SECONDS or stopped():
                    break
        except BaseException:
            self._leave_line(waiter)
            raise
        # Called in the last moment: then it is ours.
        return not self._forget(waiter)

    async def take_async(
        self, deadline: float, *, stopped: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for a slot on an event loop, as :meth:`take` does in a thread."""
        if self.take_now():
            return True
        waiter = self._join_line(_TaskWaiter())
        try:
            while True:
                seconds = max(0.0, deadline - time.monotonic())
                if await waiter.wait(min(seconds, _LOOK_UP_SECONDS)):
                    return True
                if seconds <= _LOOK_UP_SECONDS or stopped():
                    break
        except BaseException:
            self._leave_line(waiter)
            raise
        return not self._forget(waiter)

    def _join_line(self, waiter: W) -> W:
        with self._lock:
            if self._free:
                self._free -= 1
                waiter.call()
            else:
                self._waiting.append(waiter.call)
        return waiter

    def _leave_line(self, waiter: _ThreadWaiter | _TaskWaiter) -> None:
        if not self._forget(waiter):
            self.give()

    def give(self) -> None:
        """Give a slot back; whoever has waited longest gets it."""
        with self._lock:
            while self._waiting:
                if self._waiting.popleft()():
                    return
            self._free += 1

    def _forget(self, waiter: _ThreadWaiter | _TaskWaiter) -> bool:
        with self._lock:
            try:
                self._waiting.remove(waiter.call)
            except ValueError:
                return False
            return True


class _ThreadWaiter:
    def __init__(self) -> None:
        self._event = threading.Event()

    def call(self) -> bool:
        self._event.set()
        return True

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)


class _TaskWaiter:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def call(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._called)
        except RuntimeError:  # its loop has been closed
            return False
        return True

    def _called(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> bool:
        done, _ = await asyncio.wait((self._future,), timeout=seconds)
        return bool(done)


W = TypeVar("W", _ThreadWaiter, _TaskWaiter)
