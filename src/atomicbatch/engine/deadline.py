"""
Deadlines: the time limit of batches, kept by a thread that depends on nobody.

A call that computes, an event loop that stands still and a database that does not answer cannot
stop it::

    limit            interrupt: the running statement is stopped, and no other begins
    limit + 0.5 s    sever: connections are cut off, so that whoever waits for one goes on
    limit + 0.75 s   give up: the event loop answers the client, whatever still runs

The thread sleeps until the first limit is reached; batches that end in time do not wake it.
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
"""An interrupt is repeated: it may come a moment before the statement that it is meant for."""
SEVER_SECONDS = 0.5
"""How long after the limit the database may still stop a statement, commit or roll back."""
GIVE_UP_SECONDS = 0.75
"""How long after the limit the batch is given up. The rest of the second is for the answer."""
# Batches that have ended leave their reminders behind; beyond this number they are removed.
_MAX_STALE = 1000


class Deadline:
    """
    The time limit of one batch.

    The batch's transaction may have three methods. They are called in any thread and must not
    block:

    - ``interrupt()``: stop the statement that is running, and let no other begin.
    - ``sever()``: release the database's locks; whoever waits for the database gets an error.
    - ``give_up() -> bool``: send no COMMIT from now on. True: it has been sent already.

    Args:
        seconds: Time from now until the limit.

    Attributes:
        at: When time is up, in seconds of ``time.monotonic()``.
    """

    __slots__ = ("_is_closed", "_is_kept", "_transaction", "at")

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self._transaction: Any = None
        self._is_closed = False
        # The clock knows of it. It need not while there is nothing to stop.
        self._is_kept = False

    def is_over(self) -> bool:
        """Tell whether time is up."""
        return time.monotonic() >= self.at

    @property
    def seconds_left(self) -> float:
        """Until the limit; 0 after it."""
        return max(0.0, self.at - time.monotonic())

    @property
    def seconds_until_given_up(self) -> float:
        """Until nobody waits for the batch any more; 0 after it."""
        return max(0.0, self.at + GIVE_UP_SECONDS - time.monotonic())

    def watch(self, transaction: object) -> None:
        """Say which transaction to stop when time is up; None: no transaction, for now."""
        self._transaction = transaction
        if not self._is_kept and (
            hasattr(transaction, "interrupt") or hasattr(transaction, "sever")
        ):
            self._is_kept = True
            clock.remind(self.at, self)

    def hasten(self) -> None:
        """Let time be up now, since nobody waits for the batch any more."""
        now = time.monotonic()
        if now < self.at and not self._is_closed:
            self.at = now
            if self._is_kept:
                clock.remind(now, self)

    def close(self) -> None:
        """The batch has ended."""
        self._is_closed = True
        self._transaction = None
        if self._is_kept:
            clock.forget_one()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def pass_time(self, now: float) -> float | None:
        """Do what is due, and return when to do more, or None. Called by the clock's thread."""
        transaction = self._transaction
        if self._is_closed:
            return None
        if now < self.at:
            return self.at
        is_last = now >= self.at + SEVER_SECONDS
        stop = getattr(transaction, "sever" if is_last else "interrupt", None)
        if stop is not None:
            try:
                stop()
            except Exception:
                logger.exception("a batch whose time is up could not be stopped")
        if is_last and transaction is not None:
            return None
        return now + INTERRUPT_AGAIN_SECONDS


class Reminded(Protocol):
    """What the clock calls when its time has come."""

    @property
    def is_closed(self) -> bool:
        """Tell that it need not be called any more."""

    def pass_time(self, now: float) -> float | None:
        """Do what is due, without waiting for anything; return when to do more, or None."""


class Clock:
    """The thread that keeps time limits, and its reminders."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """Start anew: a forked process has neither the thread nor any batch."""
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._reminders: list[tuple[float, int, Reminded]] = []
        self._stale = 0
        self._thread: threading.Thread | None = None
        # When the thread looks next by itself; None: only when it is woken.
        self._looks_at: float | None = None

    def remind(self, at: float, deadline: Reminded) -> None:
        with self._changed:
            heapq.heappush(self._reminders, (at, next(self._numbers), deadline))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="atomicbatch-deadlines", daemon=True
                )
                # In an empty context, since a thread follows the batch that it is started in.
                Context().run(self._thread.start)
            elif self._looks_at is None or at < self._looks_at:
                self._changed.notify()

    def forget_one(self) -> None:
        # Counted without the lock, since an inexact number will do.
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
"""The clock of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=clock._renew)
