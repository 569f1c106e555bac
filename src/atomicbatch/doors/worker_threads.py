"""
Threads of a process that works for a call in another process: the guard follows into them.

In the batch's own process, and in one that is forked from it, ``engine/contexts.py`` sees to that.
A process that was started anew, or before the batch, has no batch around its work that could be
followed: it has a watch alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial, wraps
from multiprocessing.pool import Pool, ThreadPool
from types import MethodType
from typing import Any, TypeVar

from atomicbatch import patches
from atomicbatch.guard.watch import Watch, watching

T = TypeVar("T")
_WHY = "the guard follows into the threads of other processes"
# Of multiprocessing.pool.ThreadPool; apply(), map() and starmap() come down to these.
_POOL = ("apply_async", "_map_async", "imap", "imap_unordered")


def change_threads() -> None:
    """Let what a call's work in this process gives to threads be watched as well; once."""
    patches.change(threading.Thread, "start", _start, why=_WHY)
    if "start" in vars(threading.Timer):  # see engine/contexts.py
        patches.change(threading.Timer, "start", _start, why=_WHY)
    patches.change(ThreadPoolExecutor, "submit", _submit, why=_WHY)
    for name in _POOL:
        patches.change(Pool, name, _give, why=_WHY)


def _start(found: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        if (watch := watching.get()) is not None:
            work = partial(_watched_by, watch, self.run)
            self.run = MethodType(lambda _: work(), self)  # type: ignore[method-assign]
        found(self)

    return start


def _submit(found: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: ThreadPoolExecutor, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        watch = watching.get()
        if watch is None:
            return found(self, fn, *args, **kwargs)
        # A thread that the pool starts now will serve others later.
        return Context().run(found, self, partial(_watched_by, watch, fn), *args, **kwargs)

    return submit


def _give(found: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(found)
    def give(self: Pool, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, ThreadPool) and (watch := watching.get()) is not None:
            func = partial(_watched_by, watch, func)
        return found(self, func, *args, **kwargs)

    return give


def _watched_by(watch: Watch, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    token = watching.set(watch)
    try:
        return func(*args, **kwargs)
    finally:
        watching.reset(token)
