"""How code inside a call finds the batch that runs around it: inside_batch, on_commit."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec

P = ParamSpec("P")
logger = logging.getLogger("atomicbatch")


class RunningBatch:
    """
    One running batch; outlives it in the contexts of tasks that its calls have left behind.

    Attributes:
        active: It has not ended.
        committed: COMMIT has returned.
        thread_limiter: What bounds its calls' worker threads; belongs to ``asgi/threads.py``.
    """

    __slots__ = ("_waiting", "active", "committed", "thread_limiter")

    def __init__(self) -> None:
        self.active = True
        self.committed = False
        self.thread_limiter: Any = None
        self._waiting: list[tuple[Context, Callable[[], object]]] = []

    def attempt(self) -> None:
        """Begin an attempt: what earlier ones wanted done after COMMIT is forgotten."""
        self._waiting.clear()

    def defer(self, act: Callable[[], object]) -> None:
        """Do something after COMMIT, in the context that is current now."""
        self._waiting.append((copy_context(), act))

    async def run_deferred(self) -> None:
        """
        Do what was to be done after COMMIT, in order; nothing if there was none.

        What fails is logged, and does not stop the rest.
        """
        if not self.committed:
            self._waiting.clear()
            return
        while self._waiting:
            context, act = self._waiting.pop(0)
            try:
                await _run_in(context, act)
            except Exception:
                logger.exception("something to be done after COMMIT failed")


async def _run_in(context: Context, act: Callable[[], object]) -> None:
    if _is_async(act):
        result = context.run(act)
    else:
        # It may block, as a handler may that is no coroutine.
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(None, context.run, act)
    if inspect.isawaitable(result):
        await asyncio.get_running_loop().create_task(_awaited(result), context=context)


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable


def _is_async(act: object) -> bool:
    while isinstance(act, partial):
        act = act.func
    return inspect.iscoroutinefunction(act) or inspect.iscoroutinefunction(
        getattr(act, "__call__", None)  # noqa: B004  # not whether, but what kind
    )


# A context variable, because it follows a call into worker threads, tasks and middleware.
_running: ContextVar[RunningBatch | None] = ContextVar("atomicbatch_running", default=None)
# asyncio keeps tasks by weak references only.
_tasks: set[asyncio.Task[None]] = set()


def current_batch() -> RunningBatch | None:
    """Return the batch that runs around this code and has not ended yet, or None."""
    running = _running.get()
    return running if running is not None and running.active else None


def inside_batch() -> bool:
    """Tell whether this code runs inside a call of a batch that has not ended yet."""
    return current_batch() is not None


def on_commit(function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """
    Call a function once the work of this call is stored for good.

    Inside a batch: after its COMMIT, once its response has been sent, and never if it is rolled
    back; functions run one after the other, in the order of their registration, each in the
    context (of context variables) of its call. Outside a batch: now.

    Args:
        function: Sync (called in a worker thread) or async. What it raises is logged. Outside a
            batch a sync function is called here, and what it raises is raised here; an async one
            becomes a task.
        args: Passed on.
        kwargs: Passed on.
    """
    act = partial(function, *args, **kwargs)
    batch = current_batch()
    if batch is not None:
        batch.defer(act)
        return
    result = act()
    if inspect.isawaitable(result):
        task = asyncio.get_running_loop().create_task(_logged(result))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def _logged(awaitable: Awaitable[object]) -> None:
    try:
        await awaitable
    except Exception:
        logger.exception("something to be done after COMMIT failed")


@contextmanager
def running_batch(running: RunningBatch | None = None) -> Iterator[RunningBatch]:
    """Mark everything started inside the block as part of a batch, until the block ends."""
    running = running or RunningBatch()
    token = _running.set(running)
    try:
        yield running
    finally:
        running.active = False
        _running.reset(token)


def outside_batch() -> Context:
    """Make a copy of the current context in which no batch is running."""
    context = copy_context()
    context.run(_running.set, None)
    return context
