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
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar, cast

from atomicbatch.engine.deadline import GIVE_UP_SECONDS, SEVER_SECONDS
from atomicbatch.errors import (
    AtomicBatchError,
    BusyError,
    LimitError,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.server.database.tickets import Limit, Stage, Ticket

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


class _Worker(Generic[S]):
    """
    A thread, as those who give it work see it.

    Attributes:
        session: What it works with, once it has begun.
        ticket: What it works on, or is to work on next; None: it is idle, or has to end.
        wake: Held while it is idle; whoever gives it a ticket releases it.
    """

    __slots__ = ("session", "ticket", "wake")

    def __init__(self, ticket: Ticket[S, Any]) -> None:
        self.session: S | None = None
        self.ticket: Ticket[S, Any] | None = ticket
        # A lock is several times cheaper than a condition, which makes a lock for each wait.
        self.wake = threading.Lock()
        self.wake.acquire()


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
        self._lock = threading.Lock()
        # Those for whom no thread is free.
        self._line: deque[Ticket[S, Any]] = deque()
        # The one that was busy last is given work first: what it needs is still at hand.
        self._idle: list[_Worker[S]] = []
        self._alive: set[_Worker[S]] = set()
        self._one_has_ended = threading.Condition(self._lock)
        self._closed = False

    def start(
        self,
        work: Callable[[S], T],
        *,
        deadline: float,
        read_only: bool,
        told: Callable[[T | BaseException], object],
        instead: Callable[[Ticket[S, T], AtomicBatchError], T] | None = None,
    ) -> Ticket[S, T]:
        """
        Have ``work`` done in a thread; end it at ``deadline``.

        Args:
            work: What to do with a session.
            deadline: When it has to be over, in seconds of ``time.monotonic()``.
            read_only: It only reads.
            told: Called once with the answer, in any thread: what ``work`` returns or raises, or
                BusyError (the time was over before a thread was free), TimeoutExceededError (before
                COMMIT), or UnknownOutcomeError (before COMMIT was answered). It must neither wait
                nor raise.
            instead: Makes the result if the thread has to be given up before COMMIT.

        Raises:
            LimitError: Too much is waiting for a thread already.
        """
        ticket = Ticket(work, deadline, read_only=read_only, instead=instead, told=told)
        # Before anybody can settle it, which is what makes the clock forget it.
        limit = Limit(ticket, self._end)
        try:
            self._put(ticket)
        except BaseException:
            limit.close()
            raise
        return ticket

    def abandon(self, ticket: Ticket[S, Any]) -> None:
        """Nobody waits for a ticket any more: it must not commit, unless COMMIT has been sent."""
        self._end(ticket, but_commit=True)

    async def run(self, work: Callable[[S], T], *, seconds: float, read_only: bool) -> T:
        """
        Do ``work`` in a thread, and wait for it on an event loop.

        Its time is over after ``seconds``, or when the caller is cancelled. The cancellation goes
        on once the work is over. Raises what ``start`` raises and what ``told`` is told.
        """
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        answer: T | BaseException | None = None

        def told(what: T | BaseException) -> None:
            nonlocal answer
            answer = what
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(over.set)

        ticket = self.start(
            work, deadline=time.monotonic() + seconds, read_only=read_only, told=told
        )
        try:
            await over.wait()
        except asyncio.CancelledError:
            self.abandon(ticket)
            await over.wait()
            raise
        if isinstance(answer, BaseException):
            raise answer
        return cast("T", answer)

    def _put(self, ticket: Ticket[S, Any]) -> None:
        with self._lock:
            if self._idle:
                worker = self._idle.pop()
                worker.ticket = ticket
                worker.wake.release()
            elif len(self._alive) < self._size:
                self._start_thread(ticket)
            elif len(self._line) < self._max_waiting:
                self._line.append(ticket)
            else:
                error = LimitError(
                    f"{self._max_waiting} requests are waiting for the database already",
                    limit=self._limit,
                    maximum=self._max_waiting,
                )
                error.status, error.slug = 503, "server-busy"
                raise error

    def _start_thread(self, ticket: Ticket[S, Any]) -> None:
        """Start a thread, with its first ticket. The lock is held."""
        worker = _Worker(ticket)
        self._alive.add(worker)
        try:
            threading.Thread(
                target=self._work, args=(worker,), name=self._name, daemon=True
            ).start()
        except BaseException:
            self._alive.discard(worker)
            raise

    def _work(self, worker: _Worker[S]) -> None:
        session = worker.session = self._make()
        try:
            while True:
                _do(worker.ticket, session)
                if not self._next(worker):
                    break
        finally:
            session.close()
            with self._lock:
                self._alive.discard(worker)
                self._fill()
                self._one_has_ended.notify_all()

    def _next(self, worker: _Worker[S]) -> bool:
        """Wait until ``worker`` has a ticket; False: the thread has to end."""
        with self._lock:
            worker.ticket = None
            if worker not in self._alive:
                return False  # given up, and replaced
            if self._line:
                worker.ticket = self._line.popleft()
                return True
            if self._closed:
                return False
            self._idle.append(worker)
        worker.wake.acquire()
        return worker.ticket is not None

    def _fill(self) -> None:
        """Start a thread if somebody waits for one. The lock is held."""
        if self._line and len(self._alive) < self._size:
            self._start_thread(self._line.popleft())

    # Ending work before it ends by itself ----------------------------------------------------

    def _end(self, ticket: Ticket[S, Any], *, but_commit: bool = False) -> None:
        """End a ticket's work, without waiting for it."""
        stage = ticket.end(but_commit=but_commit)
        if stage is Stage.WAITING:
            ticket.fail(BusyError("the batch has waited too long for its turn"))
            with self._lock:
                if ticket in self._line:
                    self._line.remove(ticket)
        elif stage is not None:
            threading.Thread(target=self._end_running, args=(ticket, stage), daemon=True).start()

    def _end_running(self, ticket: Ticket[S, Any], stage: Stage) -> None:
        session = self._session_of(ticket)
        if session is not None and stage is Stage.RUNNING:
            # In a thread of its own: most drivers interrupt by way of the network.
            threading.Thread(target=session.stop, args=(ticket,), daemon=True).start()
        if ticket.wait(SEVER_SECONDS):
            return
        if session is not None:
            session.cut_off(ticket)
        if ticket.wait(GIVE_UP_SECONDS - SEVER_SECONDS) or ticket.stage is Stage.COMMITTED:
            return
        error: AtomicBatchError = too_late()
        if ticket.stage is Stage.COMMITTING:
            error = UnknownOutcomeError("the time was over, and COMMIT had not been answered")
        self._give_up(ticket)
        _log.error("%s: its thread is given up, and another takes its place", error)
        instead = ticket.instead
        if instead is None or ticket.replies is None or isinstance(error, UnknownOutcomeError):
            ticket.fail(error)
            return
        try:
            ticket.settle(instead(ticket, error))
        except Exception as failure:
            ticket.fail(failure)

    def _session_of(self, ticket: Ticket[S, Any]) -> S | None:
        with self._lock:
            for worker in self._alive:
                if worker.ticket is ticket:
                    return worker.session
        return None

    def _give_up(self, ticket: Ticket[S, Any]) -> None:
        with self._lock:
            for worker in self._alive:
                if worker.ticket is ticket:
                    self._alive.discard(worker)
                    break
            self._fill()

    def close(self, seconds: float) -> None:
        """
        Wait for the work under way, at most ``seconds``; then end it, and close the connections.

        Returns within a second after that, whatever the database does.
        """
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.wake.release()
            self._idle.clear()
            self._one_has_ended.wait_for(lambda: not self._alive, seconds)
            working = [worker.ticket for worker in self._alive]
            left = [ticket for ticket in (*working, *self._line) if ticket is not None]
        for ticket in left:
            self._end(ticket)
        until = time.monotonic() + 1.0
        for ticket in left:
            ticket.wait(max(0.0, until - time.monotonic()))


def _do(ticket: Ticket[S, Any] | None, session: S) -> None:
    """Do a ticket's work, unless its caller has been told something before it began."""
    if ticket is None or not ticket.take():
        return
    try:
        session.reserve(ticket)
        result = ticket.work(session)
    except BaseException as error:
        ticket.fail(error)
    else:
        if not ticket.settle(result) and ticket.stage is Stage.COMMITTED:
            _log.warning("a batch whose outcome was reported as unknown has committed after all")


def too_late() -> TimeoutExceededError:
    """The error for what was not over in time."""
    return TimeoutExceededError("the time for the whole batch is over")
