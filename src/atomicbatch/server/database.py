"""
Database: worker threads, one connection each, and the transactions that batches run in.

A whole batch runs in one worker thread on one connection: nothing is handed over per call. On
SQLite one thread does all the writing, so that the batches of this process stand in line instead
of polling for the write lock; readers have threads of their own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa

from atomicbatch.engine import Turns
from atomicbatch.errors import (
    AtomicBatchError,
    BusyError,
    TimeoutExceededError,
    TransactionError,
)
from atomicbatch.model import Batch
from atomicbatch.server.backends import (
    Backend,
    Execute,
    Raw,
    Row,
    backend_for,
    dialect_of,
)
from atomicbatch.server.reflection import read_schema
from atomicbatch.server.schema import Schema
from atomicbatch.transactions.base import statement_error

_log = logging.getLogger("atomicbatch.server")
_T = TypeVar("_T")


class Ticket:
    """
    One caller's claim to transactions: one, and others when its batch is run again.

    Attributes:
        over: None of them can commit any more.
        raced: What has met another transaction already, see ``Session.raced``.
    """

    __slots__ = ("over", "raced")

    def __init__(self) -> None:
        self.over = False
        self.raced: set[tuple[str, ...]] = set()


class Session:
    """
    One worker thread's connection; as a context manager, one transaction on it.

    It is what ``engine.run`` is given as the transaction and ``rows`` as the connection.

    Attributes:
        execute: SQL text and parameters -> a DB-API cursor; valid inside a transaction.
        reply_bytes: Bytes of the replies made in this transaction so far.
    """

    execute: Execute

    def __init__(self, backend: Backend, *, reader: bool) -> None:
        self.backend = backend
        self.driver_error = backend.driver_error
        self.reply_bytes = 0
        self._reader = reader
        self._read_only = reader
        self._raw: Raw | None = None
        self._lock = threading.Lock()
        self._running: Ticket | None = None
        self._ticket = Ticket()

    def reserve(self, ticket: Ticket, *, read_only: bool) -> None:
        """Say whose the next transactions are (for ``interrupt``), and whether they only read."""
        self._ticket = ticket
        self._read_only = read_only

    def stream(self, sql: str, parameters: Sequence[Any]) -> Generator[Row]:
        """The rows of a SELECT, one after another; close it before anything else is executed."""
        return self.backend.stream(self._raw, sql, parameters)

    def raced(self, what: tuple[str, ...]) -> bool:
        """Whether this was asked before in a run of the same batch."""
        before = what in self._ticket.raced
        self._ticket.raced.add(what)
        return before

    def begin(self, batch: Batch, *, deadline: float) -> Session:  # noqa: ARG002 - part of the contract
        """A transaction for ``batch``: a context manager, see ``transactions.base``."""
        return self

    def __enter__(self) -> Session:
        if self._ticket.over:
            raise _too_late()
        if self._raw is None:
            self._raw = self._connect()
            self.execute = self.backend.executor(self._raw)
        try:
            self.backend.begin(self._raw, read_only=self._read_only)
        except self.driver_error as error:
            self._discard()
            # A connection that broke while it was idle: the next attempt makes a new one.
            raise statement_error(error) or _no_connection(error) from error
        self.reply_bytes = 0
        with self._lock:
            self._running = self._ticket
        return self

    def _connect(self) -> Raw:
        try:
            return self.backend.connect(reader=self._reader)
        except self.driver_error as error:
            raise _no_connection(error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:  # waits for an interrupt that is under way; none can begin after it
            self._running = None
            interrupted = self._ticket.over
        if kind is None and not interrupted:
            self._commit()
            return
        self._roll_back(discard=interrupted)
        if interrupted and kind is None:
            raise _too_late()

    def _commit(self) -> None:
        try:
            self.backend.commit(self._raw)
        except TransactionError:
            self._roll_back(discard=False)
            raise
        except BaseException:
            self._discard()
            raise

    def _roll_back(self, *, discard: bool) -> None:
        try:
            self.backend.rollback(self._raw)
        except Exception as error:
            # A closed connection is rolled back by the server.
            _log.debug("ROLLBACK failed, the connection is closed: %s", error)
            discard = True
        if discard:
            # An interrupt may still be on its way and would hit the next batch.
            self._discard()

    def _discard(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            try:
                self.backend.close(raw)
            except Exception as error:
                _log.debug("closing a connection failed: %s", error)

    def trouble(self, error: Exception) -> TransactionError | None:
        """The error of ours that a driver's exception stands for; None: the call's own fault."""
        return _too_late() if self._ticket.over else statement_error(error)

    def interrupt(self, ticket: Ticket) -> None:
        """End the statement of ``ticket``, from any thread; does nothing where none is running."""
        with self._lock:
            if self._running is ticket and self._raw is not None:
                self.backend.interrupt(self._raw)

    def close(self) -> None:
        """Close the connection."""
        self._discard()


def _too_late() -> TimeoutExceededError:
    return TimeoutExceededError("the time for the whole batch is over")


def _no_connection(error: Exception) -> AtomicBatchError:
    _log.warning("no connection to the database: %s", error)
    return BusyError("the database cannot be reached")


class _Threads:
    """A pool of worker threads with a session each."""

    def __init__(self, backend: Backend, size: int, *, reader: bool) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="reader" if reader else "writer")
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._backend, self._reader = backend, reader

    def _session(self) -> Session:
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = Session(self._backend, reader=self._reader)
            self._local.session = session
            self._sessions.append(session)
        return session

    async def run(self, work: Callable[[Session], _T], *, read_only: bool, seconds: float) -> _T:
        loop = asyncio.get_running_loop()
        ticket = Ticket()
        taken: list[Session] = []

        def begin() -> _T:
            session = self._session()
            session.reserve(ticket, read_only=read_only)
            taken.append(session)
            return work(session)

        def interrupt() -> None:
            ticket.over = True
            for session in taken:
                # Some drivers interrupt by way of the network.
                loop.run_in_executor(None, session.interrupt, ticket)

        timer = loop.call_later(seconds, interrupt)
        task = self._pool.submit(begin)
        future = asyncio.wrap_future(task)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The caller is gone: its batch must not commit, and must be over before we go on.
            if not task.cancel():
                interrupt()
                await asyncio.wait([future])
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        for session in self._sessions:
            session.close()


class Database:
    """
    A database that is served: its schema, read once, and the threads that work on it.

    Attributes:
        turns: The line for batches that have met a conflict.

    Raises:
        ValueError: No such kind of database is served.
        sqlalchemy.exc.SQLAlchemyError: It cannot be reached or read.
    """

    def __init__(self, url: sa.URL, *, read_only: bool = False, threads: int = 8) -> None:
        self.read_only = read_only
        self.turns = Turns()
        backend = backend_for(url, read_only=read_only)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect():
            backend.dialect = dialect_of(engine)
        self.schema: Schema = read_schema(engine, backend.dialect)
        if backend.one_writer:
            self._writers = _Threads(backend, 1, reader=False)
            self._readers = _Threads(backend, threads, reader=True)
        else:
            self._writers = self._readers = _Threads(backend, threads, reader=False)

    async def run(self, work: Callable[[Session], _T], *, read_only: bool, seconds: float) -> _T:
        """
        Run ``work`` in a worker thread, on that thread's session; interrupt it after ``seconds``.

        A cancelled caller interrupts it too, and waits for it to end.
        """
        read_only = read_only or self.read_only
        threads = self._readers if read_only else self._writers
        return await threads.run(work, read_only=read_only, seconds=seconds)

    def close(self) -> None:
        """Wait for the work under way, then close all connections."""
        self._writers.close()
        if self._readers is not self._writers:
            self._readers.close()


def is_read_only(batch: Batch) -> bool:
    """Whether a batch only reads: it then runs in a snapshot and takes no write lock."""
    return all(call.method in ("GET", "HEAD") for call in batch.calls)
