"""Wires: the event loop on which connections of async drivers live that outlive a test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

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
        # Tasks of that loop that must not be cancelled.
        self._inside: set[asyncio.Task[Any]] = set()

    async def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await something there, in this context."""
        loop = self._started()
        if asyncio.get_running_loop() is loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

    async def do_whole(
        self, coroutine: Coroutine[Any, Any, T], stop: Callable[[], None] | None = None
    ) -> T:
        """
        Await something there that must come to its end, also when whoever awaits it is cancelled.

        A driver closes a connection whose statement is cancelled, and the wire is for all tests.

        Args:
            coroutine: What to await. It says :meth:`note_inside` when it must not be cancelled.
            stop: Asks the server to end it; never blocks. None: it does not take long.
        """
        loop = self._started()
        if asyncio.get_running_loop() is loop:
            return await coroutine
        work = _Work(coroutine, self._inside, stop)
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work.run(), loop))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not done.done():
                loop.call_soon_threadsafe(work.give_up)
                await _end_of(done)
            raise

    def note_inside(self) -> None:
        """The task that runs works on a wire from now on."""
        task = asyncio.current_task()
        if task is not None:
            self._inside.add(task)

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


class _Work(Generic[T]):
    """
    Something that is awaited on the event loop of the wires.

    Args:
        coroutine: What is awaited.
        inside: The tasks that must not be cancelled.
        stop: Asks the server to end it.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        inside: set[asyncio.Task[Any]],
        stop: Callable[[], None] | None,
    ) -> None:
        self._coroutine = coroutine
        self._inside = inside
        self._stop = stop
        self._task: asyncio.Task[Any] | None = None
        self._is_given_up = False

    async def run(self) -> T:
        """Await it."""
        if self._is_given_up:
            self._coroutine.close()
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            return await self._coroutine
        finally:
            if self._task is not None:
                self._inside.discard(self._task)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._is_given_up = True
        if self._task not in self._inside:
            if self._task is not None:
                self._task.cancel()
        elif self._stop is not None:
            self._stop()


async def _end_of(done: asyncio.Future[Any]) -> None:
    """Wait for it, also if that is cancelled once more; but not for ever."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _MOST_SECONDS_TO_STOP
    while not done.done() and (seconds := until - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait((done,), timeout=seconds)
    done.cancel()
    if not done.cancelled():
        done.exception()  # it is nobody's any more
