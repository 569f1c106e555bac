"""
Watchdog: a thread that sees when an event loop waits for a batch of its own, and undoes that batch.

A sync engine that is used on the event loop blocks it, and nearly always that is over in a moment.
Where it waits for a lock that a batch of the same loop holds, neither can go on: the batch needs
the loop for its next call. So the batch gives way. It is rolled back from a thread that needs no
loop, its locks are free, the loop goes on, and the batch is run again, while nothing else runs.

The thread looks only while a batch is open. What it undoes too much costs a replay, nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextvars import Context
from weakref import WeakSet

from atomicbatch.errors import ConflictError
from atomicbatch.sql.statements import Family
from atomicbatch.transactions.sqlalchemy.host import Host
from atomicbatch.transactions.sqlalchemy.waiting import Wait, wait_of

logger = logging.getLogger("atomicbatch")

TICK_SECONDS = 0.05
# A statement of a request outside of batches that may wait for a lock has waited for it by then.
_WAITED_SECONDS = 0.2
# SQLite has one lock: while a batch is open, another writer waits for that one.
_WAITED_FOR_SQLITE_SECONDS = 0.1
# What only reads waits for nobody as a rule, but may take its time.
_READ_SECONDS = 1.0
# How long a statement of a batch that is alone may block the loop; it doubles with each attempt.
_OWN_SECONDS = 0.5
# How long the thread goes on looking after the last batch, before it sleeps.
_TICKS_AFTERWARDS = 20


class Watchdog:
    """Looks after the batches of this process that have transactions open."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """In a process that was forked there is no such thread."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._watched: WeakSet[Host] = WeakSet()
        self._waits: dict[int, Wait] = {}
        self._has_warned = False

    def watch(self, attempt: Host) -> None:
        """Look after a batch, from when it opens its first transaction."""
        with self._lock:
            self._watched.add(attempt)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="atomicbatch-watchdog", daemon=True
                )
                # In a context of its own: threads follow the batch that they are started in.
                Context().run(self._thread.start)
        if not self._wake.is_set():
            self._wake.set()

    def forget(self, attempt: Host) -> None:
        """Its transactions have ended."""
        with self._lock:
            self._watched.discard(attempt)

    @property
    def is_awake(self) -> bool:
        return self._wake.is_set()

    def _run(self) -> None:
        idle = 0
        while True:
            self._wake.wait()
            time.sleep(TICK_SECONDS)
            try:
                idle = 0 if self._look() else idle + 1
            except Exception:
                logger.exception("the watchdog of batches has failed; it goes on")
            if idle > _TICKS_AFTERWARDS:
                self._waits.clear()
                with self._lock:
                    if not self._watched:
                        self._wake.clear()

    def _look(self) -> bool:
        """Look once; tell whether any batch is open."""
        by_thread: dict[int, list[Host]] = {}
        with self._lock:
            for attempt in self._watched:
                by_thread.setdefault(attempt.thread, []).append(attempt)
        frames = sys._current_frames()
        seen = {thread: wait_of(frames.get(thread)) for thread in by_thread}
        del frames  # they hold what functions have in hand
        now = time.monotonic()
        waits: dict[int, Wait] = {}
        for thread, wait in seen.items():
            if wait is None:
                continue
            before = self._waits.get(thread)
            if before is not None and wait.is_same(before):
                wait = before
            else:
                wait.since = now
            waits[thread] = wait
            if wait.real is None:
                self._judge(wait, now - wait.since, by_thread[thread])
            elif not wait.real.attempt.is_sync:  # else no loop is blocked: there is none
                self._judge_own(wait, wait.real.attempt, now - wait.since)
        self._waits = waits
        return bool(by_thread)

    def _judge(self, wait: Wait, seconds: float, batches: list[Host]) -> None:
        """A request outside of batches, or a task, has blocked the loop for some time."""
        if not wait.may_wait:
            limit = _READ_SECONDS
        elif wait.family is Family.SQLITE:
            limit = _WAITED_FOR_SQLITE_SECONDS
        else:
            limit = _WAITED_SECONDS
        if seconds < limit:
            return
        what = (
            f"a request outside of batches used a sync engine on the event loop, in "
            f"{wait.function or 'a library'}, and waited for this batch; make that function 'def', "
            f"or use an async engine"
        )
        # All of them: any of them may hold what it waits for.
        if sum(attempt.give_way(_conflict(what), wait.url) for attempt in batches):
            self._warn(what)

    def _judge_own(self, wait: Wait, attempt: Host, seconds: float) -> None:
        """A batch's own statement has blocked the loop: whom it waits for may need the loop."""
        if wait.family is Family.SQLITE:
            return  # it has the only lock
        if attempt.is_alone():
            limit = _OWN_SECONDS * 2.0**attempt.number
        else:
            limit = _WAITED_SECONDS if wait.may_wait else _READ_SECONDS
        if seconds >= limit:
            attempt.give_way(
                _conflict(
                    f"a statement on the event loop, in {wait.function or 'a library'}, took "
                    f"{limit:g} s, in which nothing else could go on; make that function 'def', "
                    f"or use an async engine"
                ),
                None,
            )

    def _warn(self, what: str) -> None:
        """Once in a process: what it is about is a matter of the app's, not of one batch."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning("a batch is run again: %s", what)


def _conflict(what: str) -> ConflictError:
    error = ConflictError(what)
    error.alone = True
    return error


watchdog = Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog._renew)
