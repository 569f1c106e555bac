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
from enum import Enum
from typing import Any, Generic, TypeVar

from atomicbatch.engine import Turn
from atomicbatch.engine.deadline import clock
from atomicbatch.errors import AtomicBatchError
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
        instead: Makes the result if the thread has to be given up before COMMIT.
        told: Called once with the answer, in whatever thread has settled the ticket: the result of
            the work, or an error. It must neither wait nor raise.

    Attributes:
        deadline: ``time.monotonic()`` seconds.
        read_only: Its transactions only read.
        settled: The caller has been told the result of the work, or something else before it ended.
        over: None of its transactions can commit any more.
        stage: How far the work has come.
        raced: What has met another transaction already; see ``Session.raced``.
        renewed: The batch was run again because the schema may have changed.
        replies: The replies of the transaction under way; None before BEGIN.
        turn: Its place in the line of batches that have met a conflict.
        limit: What the clock has of it; None: it has no time limit.
    """

    __slots__ = (
        "_is_settled",
        "_told",
        "deadline",
        "instead",
        "limit",
        "lock",
        "over",
        "raced",
        "read_only",
        "renewed",
        "replies",
        "settled",
        "stage",
        "turn",
        "work",
    )

    def __init__(
        self,
        work: Callable[[S], T],
        deadline: float = math.inf,
        *,
        read_only: bool = False,
        instead: Callable[[Ticket[S, T], AtomicBatchError], T] | None = None,
        told: Callable[[T | BaseException], object] | None = None,
    ) -> None:
        self.work = work
        self.deadline = deadline
        self.read_only = read_only
        self.instead = instead
        self.lock = threading.Lock()
        self.over = self.renewed = self.settled = False
        self.stage = Stage.WAITING
        self.raced: set[tuple[str, ...]] = set()
        self.replies: list[Reply] | None = None
        self.turn: Turn | None = None
        self.limit: Limit | None = None
        self._told = told
        # Few are waited for by a thread; whoever does makes it, under the lock.
        self._is_settled: threading.Event | None = None

    def take(self) -> bool:
        """Take it for a thread; False: the caller has already been told something."""
        with self.lock:
            if self.settled:
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
            if self.settled or self.stage is Stage.COMMITTED:
                return None
            if but_commit and self.stage is Stage.COMMITTING:
                return None
            self.over = True
            if self.turn is not None:
                self.turn.come.cancel()
            return self.stage

    def settle(self, result: T) -> bool:
        """Give the caller the result; False: it has already been told something else."""
        return self._settle(result)

    def fail(self, error: BaseException) -> bool:
        """Give the caller an error; False: it has already been told something else."""
        return self._settle(error)

    def _settle(self, answer: T | BaseException) -> bool:
        with self.lock:
            if self.settled:
                return False
            self.settled = True
        if self.limit is not None:
            self.limit.close()
        if self._is_settled is not None:
            self._is_settled.set()
        # A session keeps the ticket that it has worked for last, but not what that has held.
        told, self._told = self._told, None
        self.work, self.instead, self.replies = _nothing, None, None
        if told is not None:
            told(answer)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait in this thread, at most so long, and tell whether it is settled."""
        with self.lock:
            if self.settled:
                return True
            if self._is_settled is None:
                self._is_settled = threading.Event()
        return self._is_settled.wait(seconds)


AnyTicket = Ticket[Any, Any]


def _nothing(session: object) -> Any:
    """The work of a ticket that is settled; it is never asked for."""


class Limit:
    """
    A ticket's time limit, as the clock sees it; see ``engine.deadline``.

    Args:
        ticket: Whose time it is.
        end: Called with the ticket, by the clock's thread, when the time is over.
    """

    __slots__ = ("_end", "_ticket")

    def __init__(self, ticket: AnyTicket, end: Callable[[AnyTicket], object]) -> None:
        self._ticket: AnyTicket | None = ticket
        self._end = end
        ticket.limit = self
        clock.remind(ticket.deadline, self)

    @property
    def is_closed(self) -> bool:
        """Whether the ticket is settled."""
        return self._ticket is None

    def pass_time(self, now: float) -> float | None:  # noqa: ARG002 - it is called on time
        """End the ticket; called by the clock's thread."""
        if (ticket := self._ticket) is not None:
            self._end(ticket)
        return None

    def close(self) -> None:
        """The ticket is settled."""
        # The clock keeps the limit for a while, but not what it holds.
        self._ticket = None
        clock.forget_one()


def untimed(*, read_only: bool) -> AnyTicket:
    """A ticket without a time limit, for transactions of the server's own."""
    return Ticket(lambda _: None, read_only=read_only)
