"""Hang-up: under any ASGI server, work is ended as soon as the client that waits for it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_T = TypeVar("_T")
# Most answers are there before it is worth a task to watch for a hang-up.
_WATCH_AFTER_SECONDS = 0.02


async def unless_hung_up(
    answer: asyncio.Future[_T], abandon: Callable[[], None], receive: Receive
) -> _T | None:
    """
    Await an answer; if the client hangs up, abandon it, wait for its end and return None.

    The same is done if the caller is cancelled, however often; the cancellation then goes on.

    Args:
        answer: Comes also, and soon, after ``abandon``.
        abandon: Says that nobody waits for the answer any more.
        receive: ASGI's.
    """
    loop = asyncio.get_running_loop()
    watching: asyncio.Task[None] | None = None
    hung_up = False

    async def watch() -> None:
        nonlocal hung_up
        if (await receive())["type"] == "http.disconnect":
            hung_up = True
            abandon()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not answer.done():
            try:
                await asyncio.wait((answer,))
            except asyncio.CancelledError as error:
                cancelled = error
                abandon()
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
    if cancelled is not None:
        raise cancelled
    return None if hung_up else answer.result()
