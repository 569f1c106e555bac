"""Places: in which thread an act of a batch's is done; the batch itself may be sync or async."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple, TypeAlias

from sqlalchemy.util import greenlet_spawn


class Place(Enum):
    """Where an act of an async batch is done. A sync batch does all in its own thread."""

    HERE = "here"
    """In the thread of the event loop."""
    GREENLET = "greenlet"
    """There, too; async drivers need SQLAlchemy's greenlets."""
    BEGINNING = "beginning"
    """In one of the threads for BEGIN ahead of the first call."""
    ENDING = "ending"
    """In one of the threads for COMMIT and ROLLBACK."""


class Act(NamedTuple):
    """Something to do, which may block."""

    place: Place
    do: Callable[[], object]


Acts: TypeAlias = Generator[Act, None, None]
"""Acts in order. An act's error is thrown in."""


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


def do(acts: Acts) -> None:
    """Do everything in this thread, which has no event loop."""
    try:
        act = next(acts)
        while True:
            try:
                act.do()
            except BaseException as error:
                act = acts.throw(error)
            else:
                act = next(acts)
    except StopIteration:
        pass


async def do_async(acts: Acts) -> None:
    """Do everything, each act in its place."""
    try:
        act = next(acts)
        while True:
            try:
                await _do(act)
            except BaseException as error:
                act = acts.throw(error)
            else:
                act = next(acts)
    except StopIteration:
        pass


async def _do(act: Act) -> None:
    if act.place is Place.GREENLET:
        await greenlet_spawn(act.do)
    elif act.place is Place.HERE:
        act.do()
    else:
        executor = threads.ending if act.place is Place.ENDING else threads.beginning
        await asyncio.get_running_loop().run_in_executor(executor, act.do)
