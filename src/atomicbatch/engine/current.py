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

from atomicbatch.engine.after_commit import Act, run_all, run_all_here, run_now

P = ParamSpec("P")
logger = logging.getLogger("atomicbatch")


class RunningBatch:
    """
    One running batch; outlives it in the contexts of tasks that its calls have left behind.

    Attributes:
        active: It has not ended.
        committed: COMMIT has returned.
        thread_limiter: What bounds its calls' worker threads; belongs to ``asgi/threads.py``.
        take_threads: Asked once how many that may be.
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
        # What waited for COMMIT has been done.
        self._done = False
        self._own_pool: ThreadPoolExecutor | None = None
        # Threads of handlers use it as well as the event loop.
        self._lock = threading.Lock()

    def attempt(self) -> None:
        """
        Begin an attempt, for this task and what is started from it.

        What earlier attempts wanted done after COMMIT is forgotten, also what they have left
        running may still want.
        """
        with self._lock:
            self._attempt += 1
            self._waiting.clear()
        _place.set(self.place())

    def own_pool(self, max_workers: int) -> ThreadPoolExecutor:
        """
        Give threads of the batch's own, for when those of the app's pool are all taken.

        Args:
            max_workers: How many that pool has; the first one's count.
        """
        with self._lock:
            if self._own_pool is None:
                self._own_pool = ThreadPoolExecutor(max_workers, "atomicbatch-call")
            return self._own_pool

    def end(self) -> None:
        """The batch is over; what its own threads are at goes on."""
        self.active = False
        with self._lock:
            # Its threads end when they have done what was given to it.
            self._own_pool = None

    def place(self) -> Place:
        """Tell where code runs that belongs to the attempt of now."""
        return Place(self, self._attempt)

    def defer(self, attempt: int, act: Act, *, while_active: bool = False) -> bool:
        """
        Do something after COMMIT, in the context that is current now; see :meth:`Place.defer`.

        Args:
            attempt: Whose wish it is.
            act: What to do.
            while_active: Only until the batch ends.
        """
        with self._lock:
            undone = attempt != self._attempt or not (self.active or self.committed)
            if not undone:
                if self._done or (while_active and not self.active):
                    return False
                self._waiting.append((copy_context(), act))
                return True
        logger.warning(
            "%s is not done after COMMIT: it was wanted when its call had been undone already",
            _name(act),
        )
        return True

    async def run_deferred(self) -> None:
        """
        Do what was to be done after COMMIT, in order; nothing if there was none.

        What fails is logged, and does not stop the rest.
        """
        await run_all(self._next)

    def run_deferred_here(self) -> None:
        """Do the same in this thread; the sync twin of :meth:`run_deferred`."""
        run_all_here(self._next)

    def _next(self) -> tuple[Context, Act] | None:
        with self._lock:
            if self.committed and self._waiting:
                return self._waiting.pop(0)
            self._done = True
            self._waiting.clear()
            return None


class Place(NamedTuple):
    """Where code runs: inside an attempt at a batch, or as something that it has left behind."""

    batch: RunningBatch
    attempt: int
    """A batch that is run again is one batch, but what the first attempt left belongs to none."""

    def defer(self, act: Act, *, while_active: bool = False) -> bool:
        """
        Do something after COMMIT; if the attempt was rolled back, log that it will not be done.

        Args:
            act: What to do.
            while_active: Once the batch has ended, do not add to what is being done by then.

        Returns:
            False: nothing was taken down, since COMMIT has returned already. Do it now.
        """
        return self.batch.defer(self.attempt, act, while_active=while_active)


# A context variable, because it follows a call into worker threads, tasks and middleware.
_place: ContextVar[Place | None] = ContextVar("atomicbatch_place", default=None)


def current_place() -> Place | None:
    """Tell what batch this code belongs to, even if that has ended, or None."""
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

    Inside a batch: after its COMMIT, once its response has been sent, and never if it is rolled
    back; functions run one after the other, in the order of their registration, each in the
    context (of context variables) of its call. Outside a batch: now. What a call has left running
    when its batch ended goes by how it ended: now, or never.

    Args:
        function: Sync (called in a worker thread) or async. What it raises is logged. Outside a
            batch a sync function is called here, and what it raises is raised here; an async one
            becomes a task. In a thread that no event loop is known for, it runs to its end here.
        args: Passed on.
        kwargs: Passed on.
    """
    act = partial(function, *args, **kwargs)
    place = _place.get()
    if place is None or not place.defer(act):
        run_now(act)


def _name(act: object) -> str:
    """Name a function without what it is called with, which is nobody's business in a log."""
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
