"""How code inside a call can tell that a batch is running around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Running:
    """One running batch; outlives it in the contexts of tasks that its calls have left behind."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = True


# A context variable, because it follows a call into worker threads, tasks and middleware.
_running: ContextVar[_Running | None] = ContextVar("atomicbatch_running", default=None)


def inside_batch() -> bool:
    """Tell whether this code runs inside a call of a batch that has not ended yet."""
    running = _running.get()
    return running is not None and running.active


@contextmanager
def running_batch() -> Iterator[None]:
    """Mark everything started inside the block as part of a batch, until the block ends."""
    running = _Running()
    token = _running.set(running)
    try:
        yield
    finally:
        running.active = False
        _running.reset(token)
