"""
Blind spots: what audit hooks do not see is watched by other means while an examination runs.

- multiprocessing has its own ways to start processes, and some processes wait for work.
- Tasks: the event loop's task factory sees them start. Threads: their ``start`` method does.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

from atomicbatch import patches
from atomicbatch.doctor.watching import current_watch
from atomicbatch.engine.current import inside_batch

_WHY = "an examination watches what a call does outside of the transaction"
# Their threads wait for work of any call. aiosqlite's belong to connections, which are watched.
_POOLS = ("anyio.", "aiosqlite.", "concurrent.futures.", "psycopg_pool.")
# Starting a process is refused. Processes that already run get their work through the others; all
# ways into a pool go through its _check_running().
_MULTIPROCESSING = (
    ("multiprocessing.process", "BaseProcess", "start"),
    ("multiprocessing.pool", "Pool", "_check_running"),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
)


@contextmanager
def processes() -> Iterator[None]:
    """Inside the block, watch whoever starts a process of multiprocessing or gives it work."""
    places = [
        (getattr(sys.modules.get(module), owner, None), name)
        for module, owner, name in _MULTIPROCESSING
    ]
    with patches.changed(*places, make=_in_this_process, why=_WHY):
        yield


def _in_this_process(found: Callable[..., Any]) -> Callable[..., Any]:
    def give(self: object, *args: Any, **kwargs: Any) -> Any:
        watch = current_watch()
        if watch is not None and not isinstance(self, ThreadPool):
            raise watch.refuse_program("another process (multiprocessing)")
        return found(self, *args, **kwargs)

    return give


@contextmanager
def tasks() -> Iterator[None]:
    """Inside the block, watch the tasks that calls start in this event loop."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if before is None:
            task: Any = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = before(loop, coroutine, **options)
        watch = current_watch()
        if watch is not None:
            watch.take_down(task)
        return task

    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


@contextmanager
def threads() -> Iterator[None]:
    """Inside the block, watch the threads that calls start, except those of thread pools."""
    with patches.changed((threading.Thread, "start"), make=_taken_down, why=_WHY):
        yield


def _taken_down(found: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        watch = current_watch()
        if watch is not None and inside_batch() and not _is_pool(self):
            watch.take_down_thread(self)
        found(self)

    return start


def _is_pool(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(f"{module}.".startswith(_POOLS) for module in modules)
