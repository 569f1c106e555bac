"""
Batches follow their calls into threads.

Context variables do not: a handler that gives database work to ``loop.run_in_executor`` or to a
thread of its own would leave the batch without noticing, and what is done there would be stored
although the batch fails. So inside a batch, and only there, threads take the context along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial, wraps
from multiprocessing.pool import Pool, ThreadPool
from types import MethodType
from typing import Any, TypeVar

from atomicbatch import patches
from atomicbatch.engine.current import inside_batch, outside_batch

T = TypeVar("T")
_WHY = "batches follow their calls into threads"
# Of multiprocessing.pool.ThreadPool; apply(), map() and starmap() come down to these.
_POOL = ("apply_async", "_map_async", "imap", "imap_unordered")


def install() -> None:
    """Let batches follow their calls into threads; again does nothing."""
    patches.change(threading.Thread, "start", _start, why=_WHY)
    if "start" in vars(threading.Timer):
        # OpenTelemetry has given it one of its own, which knows the former start of threads only.
        patches.change(threading.Timer, "start", _start, why=_WHY)
    patches.change(ThreadPoolExecutor, "submit", _submit, why=_WHY)
    for name in _POOL:
        if hasattr(Pool, name):
            patches.change(Pool, name, _give, why=_WHY)


def uninstall() -> None:
    """Undo :func:`install`."""
    patches.undo(_WHY)


def _start(found: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        if inside_batch():
            run, context = self.run, copy_context()
            # A method, since others who change run() as well look for __func__ (Sentry).
            self.run = MethodType(lambda _: _carry(context, run), self)  # type: ignore[method-assign]
        found(self)

    return start


def _submit(found: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: ThreadPoolExecutor, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        if not inside_batch():
            return found(self, fn, *args, **kwargs)
        carried = partial(_carry, copy_context(), fn)
        # Outside: a thread that the pool starts now will serve others later.
        return outside_batch().run(found, self, carried, *args, **kwargs)

    return submit


def _give(found: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(found)
    def give(self: Pool, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, ThreadPool) and inside_batch():
            func = partial(_carry, copy_context(), func)
        return found(self, func, *args, **kwargs)

    return give


def _carry(context: Context, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """
    Call a function with the context of whoever has given it to this thread.

    What others have put into this thread's context for it stays: Sentry's scope, say.
    """
    # A copy: a context can be entered by one thread at a time.
    here = copy_context()
    here.run(_add, context)
    return here.run(func, *args, **kwargs)


def _add(context: Context) -> None:
    here = copy_context()
    for variable, value in context.items():
        if variable not in here:
            variable.set(value)
