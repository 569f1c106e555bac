"""
Tasks: each call has a task of its own, which begins at once.

A task that the event loop makes begins in the loop's next round, and whoever awaits it goes on in
the round after. To a handler that waits for nothing these two rounds cost more than all else that
is ours. A task that begins at once runs up to its first wait before anybody else does. If it never
waits, it has ended by then. To the code inside it is a task like any other: ``current_task()``,
cancelling, time limits, cancel scopes and context variables are its own.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from types import FunctionType
from typing import Any

Begin = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


def beginner(loop: asyncio.AbstractEventLoop) -> Begin:
    """
    Choose how tasks are begun on an event loop, in a copy of the context of whoever begins them.

    Where somebody wants to see how tasks are made (a task factory, a debugger, a changed
    ``create_task``), the loop makes them, as ever.
    """
    if loop.get_task_factory() is not None or loop.get_debug() or not _is_plain(loop):
        return loop.create_task
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return _Beginner(loop) if _HAS_C_TASKS else loop.create_task


def _is_plain(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether ``create_task`` is the one of asyncio, or of uvloop."""
    create = type(loop).create_task
    if type(create) is FunctionType:
        return create.__code__.co_filename == base_events.__file__
    return type(create).__name__ == "cython_function_or_method"


# Python 3.11 has no eager_start. What follows does the same there, for tasks written in C.
_HAS_C_TASKS = asyncio.Task.__module__ == "_asyncio"


class _Beginner:
    """
    Makes tasks and takes their first step.

    While a task is made, this stands for its event loop, to which it hands its first step.
    """

    __slots__ = ("_loop", "_step")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._step: Callable[[], None] = _nothing

    def get_debug(self) -> bool:
        return False

    def call_soon(self, step: Callable[[], None], *, context: Context) -> None:  # noqa: ARG002
        self._step = step

    def __call__(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        loop, context = self._loop, copy_context()
        outer = _current_tasks.pop(loop, None)
        if outer is None:
            return loop.create_task(coroutine)
        try:
            task = _make_task(coroutine, loop=self, context=context)
            # Its part that is a future is made anew, as one of the loop itself. Nobody has seen it.
            _make_future(task, loop=loop)
            step, self._step = self._step, _nothing
            context.run(step)
        except (SystemExit, KeyboardInterrupt):
            task.exception()  # seen, so that asyncio does not complain
            raise
        finally:
            _current_tasks[loop] = outer
        return task


def _nothing() -> None:
    """The step that is there while no task is made."""


_make_task: Callable[..., asyncio.Task[None]] = asyncio.Task
_make_future: Callable[..., None] = asyncio.Future.__init__
# Which task runs on a loop; the tasks that are written in C look there, too.
_current_tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]]
_current_tasks = getattr(asyncio.tasks, "_current_tasks", {})
