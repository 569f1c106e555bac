"""Afterwards: what was to be done after COMMIT is done, each on its own, whatever the others do."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any

Act = Callable[[], object]
logger = logging.getLogger("atomicbatch")
_FAILED = "something to be done after COMMIT failed"
# asyncio keeps tasks by weak references only.
_tasks: set[asyncio.Task[None]] = set()


def _no_loop(_: Act) -> bool:
    return False


hand_to_loop: Callable[[Act], bool] = _no_loop
"""Runs something on the event loop that this worker thread works for, or tells that it knows none;
``asgi/threads.py`` sets it."""


async def run_all(next_act: Callable[[], tuple[Context, Act] | None]) -> None:
    """
    Do one after the other what ``next_act`` gives, until it gives None.

    What fails is logged and does not stop the rest, be it cancelled by its own doing or by
    sys.exit(), which goes on when all is done.
    """
    exiting: BaseException | None = None
    while (given := next_act()) is not None:
        try:
            _log(await _run_in(*given))
        except (SystemExit, KeyboardInterrupt) as error:
            exiting = exiting or error
    if exiting is not None:
        raise exiting


def run_all_here(next_act: Callable[[], tuple[Context, Act] | None]) -> None:
    """Do the same in this thread; the sync twin of :func:`run_all`."""
    exiting: BaseException | None = None
    while (given := next_act()) is not None:
        context, act = given
        try:
            context.run(run_now, act)
        except (SystemExit, KeyboardInterrupt) as error:
            exiting = exiting or error
        except BaseException as error:
            logger.error(_FAILED, exc_info=error)
    if exiting is not None:
        raise exiting


def run_now(act: Act) -> None:
    """
    Do something at once; what it raises is raised, except that of an async function.

    That becomes a task. In a worker thread it becomes a task of the event loop that the thread
    works for. Where nobody knows that loop, it runs to its end here, on a loop of its own.
    """
    result = act()
    if not inspect.isawaitable(result):
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if not hand_to_loop(partial(_start, result)):
            asyncio.run(_logged(result))
    else:
        _start(result)


def _start(awaitable: Awaitable[object]) -> None:
    task = asyncio.get_running_loop().create_task(_logged(awaitable))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _logged(awaitable: Awaitable[object]) -> None:
    _log(await _awaited(awaitable))


async def _run_in(context: Context, act: Act) -> BaseException | None:
    """Do something in its context; return what it raises."""
    if _is_async(act):
        result, error = context.run(_called, act)
    else:
        # It may block, as a handler may that is no coroutine.
        loop = asyncio.get_running_loop()
        result, error = await loop.run_in_executor(None, context.run, _called, act)
    if inspect.isawaitable(result):
        return await asyncio.get_running_loop().create_task(_awaited(result), context=context)
    return error


# Errors are returned from tasks and threads rather than raised there: SystemExit would stop the
# event loop at once, and StopIteration cannot pass a future.


def _called(act: Act) -> tuple[Any, BaseException | None]:
    try:
        return act(), None
    except BaseException as error:
        return None, error


async def _awaited(awaitable: Awaitable[object]) -> BaseException | None:
    try:
        await awaitable
    except BaseException as error:
        return error
    return None


def _log(error: BaseException | None) -> None:
    """Log what went wrong, unless it is none of its own: that this very task is to end."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    if isinstance(error, SystemExit | KeyboardInterrupt):
        raise error
    if error is not None:
        logger.error(_FAILED, exc_info=error)


def _is_async(act: object) -> bool:
    while isinstance(act, partial):
        act = act.func
    return inspect.iscoroutinefunction(act) or inspect.iscoroutinefunction(
        getattr(act, "__call__", None)  # noqa: B004  # not whether, but what kind
    )
