"""Hang-up: work is cancelled as soon as the client that waits for it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_T = TypeVar("_T")
# Most answers are there before it is worth a task to watch for a hang-up.
_WATCH_AFTER_SECONDS = 0.02


async def unless_hung_up(answer: Awaitable[_T], receive: Receive) -> _T | None:
    """Await the answer; if the client hangs up, cancel it, wait for its end and return None."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    hung_up = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal hung_up
        if (await receive())["type"] == "http.disconnect" and task is not None:
            hung_up = True
            task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    try:
        return await answer
    except asyncio.CancelledError:
        if hung_up and task is not None and task.uncancel() == 0:
            return None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
