"""
Database: what is served, and the worker threads that do all the work on it.

A whole batch runs in one worker thread on that thread's own connection: nothing is handed over per
call. On SQLite one thread does all the writing, so that the batches of this process stand in line
instead of polling for the write lock; readers have threads of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from atomicbatch.engine import Turns
from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import ServerLimits
from atomicbatch.model import Batch
from atomicbatch.server.database.backends import backend_for, dialect_of
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.database.threads import Threads
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.schema.catalog import Catalog

_T = TypeVar("_T")
Abandon = Callable[[], None]


class Database:
    """
    A database that is served: its schema, and the threads that work on it.

    Args:
        url: As ``opening.database_url`` gives it.
        read_only: Only reading calls are served.
        limits: How many threads there are, and how many requests may wait for them.

    Attributes:
        catalog: Its schema as it is now.
        turns: The line of batches that have met a conflict.

    Raises:
        ValueError: No such kind of database is served.
        sqlalchemy.exc.SQLAlchemyError: It cannot be reached or read.
    """

    def __init__(
        self,
        url: sa.URL,
        *,
        read_only: bool = False,
        limits: ServerLimits | None = None,
    ) -> None:
        limits = limits or ServerLimits()
        self.read_only = read_only
        self.turns = Turns()
        backend = backend_for(url, read_only=read_only)
        engine = backend.engine()
        with engine.connect():
            backend.dialect = dialect_of(engine)
        self.catalog = Catalog(backend.dialect, engine)

        def threads(name: str, size: int, *, reader: bool) -> Threads[Session]:
            return Threads(
                name,
                size,
                lambda: Session(backend, self.catalog, self.turns, reader=reader),
                max_waiting=limits.max_waiting,
                limit="max_waiting",
            )

        self._writers = threads(
            "writer", 1 if backend.one_writer else limits.max_writers, reader=False
        )
        self._readers = threads("reader", limits.max_readers, reader=True)

    def start(
        self,
        work: Callable[[Session], _T],
        *,
        read_only: bool,
        deadline: float,
        told: Callable[[_T | BaseException], object],
        instead: Callable[[AnyTicket, AtomicBatchError], _T] | None = None,
    ) -> Abandon:
        """
        Have ``work`` done in a worker thread, on that thread's session.

        It is ended at ``deadline``, and is over within a second of that, whatever the database
        does; see ``threads.py``.

        Args:
            work: What to do with the session.
            read_only: It only reads.
            deadline: When it has to be over, in seconds of ``time.monotonic()``.
            told: Called once with the answer, in any thread: what ``work`` returns or raises, or
                TimeoutExceededError (the time was over before COMMIT), or UnknownOutcomeError
                (COMMIT had not been answered).
            instead: Makes the result if the thread has to be given up before COMMIT.

        Returns:
            What to call when nobody waits for the result any more: the work is ended, unless COMMIT
            has been sent. ``told`` is called all the same, once it is over.

        Raises:
            LimitError: Too much is waiting for a thread already.
        """
        read_only = read_only or self.read_only
        threads = self._readers if read_only else self._writers
        ticket = threads.start(
            work, deadline=deadline, read_only=read_only, told=told, instead=instead
        )
        return partial(threads.abandon, ticket)

    async def run(self, work: Callable[[Session], _T], *, read_only: bool, seconds: float) -> _T:
        """
        Run ``work`` as ``start`` does, and wait for it on an event loop.

        It is ended after ``seconds``, or when the caller is cancelled. Raises what ``start`` raises
        and the errors that its ``told`` is told.
        """
        read_only = read_only or self.read_only
        threads = self._readers if read_only else self._writers
        return await threads.run(work, seconds=seconds, read_only=read_only)

    def close(self, seconds: float = 5.0) -> None:
        """
        Wait for the work under way, at most ``seconds``; then end it, and close all connections.

        Returns within two seconds after that, whatever the database does.
        """
        deadline = time.monotonic() + seconds
        for threads in (self._writers, self._readers):
            threads.close(max(0.0, deadline - time.monotonic()))


def is_read_only(batch: Batch) -> bool:
    """Whether a batch only reads: it then runs in a snapshot and takes no write lock."""
    return all(call.method in ("GET", "HEAD") for call in batch.calls)
