"""
Batches follow their calls into threads.

Context variables do not. A handler that gives database work to ``loop.run_in_executor``, or to a
thread of its own, would leave the batch without noticing, and that work would be stored even if
the batch fails. So inside a batch, and only there, threads take the context along.

All threads of a pool may be busy with requests that wait for rows which the batch has locked. The
batch would wait for a thread, and they for the batch. So it gets a thread of its own then.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from functools import partial, wraps
from multiprocessing.pool import Pool, ThreadPool
from types import MethodType
from typing import Any, TypeVar

from atomicbatch import patches
from atomicbatch.engine.current import current_batch, inside_batch, outside_batch
from atomicbatch.engine.spawning import OURS, followed

T = TypeVar("T")
_WHY = "batches follow their calls into threads"
# From Python 3.14 on a thread can begin with a copy of the context of whoever starts it. It does so
# without the interpreter lock, or by -X thread_inherit_context.
_INHERITS = bool(getattr(sys.flags, "thread_inherit_context", False))
_UNKNOWN = object()
# Of multiprocessing.pool.ThreadPool; apply(), map() and starmap() come down to these.
_POOL = ("apply_async", "_map_async", "imap", "imap_unordered")


def install() -> None:
    """Let batches follow their calls into threads; doing it twice changes nothing."""
    patches.change(threading.Thread, "start", _start, why=_WHY)
    if "start" in vars(threading.Timer):
        # OpenTelemetry has replaced it, by one that calls the start of threads as it was before us.
        patches.change(threading.Timer, "start", _start, why=_WHY)
    patches.change(ThreadPoolExecutor, "submit", _submit, why=_WHY)
    for name in _POOL:
        if hasattr(Pool, name):
            patches.change(Pool, name, _give, why=_WHY)
    patches.when_imported("gevent.threadpool", _follow_threads_of_gevent)


def _follow_threads_of_gevent(module: Any) -> None:
    patches.change(module.ThreadPool, "spawn", _spawn, why=_WHY)


def uninstall() -> None:
    """Undo :func:`install`."""
    patches.undo(_WHY)


def _start(found: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start(self: threading.Thread) -> None:
        if inside_batch():
            run, context = self.run, copy_context()
            # A method, since Sentry, which changes run() too, looks for its __func__.
            self.run = MethodType(lambda _: _carry(context, run), self)  # type: ignore[method-assign]
        elif _INHERITS and getattr(self, "_context", _UNKNOWN) is None:
            self._context = _without_ours()  # type: ignore[attr-defined]
        found(self)

    return start


def _without_ours() -> Context:
    """
    Copy the current context without what belongs to a batch.

    Threads of a pool that is used inside a batch serve others later.
    """
    others = [one for one in copy_context().items() if not one[0].name.startswith(OURS)]
    context = Context()
    context.run(_set_all, others)
    return context


def _set_all(values: list[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in values:
        variable.set(value)


def _submit(found: Callable[..., Any]) -> Callable[..., Any]:
    def submit(self: ThreadPoolExecutor, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        batch = current_batch()
        if batch is None:
            return found(self, fn, *args, **kwargs)
        carried = partial(_carry, copy_context(), fn)
        pool = batch.own_pool(self._max_workers) if _is_full(self) else self
        # Outside the batch, since a thread that the pool starts now will serve others later.
        return outside_batch().run(found, pool, carried, *args, **kwargs)

    return submit


def _is_full(pool: ThreadPoolExecutor) -> bool:
    """
    Tell whether all threads of a pool are busy, and another thread would do as well.

    Another would not do where work is to run one by one, or where the app prepares each thread.
    """
    known: Any = pool
    return (
        type(pool) is ThreadPoolExecutor
        and known._max_workers > 1
        and len(known._threads) >= known._max_workers
        and known._idle_semaphore._value == 0
        and _initializer_of(known) is None
    )


def _initializer_of(pool: Any) -> Any:
    if hasattr(pool, "_create_worker_context"):  # Python 3.14
        return getattr(pool._create_worker_context(), "initializer", None)
    return pool._initializer


def _give(found: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(found)
    def give(self: Pool, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, ThreadPool) and inside_batch():
            func = partial(_carry, copy_context(), func)
        return found(self, func, *args, **kwargs)

    return give


def _spawn(found: Callable[..., Any]) -> Callable[..., Any]:
    def spawn(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if inside_batch():
            func = partial(_carry, copy_context(), func)
        return found(self, func, *args, **kwargs)

    return spawn


def _carry(context: Context, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """
    Call a function with the context of whoever gave it to this thread.

    What others have put into this thread's own context stays, like Sentry's scope.
    """
    # A copy, since only one thread at a time can enter a context.
    here = copy_context()
    here.run(_add, context)
    result: T = here.run(followed, func, *args, **kwargs)
    return result


def _add(context: Context) -> None:
    here = copy_context()
    for variable, value in context.items():
        if variable not in here:
            variable.set(value)
