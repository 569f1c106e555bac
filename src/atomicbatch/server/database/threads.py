"""
Threads: worker threads with a session each, and how their work is ended when its time is over.

A driver may be waiting in C code for a silent database, and no Python code can get its thread out
of there. So a ticket whose time is over is ended in steps that do not wait for the worker::

    limit            the statement is interrupted, by the driver's own means
    limit + 0.5 s    the connection's socket is shut down
    limit + 0.75 s   the caller is told; the thread is given up, and another takes its place

A thread that was given up cannot commit any more: see ``tickets.py``. It ends as soon as its driver
lets it go.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any, Generic, Protocol, TypeVar

from atomicbatch.engine.deadline import GIVE_UP_SECONDS, SEVER_SECONDS, clock
from atomicbatch.errors import (
    AtomicBatchError,
    BusyError,
    LimitError,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.server.database.tickets import Stage, Ticket

_log = logging.getLogger("atomicbatch.server")
T = TypeVar("T")


class Worked(Protocol):
    """What a thread works with: a session."""

    def reserve(self, ticket: Ticket[Any, Any]) -> None:
        """Say for whom the next work is."""

    def stop(self, ticket: Ticket[Any, Any]) -> None:
        """End the statement of ``ticket``; may take a while."""

    def cut_off(self, ticket: Ticket[Any, Any]) -> None:
        """Shut the socket of ``ticket`` down, at once."""

    def close(self) -> None:
        """Close the connection."""


S = TypeVar("S", bound=Worked)


class Threads(Generic[S]):
    """
    At most ``size`` threads, which do work in the order in which it comes.

    Args:
        name: The name of the threads.
        size: How many there may be.
        make: Makes a thread's session.
        max_waiting: How many tickets may wait for a thread.
        limit: The name of that bound, for whoever is refused.
    """

    def __init__(
        self,
        name: str,
        size: int,
        make: Callable[[], S],
        *,
        max_waiting: int,
        limit: str,
    ) -> None:
        self._name, self._size, self._make = name, size, make
        self._max_waiting, self._limit = max_waiting, limit
        self._changed = threading.Condition()
        self._line: deque[Ticket[S, Any]] = deque()
        self._idle = 0
        self._alive: dict[threading.Thread, Ticket[S, Any] | None] = {}
        self._sessions: dict[threading.Thread, S] = {}
        self._closed = False

    async def run(
        self,
        work: Callable[[S], T],
        *,
        seconds: float,
        read_only: bool,
        instead: Callable[[Ticket[S, T], AtomicBatchError], T] | None = None,
    ) -> T:
        """
        Do ``work`` in a thread; end it after ``seconds``, or when the caller is cancelled.

        Args:
            work: What to do with a session.
            seconds: How long it may take, from now on.
            read_only: It only reads.
            instead: Makes the result if the thread has to be given up before COMMIT.

        Raises:
            LimitError: Too much is waiting for a thread already.
            BusyError: The time was over before a thread was free.
            TimeoutExceededError: The time was over before COMMIT.
            UnknownOutcomeError: The time was over, and COMMIT had not been answered.
        """
        ticket: Ticket[S, T] = Ticket(work, time.monotonic() + seconds, read_only=read_only)
        self._put(ticket)
        limit = _Limit(lambda: self._end(ticket, instead))
        clock.remind(ticket.deadline, limit)
        future = asyncio.wrap_future(ticket.future)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The caller is gone: its batch must not commit, and must be over before we go on.
            self._end(ticket, instead, but_commit=True)
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # seen, so that asyncio does not complain
            raise
        finally:
            limit.close()

    def _put(self, ticket: Ticket[S, Any]) -> None:
        with self._changed:
            busy = sum(running is not None for running in self._alive.values())
            # Some of those in the line do not count: a thread is about to take them.
            if len(self._line) - (self._size - busy) >= self._max_waiting:
                error = LimitError(
                    f"{self._max_waiting} requests are waiting for the database already",
                    limit=self._limit,
                    maximum=self._max_waiting,
                )
                error.status, error.slug = 503, "server-busy"
                raise error
            self._line.append(ticket)
            if len(self._line) <= self._idle:
                self._changed.notify()
            else:
                self._fill()

    def _fill(self) -> None:
        """Start a thread if there is work for one more. The lock is held."""
        if self._line and len(self._alive) < self._size:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._alive[thread] = None
            thread.start()

    def _work(self) -> None:
        thread = threading.current_thread()
        session = self._make()
        with self._changed:
            self._sessions[thread] = session
        try:
            while (ticket := self._next(thread)) is not None:
                try:
                    session.reserve(ticket)
                    result = ticket.work(session)
                except BaseException as error:
                    ticket.fail(error)
                    del error
                else:
                    if not ticket.settle(result) and ticket.stage is Stage.COMMITTED:
                        _log.warning(
                            "a batch whose outcome was reported as unknown has committed after all"
                        )
                    del result
                del ticket
        finally:
            session.close()
            with self._changed:
                self._alive.pop(thread, None)
                self._sessions.pop(thread, None)
                self._changed.notify_all()

    def _next(self, thread: threading.Thread) -> Ticket[S, Any] | None:
        """The next work for ``thread``; None: the thread has to end."""
        with self._changed:
            while True:
                if thread not in self._alive:
                    return None  # given up, and replaced
                self._alive[thread] = None
                while self._line:
                    ticket = self._line.popleft()
                    if ticket.take():
                        self._alive[thread] = ticket
                        return ticket
                if self._closed:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    # Ending work before it ends by itself ----------------------------------------------------

    def _end(
        self,
        ticket: Ticket[S, T],
        instead: Callable[[Ticket[S, T], AtomicBatchError], T] | None,
        *,
        but_commit: bool = False,
    ) -> None:
        """End a ticket's work, without waiting for it."""
        stage = ticket.end(but_commit=but_commit)
        if stage is Stage.WAITING:
            ticket.fail(BusyError("the batch has waited too long for its turn"))
            with self._changed:
                if ticket in self._line:
                    self._line.remove(ticket)
        elif stage is not None:
            threading.Thread(
                target=self._end_running, args=(ticket, instead, stage), daemon=True
            ).start()

    def _end_running(
        self,
        ticket: Ticket[S, T],
        instead: Callable[[Ticket[S, T], AtomicBatchError], T] | None,
        stage: Stage,
    ) -> None:
        session = self._session_of(ticket)
        if session is not None and stage is Stage.RUNNING:
            # In a thread of its own: most drivers interrupt by way of the network.
            threading.Thread(target=session.stop, args=(ticket,), daemon=True).start()
        if _is_done(ticket, SEVER_SECONDS):
            return
        if session is not None:
            session.cut_off(ticket)
        if _is_done(ticket, GIVE_UP_SECONDS - SEVER_SECONDS) or ticket.stage is Stage.COMMITTED:
            return
        error: AtomicBatchError = too_late()
        if ticket.stage is Stage.COMMITTING:
            error = UnknownOutcomeError("the time was over, and COMMIT had not been answered")
        self._give_up(ticket)
        _log.error("%s: its thread is given up, and another takes its place", error)
        if instead is None or ticket.replies is None or isinstance(error, UnknownOutcomeError):
            ticket.fail(error)
            return
        try:
            ticket.settle(instead(ticket, error))
        except Exception as failure:
            ticket.fail(failure)

    def _session_of(self, ticket: Ticket[S, Any]) -> S | None:
        with self._changed:
            for thread, running in self._alive.items():
                if running is ticket:
                    return self._sessions.get(thread)
        return None

    def _give_up(self, ticket: Ticket[S, Any]) -> None:
        with self._changed:
            for thread, running in self._alive.items():
                if running is ticket:
                    del self._alive[thread]
                    break
            self._fill()

    def close(self, seconds: float) -> None:
        """
        Wait for the work under way, at most ``seconds``; then end it, and close the connections.

        Returns within a second after that, whatever the database does.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._alive, seconds)
            left = [ticket for ticket in (*self._alive.values(), *self._line) if ticket is not None]
        for ticket in left:
            self._end(ticket, None)
        wait([ticket.future for ticket in left], 1.0)


class _Limit:
    """One ticket's time, for the clock."""

    __slots__ = ("_end", "is_closed")

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end
        self.is_closed = False

    def pass_time(self, now: float) -> float | None:  # noqa: ARG002 - it is called on time
        """Called by the clock's thread."""
        if (end := self._end) is not None:
            end()
        return None

    def close(self) -> None:
        # The clock keeps it for a while, but not what it holds.
        self._end = None
        self.is_closed = True
        clock.forget_one()


def _is_done(ticket: Ticket[Any, Any], seconds: float) -> bool:
    return bool(wait([ticket.future], seconds).done)


def too_late() -> TimeoutExceededError:
    """The error for what was not over in time."""
    return TimeoutExceededError("the time for the whole batch is over")
