"""
Batches follow their calls into threads.

Context variables do not: a handler that gives database work to ``loop.run_in_executor`` or to a
thread of its own would leave the batch without noticing, and what is done there would be stored
although the batch fails. So inside a batch, and only there, threads take the context along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial, wraps
from multiprocessing.pool import Pool, ThreadPool
from typing import Any, TypeVar

from atomicbatch.engine.current import inside_batch, outside_batch

T = TypeVar("T")
_submit: Any = ThreadPoolExecutor.submit
_start = threading.Thread.start


@wraps(_submit)
def submit(
    self: ThreadPoolExecutor, fn: Callable[..., T], /, *args: Any, **kwargs: Any
) -> Future[T]:
    if not inside_batch():
        plain: Future[T] = _submit(self, fn, *args, **kwargs)
        return plain
    context = copy_context()
    # Outside: a thread that the pool starts now will serve others later.
    future: Future[T] = outside_batch().run(_submit, self, context.run, fn, *args, **kwargs)
    return future


@wraps(_start)
def start(self: threading.Thread) -> None:
    if inside_batch():
        self.run = partial(copy_context().run, self.run)  # type: ignore[method-assign]
    _start(self)


def _following(original: Any) -> Any:
    """Let functions given to a multiprocessing.pool.ThreadPool take the context along."""

    @wraps(original)
    def give(self: Pool, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, ThreadPool) and inside_batch():
            func = partial(_run_in_copy, copy_context(), func)
        return original(self, func, *args, **kwargs)

    return give


def _run_in_copy(context: Context, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    # Of a copy: a context can be entered by one thread at a time.
    return context.copy().run(func, *args, **kwargs)


# apply(), map() and starmap() come down to these.
_POOL = {
    name: getattr(Pool, name)
    for name in ("apply_async", "_map_async", "imap", "imap_unordered")
    if hasattr(Pool, name)
}


def install() -> None:
    """Let batches follow their calls into threads; again does nothing."""
    for name, original in _POOL.items():
        setattr(Pool, name, _following(original))
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign,assignment]
    threading.Thread.start = start  # type: ignore[method-assign]


def uninstall() -> None:
    """Undo :func:`install`."""
    for name, original in _POOL.items():
        setattr(Pool, name, original)
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]
    threading.Thread.start = _start  # type: ignore[method-assign]
