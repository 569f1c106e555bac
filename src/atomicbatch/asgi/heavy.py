"""
Heavy work: big bodies are read, written and compressed in threads beside the event loop.

Small ones are handled on the event loop. A thread that works in Python makes the loop wait for
Python's lock, 5 ms at a time (``sys.getswitchinterval``), which is longer than a small body takes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

INLINE_BYTES = 256 * 1024
"""Bodies up to here are handled on the event loop: some 4 ms of work, compressing included
(``benchmarks/stalls.py``)."""
PIECE_BYTES = 256 * 1024
"""A response is sent in pieces, so that a server can wait for a slow client between two of them."""
# The work holds Python's lock most of the time, so that more threads would gain nothing.
_MAX_THREADS = 2


class _Threads:
    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="atomicbatch-bodies")


_threads = _Threads()


async def work(size: int, act: Callable[[], T], *, inline_bytes: int = INLINE_BYTES) -> T:
    """
    Do something with bytes without holding up the event loop.

    Args:
        size: How many bytes.
        act: Called here, or in a thread where they are many.
        inline_bytes: How many are not many yet.
    """
    if size <= inline_bytes:
        return act()
    return await asyncio.get_running_loop().run_in_executor(_threads.pool, act)


def submit(act: Callable[[T], object], argument: T) -> None:
    """Do something in a thread beside the event loop; it must not raise."""
    _threads.pool.submit(act, argument)
