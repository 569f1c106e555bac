"""
Deadlines: the time limit of batches, kept by a thread that depends on nobody.

Neither a call that computes, nor an event loop that stands still, nor a database that is silent
keeps it from doing its part::

    limit            interrupt: the running statement is stopped, none is begun any more
    limit + 0.5 s    sever: connections are cut off, so that whoever waits for one goes on
    limit + 0.75 s   given up by the event loop: the client is told, whatever still runs

The thread sleeps while no batch is open, and no batch wakes it before its time.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from contextvars import Context
from typing import Any, Protocol

logger = logging.getLogger("atomicbatch")

INTERRUPT_AGAIN_SECONDS = 0.1
"""An interruption may come a moment before the statement that it is to stop."""
SEVER_SECONDS = 0.5
"""How long after the limit the database may take to stop a statement, to commit or to roll back."""
GIVE_UP_SECONDS = 0.75
"""How long after the limit the batch is given up; the rest of the second is for the answer."""
# Batches that have ended leave their reminders behind; beyond so many they are cleared away.
_MAX_STALE = 1000


class Deadline:
    """
    The time limit of one batch.

    Its transactions may have three methods, each called in any thread, none of which may block:

    - ``interrupt()``: stop the statement that is running, and let none begin any more.
    - ``sever()``: let go of the database's locks; whoever waits for the database gets an error.
    - ``give_up() -> bool``: COMMIT is not to be sent any more. True: it has been sent.

    Args:
        seconds: From now on.

    Attributes:
        at: When time is up, as time.monotonic() tells.
    """

    __slots__ = ("_is_closed", "_transaction", "at")

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self._transaction: Any = None
        self._is_closed = False
        clock.remind(self.at, self)

    @property
    def seconds_left(self) -> float:
        """Until the limit; 0 after it."""
        return max(0.0, self.at - time.monotonic())

    @property
    def seconds_until_given_up(self) -> float:
        """Until nobody waits for the batch any more; 0 after it."""
        return max(0.0, self.at + GIVE_UP_SECONDS - time.monotonic())

    def watch(self, transaction: object) -> None:
        """Take note of what is to be interrupted; None: nothing, for now."""
        self._transaction = transaction

    def hasten(self) -> None:
        """Nobody waits for the batch any more: time is up now, if it was not before."""
        now = time.monotonic()
        if now < self.at and not self._is_closed:
            self.at = now
            clock.remind(now, self)

    def close(self) -> None:
        """The batch has ended."""
        self._is_closed = True
        self._transaction = None
        clock.forget_one()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def pass_time(self, now: float) -> float | None:
        """Do what is due; tell when to do more, or None. For the clock's thread."""
        transaction = self._transaction
        if self._is_closed:
            return None
        if now < self.at:
            return self.at
        is_last = now >= self.at + SEVER_SECONDS
        act = getattr(transaction, "sever" if is_last else "interrupt", None)
        if act is not None:
            try:
                act()
            except Exception:
                logger.exception("a batch whose time is up could not be stopped")
        if is_last and transaction is not None:
            return None
        return now + INTERRUPT_AGAIN_SECONDS


class Reminded(Protocol):
    """What the clock calls at its time."""

    @property
    def is_closed(self) -> bool:
        """It need not be called any more."""

    def pass_time(self, now: float) -> float | None:
        """Do what is due, without waiting for anything; tell when to do more, or None."""


class Clock:
    """The thread, and what it is to be reminded of."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """In a process that was forked there is no such thread, and nobody's batch."""
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._reminders: list[tuple[float, int, Reminded]] = []
        self._stale = 0
        self._thread: threading.Thread | None = None
        # When the thread looks next, unless it is woken; None: not before it is woken.
        self._looks_at: float | None = None

    def remind(self, at: float, deadline: Reminded) -> None:
        with self._changed:
            heapq.heappush(self._reminders, (at, next(self._numbers), deadline))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="atomicbatch-deadlines", daemon=True
                )
                # In a context of its own: threads follow the batch that they are started in.
                Context().run(self._thread.start)
            elif self._looks_at is None or at < self._looks_at:
                self._changed.notify()

    def forget_one(self) -> None:
        # Counted without the lock: it is a hint.
        self._stale += 1
        if self._stale > _MAX_STALE:
            with self._changed:
                self._stale = 0
                self._reminders = [one for one in self._reminders if not one[2].is_closed]
                heapq.heapify(self._reminders)

    def _run(self) -> None:
        while True:
            deadline = self._next()
            again = deadline.pass_time(time.monotonic())
            if again is not None:
                with self._changed:
                    heapq.heappush(self._reminders, (again, next(self._numbers), deadline))

    def _next(self) -> Reminded:
        """Sleep until a reminder is due."""
        with self._changed:
            while True:
                seconds = None
                if self._reminders:
                    seconds = self._reminders[0][0] - time.monotonic()
                    if seconds <= 0:
                        return heapq.heappop(self._reminders)[2]
                self._looks_at = None if seconds is None else self._reminders[0][0]
                self._changed.wait(seconds)


clock = Clock()
"""The one of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=clock._renew)
