"""Places: in which thread an act of an async batch's is done, so that its event loop goes on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from atomicbatch.errors import kind_of
from atomicbatch.join.acts import Act, Acts, Place

logger = logging.getLogger("atomicbatch")


class Threads:
    """
    Those of this process; they are made when needed and reused.

    Attributes:
        ending: COMMIT and ROLLBACK of sync drivers run here, not in the threads of handlers: those
            may all be waiting for locks that this very batch holds.
        beginning: BEGIN ahead of the first call. It waits for its turn until others have
            committed, who must not wait behind it.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """In a process that was forked there are none."""
        self.ending = ThreadPoolExecutor(max_workers=256, thread_name_prefix="atomicbatch")
        self.beginning = ThreadPoolExecutor(max_workers=64, thread_name_prefix="atomicbatch-begin")


threads = Threads()
# Of batches that were given up; asyncio keeps tasks by weak references only.
_rolling_back: set[asyncio.Task[None]] = set()
Spawn = Callable[[Callable[[], object]], Awaitable[object]]


async def do_async(acts: Acts, spawn: Spawn | None = None) -> None:
    """
    Do everything, each act in its place.

    Args:
        acts: What to do.
        spawn: Does what an async driver's act is: in a greenlet, say. None: there is none such.
    """
    try:
        act = next(acts)
        while True:
            try:
                await _do(act, spawn)
            except BaseException as error:
                act = acts.throw(error)
            else:
                act = next(acts)
    except StopIteration:
        pass


async def _do(act: Act, spawn: Spawn | None) -> None:
    if act.place is Place.LOOP and spawn is not None:
        await spawn(act.do)
    elif act.place is Place.BEGINNING:
        await asyncio.get_running_loop().run_in_executor(threads.beginning, act.do)
    elif act.place is Place.ENDING:
        await asyncio.get_running_loop().run_in_executor(threads.ending, act.do)
    else:
        act.do()


def undo(acts: Acts, loop: asyncio.AbstractEventLoop, spawn: Spawn | None = None) -> None:
    """
    Roll back a batch that was given up, in a task of its own; called in the event loop's thread.

    Args:
        acts: Its end.
        loop: The batch's event loop.
        spawn: What :func:`do_async` needs.
    """
    task = loop.create_task(do_async(acts, spawn))
    _rolling_back.add(task)
    task.add_done_callback(_rolled_back)


def _rolled_back(task: asyncio.Task[None]) -> None:
    _rolling_back.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a batch that was given up could not be rolled back (%s)", kind_of(error))
        logger.debug("that was", exc_info=error)
