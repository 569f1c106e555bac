"""
Tickets: how far one caller's work has come, and whether it may still commit.

::

    WAITING --take--> RUNNING --may_commit--> COMMITTING --committed--> COMMITTED
                         ^                        |
                         +------- refused --------+

A ticket is ended when its time is over or its caller is gone. That happens under its lock, and so
does the worker's decision to send COMMIT. So a ticket that is over never gets to COMMIT, and a
COMMIT that was sent in time is given the time to be answered.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import Any, Generic, TypeVar

from atomicbatch.engine import Turn
from atomicbatch.model import Reply

S = TypeVar("S")
T = TypeVar("T")


class Stage(Enum):
    """How far a ticket's work has come."""

    WAITING = "waiting"
    """No thread has taken it yet."""
    RUNNING = "running"
    COMMITTING = "committing"
    """COMMIT may have been sent and has not been answered."""
    COMMITTED = "committed"


class Ticket(Generic[S, T]):
    """
    One caller's claim to transactions: one, and another each time its batch is run again.

    Args:
        work: What a worker thread does with its session.

    Attributes:
        deadline: ``time.monotonic()`` seconds.
        read_only: Its transactions only read.
        future: The result of the work, or what the caller was told before the work ended.
        over: None of its transactions can commit any more.
        stage: How far the work has come.
        raced: What has met another transaction already; see ``Session.raced``.
        renewed: The batch was run again because the schema may have changed.
        replies: The replies of the transaction under way; None before BEGIN.
        turn: Its place in the line of batches that have met a conflict.
    """

    def __init__(
        self,
        work: Callable[[S], T],
        deadline: float = math.inf,
        *,
        read_only: bool = False,
    ) -> None:
        self.work = work
        self.deadline = deadline
        self.read_only = read_only
        self.lock = threading.Lock()
        self.over = self.renewed = False
        self.stage = Stage.WAITING
        self.raced: set[tuple[str, ...]] = set()
        self.replies: list[Reply] | None = None
        self.turn: Turn | None = None
        self.future: Future[T] = Future()
        # It cannot be cancelled any more: only the worker, or whoever ends the ticket, settles it.
        self.future.set_running_or_notify_cancel()

    def take(self) -> bool:
        """Take it for a thread; False: the caller has already been told something."""
        with self.lock:
            if self.future.done():
                return False
            self.stage = Stage.RUNNING
            return True

    def stand_in_line(self, turn: Turn) -> None:
        """Keep its place in the line, which is given up when the ticket is over."""
        with self.lock:
            self.turn = turn
            if self.over:
                turn.come.cancel()

    def may_commit(self) -> bool:
        """Whether COMMIT may be sent now; if so, it counts as sent."""
        with self.lock:
            if self.over:
                return False
            self.stage = Stage.COMMITTING
            return True

    def committed(self) -> None:
        """COMMIT has been answered with success."""
        self.stage = Stage.COMMITTED

    def refused(self) -> None:
        """COMMIT has been answered with a refusal."""
        with self.lock:
            self.stage = Stage.RUNNING

    def end(self, *, but_commit: bool = False) -> Stage | None:
        """
        Let no transaction commit any more.

        Args:
            but_commit: Leave a COMMIT that is under way alone.

        Returns:
            The stage at which it was ended; None: there is nothing to end.
        """
        with self.lock:
            if self.future.done() or self.stage is Stage.COMMITTED:
                return None
            if but_commit and self.stage is Stage.COMMITTING:
                return None
            self.over = True
            if self.turn is not None:
                self.turn.come.cancel()
            return self.stage

    def settle(self, result: T) -> bool:
        """Give the caller the result; False: it has already been told something else."""
        with self.lock:
            if self.future.done():
                return False
            self.future.set_result(result)
            return True

    def fail(self, error: BaseException) -> bool:
        """Give the caller an error; False: it has already been told something else."""
        with self.lock:
            if self.future.done():
                return False
            self.future.set_exception(error)
            return True


AnyTicket = Ticket[Any, Any]


def untimed(*, read_only: bool) -> AnyTicket:
    """A ticket without a time limit, for transactions of the server's own."""
    return Ticket(lambda _: None, read_only=read_only)
