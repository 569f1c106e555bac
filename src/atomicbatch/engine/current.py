"""How code inside a call finds the batch that runs around it: inside_batch, on_commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, NamedTuple, ParamSpec

from atomicbatch.engine.after_commit import (
    Act,
    InThread,
    in_any_thread,
    run_all,
    run_all_here,
    run_now,
)

P = ParamSpec("P")
logger = logging.getLogger("atomicbatch")


class RunningBatch:
    """
    One running batch. Tasks that its calls have left behind keep it in their contexts.

    Args:
        take_threads: Is asked once how many worker threads its calls may have.

    Attributes:
        active: It has not ended.
        committed: COMMIT has returned.
        thread_limiter: Bounds the worker threads of its calls; ``asgi/threads.py`` sets it.
    """

    __slots__ = (
        "_attempt",
        "_done",
        "_lock",
        "_own_pool",
        "_waiting",
        "active",
        "committed",
        "take_threads",
        "thread_limiter",
    )

    def __init__(self, take_threads: Callable[[], int] = lambda: 40) -> None:
        self.active = True
        self.committed = False
        self.thread_limiter: Any = None
        self.take_threads = take_threads
        self._attempt = 0
        self._waiting: list[tuple[Context, Act]] = []
        # All that was deferred has run.
        self._done = False
        self._own_pool: ThreadPoolExecutor | None = None
        # The threads of handlers use it as well as the event loop.
        self._lock = threading.Lock()

    def attempt(self) -> None:
        """
        Begin an attempt, for this task and all that it starts.

        What earlier attempts have deferred is forgotten, and so is what tasks and threads that
        they have left behind still defer.
        """
        with self._lock:
            self._attempt += 1
            self._waiting.clear()
        _place.set(self.place())

    def own_pool(self, max_workers: int) -> ThreadPoolExecutor:
        """
        Return threads of the batch's own, for use when all of the app's pool are busy.

        Args:
            max_workers: How many threads that pool has. The first caller's number counts.
        """
        with self._lock:
            if self._own_pool is None:
                self._own_pool = ThreadPoolExecutor(max_workers, "atomicbatch-call")
            return self._own_pool

    def end(self) -> None:
        """The batch is over. Its own threads finish what they were given."""
        self.active = False
        with self._lock:
            # Its threads end by themselves when nobody holds the pool.
            self._own_pool = None

    def has_committed(self, attempt: int) -> bool:
        """Tell whether COMMIT of this attempt has returned."""
        return self.committed and attempt == self._attempt

    def place(self) -> Place:
        """Return the place of code that belongs to the current attempt."""
        return Place(self, self._attempt)

    def defer(self, attempt: int, act: Act, *, while_active: bool = False) -> bool:
        """
        Run a function after COMMIT, in a copy of the current context; see :meth:`Place.defer`.

        Args:
            attempt: The attempt that the caller belongs to.
            act: The function.
            while_active: Take it only until the batch ends.
        """
        with self._lock:
            undone = attempt != self._attempt or not (self.active or self.committed)
            if not undone:
                if self._done or (while_active and not self.active):
                    return False
                self._waiting.append((copy_context(), act))
                return True
        logger.warning(
            "%s is not done after COMMIT: its call had been undone when it was deferred",
            _name(act),
        )
        return True

    async def run_deferred(self, in_thread: InThread[Any] = in_any_thread) -> None:
        """
        Run what was deferred until after COMMIT, in order; nothing where there was no COMMIT.

        What fails is logged, and does not stop the rest.

        Args:
            in_thread: Runs those that are no coroutine functions.
        """
        await run_all(self._next, in_thread)

    def finish_if_idle(self) -> bool:
        """
        Where nothing waits to be run after COMMIT, take nothing more, and return True.

        What is deferred later runs at once, as after :meth:`run_deferred`.
        """
        with self._lock:
            self._done = self._done or not self._waiting
            return self._done

    def run_deferred_here(self) -> None:
        """Run it in this thread; the sync twin of :meth:`run_deferred`."""
        run_all_here(self._next)

    def _next(self) -> tuple[Context, Act] | None:
        with self._lock:
            if self.committed and self._waiting:
                return self._waiting.pop(0)
            self._done = True
            self._waiting.clear()
            return None


class Place(NamedTuple):
    """Where code runs: inside an attempt at a batch, or in something that the attempt left."""

    batch: RunningBatch
    attempt: int
    """Its number. What an earlier attempt has left behind belongs to no attempt any more."""

    @property
    def is_stored(self) -> bool:
        """The attempt has been committed."""
        return self.batch.has_committed(self.attempt)

    def defer(self, act: Act, *, while_active: bool = False) -> bool:
        """
        Run a function after COMMIT. If the attempt was rolled back, it is logged and dropped.

        Args:
            act: The function.
            while_active: Take it only until the batch ends.

        Returns:
            True: the batch has taken the function. False: COMMIT has returned already, and what
            was deferred has run; the caller runs the function now.
        """
        return self.batch.defer(self.attempt, act, while_active=while_active)


# A context variable, since it follows a call into worker threads, tasks and middleware.
_place: ContextVar[Place | None] = ContextVar("atomicbatch_place", default=None)


def current_place() -> Place | None:
    """Return the place of this code, even if its batch has ended; None: outside of batches."""
    return _place.get()


def current_batch() -> RunningBatch | None:
    """Return the batch that runs around this code and has not ended yet, or None."""
    place = _place.get()
    return place.batch if place is not None and place.batch.active else None


def inside_batch() -> bool:
    """Tell whether this code runs inside a call of a batch that has not ended yet."""
    return current_batch() is not None


def on_commit(function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """
    Call a function once the work of this call is stored for good.

    Inside a batch it runs after COMMIT, once the response has been sent, and never if the batch is
    rolled back. Functions run one after another, in the order in which they were given, each with
    the context variables of its call. Outside of batches it runs now. In a task or a thread that
    a call has left behind, it follows the batch's outcome: it runs now, or never.

    Args:
        function: Sync (it runs in a worker thread) or async. What it raises is logged. Outside of
            batches a sync function is called here, and its error is raised here; an async one
            becomes a task. In a thread that has no event loop, it runs to its end here.
        args: Passed on.
        kwargs: Passed on.
    """
    act = partial(function, *args, **kwargs)
    place = _place.get()
    if place is None or not place.defer(act):
        run_now(act)


def _name(act: object) -> str:
    """Name a function, without its arguments, which do not belong in a log."""
    while isinstance(act, partial):
        act = act.func
    return str(getattr(act, "__qualname__", type(act).__qualname__))


@contextmanager
def running_batch(running: RunningBatch | None = None) -> Iterator[RunningBatch]:
    """Mark everything started inside the block as part of a batch, until the block ends."""
    running = running or RunningBatch()
    token = _place.set(running.place())
    try:
        yield running
    finally:
        running.end()
        _place.reset(token)


def outside_batch() -> Context:
    """Make a copy of the current context in which no batch is running."""
    context = copy_context()
    context.run(_place.set, None)
    return context
