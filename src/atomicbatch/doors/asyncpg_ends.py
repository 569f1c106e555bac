"""
Ends of a copy: what COPY reads from, and what it writes to, is awaited on the app's event loop.

It belongs to that loop: a file that is read in its threads, or the app's own generator. The wire
may live on another one (see ``transactions/nested/wires.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def at_home(end: Any) -> Any:
    """Give something that stands for an end, on whichever loop it is used; anything else as is."""
    loop = asyncio.get_running_loop()
    if hasattr(end, "__aiter__"):
        return _parts(end, loop)
    if callable(end):
        return partial(_awaited, loop, end)
    return end


async def _parts(source: Any, loop: asyncio.AbstractEventLoop) -> AsyncIterator[Any]:
    parts = aiter(source)
    while True:
        try:
            part = await _awaited(loop, parts.__anext__)
        except StopAsyncIteration:
            return
        yield part


async def _awaited(
    loop: asyncio.AbstractEventLoop, act: Callable[..., Awaitable[T]], *args: Any
) -> T:
    if asyncio.get_running_loop() is loop:
        return await act(*args)

    async def acted() -> T:
        return await act(*args)

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(acted(), loop))
