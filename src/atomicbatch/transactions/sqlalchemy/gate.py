"""Gates: one statement at a time on one connection, for threads and for tasks."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol

from sqlalchemy.util import await_only, concurrency


def _in_greenlet() -> bool:
    """Tell whether this code may wait by ``await_only()``."""
    spawned: type = import_module("sqlalchemy.util._concurrency_py3k")._AsyncIoGreenlet
    return isinstance(import_module("greenlet").getcurrent(), spawned)


# SQLAlchemy has had one of its own only since some 2.0 release.
in_greenlet: Callable[[], bool] = getattr(concurrency, "in_greenlet", _in_greenlet)


class Gate(Protocol):
    """
    A mutex.

    Attributes:
        inside: The context manager to enter and leave it.
    """

    inside: AbstractContextManager[object]

    def enter_now(self) -> bool:
        """Enter if nobody is inside."""

    def enter_within(self, seconds: float) -> bool:
        """Enter, or give up after some time; tell which."""

    def leave(self) -> None:
        """Leave it, after one of the two above."""

    def is_taken(self) -> bool:
        """Tell, in any thread, whether another thread or a task is inside."""

    def pause(self) -> None:
        """Instead of a statement that need not be sent."""


class ThreadGate:
    """For sync drivers, whose handlers may run in several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.inside: AbstractContextManager[object] = self._lock

    def enter_now(self) -> bool:
        return self._lock.acquire(blocking=False)

    def enter_within(self, seconds: float) -> bool:
        return self._lock.acquire(timeout=seconds)

    def leave(self) -> None:
        self._lock.release()

    def is_taken(self) -> bool:
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def pause(self) -> None:
        pass


class TaskGate:
    """
    For async drivers, inside SQLAlchemy's greenlets.

    Outside of them (a lazy load in async code, say) it raises MissingGreenlet, as the driver would,
    before anything is sent or noted: the handler may catch that and go on.

    asyncio.Lock would cost a switch of greenlets each time, even where nobody waits.
    """

    __slots__ = ("_inside", "_waiting", "inside")

    def __init__(self) -> None:
        self.inside: AbstractContextManager[object] = self
        self._inside = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __enter__(self) -> object:
        if not in_greenlet():
            await_only(_nothing())
        if not self._inside:
            self._inside = True
        else:
            await_only(self._wait())
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def leave(self) -> None:
        # It is handed over, not opened, so that nobody slips in between.
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._inside = False

    def is_taken(self) -> bool:
        return self._inside

    def pause(self) -> None:
        # SQLAlchemy takes it for a mistake if an async call has not awaited anything.
        await_only(_nothing())

    def enter_now(self) -> bool:
        if self._inside:
            return False
        self._inside = True
        return True

    def enter_within(self, seconds: float) -> bool:
        return self.enter_now() or bool(await_only(self._wait_within(seconds)))

    async def _wait_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wait()
        except TimeoutError:
            return False
        return True

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # it was our turn already
            raise


async def _nothing() -> None:
    pass
