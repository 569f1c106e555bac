"""After COMMIT: what the calls have deferred is run, one after another, whatever fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeGuard, TypeVar

Act = Callable[[], object]
"""A deferred function, without arguments; it may be async."""
NextAct = Callable[[], tuple[Context, Act] | None]
"""Gives the next deferred function and the context that it runs in; None: there is none left."""

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Awaitable[T]]
"""Calls a function in a thread beside the event loop."""

logger = logging.getLogger("atomicbatch")
_EXITS = (SystemExit, KeyboardInterrupt)
# asyncio keeps tasks by weak references only.
_tasks: set[asyncio.Task[None]] = set()


def _no_loop(_: Act) -> bool:
    return False


hand_to_loop: Callable[[Act], bool] = _no_loop
"""Runs a function on the event loop that this worker thread works for; False: none is known.
``asgi/threads.py`` sets it."""


def in_any_thread(act: Callable[[], T]) -> Awaitable[T]:
    """Call a function in a thread of the event loop's own."""
    return asyncio.get_running_loop().run_in_executor(None, act)


async def run_all(next_act: NextAct, in_thread: InThread[Any] = in_any_thread) -> None:
    """
    Run all deferred functions, in order; sync ones by ``in_thread``.

    One that fails is logged and does not stop the rest, nor does one that is cancelled of its own
    doing. ``sys.exit()`` takes effect when all have run. When this task is cancelled, what has not
    begun does not begin.
    """
    exiting: BaseException | None = None
    while (deferred := next_act()) is not None:
        error = await _run_in(*deferred, in_thread)
        if _is_cancelled(error):
            raise error
        if isinstance(error, _EXITS):
            exiting = exiting or error
        elif error is not None:
            _log_failure(error)
    if exiting is not None:
        raise exiting


def run_all_here(next_act: NextAct) -> None:
    """Run all deferred functions in this thread; the sync twin of :func:`run_all`."""
    exiting: BaseException | None = None
    while (deferred := next_act()) is not None:
        context, act = deferred
        try:
            context.run(run_now, act)
        except _EXITS as error:
            exiting = exiting or error
        except BaseException as error:
            _log_failure(error)
    if exiting is not None:
        raise exiting


def run_now(act: Act) -> None:
    """
    Run a function at once. What it raises is raised here, unless it is async.

    An async function becomes a task: of the running event loop, or of the one that this worker
    thread works for. Where no loop is known, it runs to its end here, on a loop of its own.
    """
    result = act()
    if not inspect.isawaitable(result):
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if not hand_to_loop(partial(_start, result)):
            asyncio.run(_finish(result))
    else:
        _start(result)


def _start(awaitable: Awaitable[object]) -> None:
    task = asyncio.get_running_loop().create_task(_finish(awaitable))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _finish(awaitable: Awaitable[object]) -> None:
    """Await the rest of an async function; log what it raises."""
    error = await _error_of(awaitable)
    if _is_cancelled(error) or isinstance(error, _EXITS):
        raise error
    if error is not None:
        _log_failure(error)


# Errors are returned from tasks and threads rather than raised there: SystemExit would stop the
# event loop at once, and StopIteration cannot pass a future.


async def _run_in(context: Context, act: Act, in_thread: InThread[Any]) -> BaseException | None:
    """Run a deferred function in its context; return what it raises."""
    if _is_async(act):
        result, error = context.run(_called, act)
    else:
        # In a thread, for it may block, as a handler may that is no coroutine.
        result, error = await in_thread(partial(context.run, _called, act))
    if inspect.isawaitable(result):
        return await asyncio.get_running_loop().create_task(_error_of(result), context=context)
    return error


def _called(act: Act) -> tuple[Any, BaseException | None]:
    """Call a function; return its result, or what it raises."""
    try:
        return act(), None
    except BaseException as error:
        return None, error


async def _error_of(awaitable: Awaitable[object]) -> BaseException | None:
    """Await something; return what it raises."""
    try:
        await awaitable
    except BaseException as error:
        return error
    return None


def _is_cancelled(error: BaseException | None) -> TypeGuard[asyncio.CancelledError]:
    """Tell whether an error means that this very task was cancelled, and not something in it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _log_failure(error: BaseException) -> None:
    logger.error("a function that was deferred until after COMMIT failed", exc_info=error)


def _is_async(act: object) -> bool:
    while isinstance(act, partial):
        act = act.func
    return inspect.iscoroutinefunction(act) or inspect.iscoroutinefunction(
        getattr(act, "__call__", None)  # noqa: B004  # not whether, but what kind
    )
