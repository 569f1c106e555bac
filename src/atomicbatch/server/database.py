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
from sqlalchemy import exc

from atomicbatch.engine import Turns
from atomicbatch.errors import (
    AtomicBatchError,
    BrokenTransactionError,
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
from atomicbatch.server.catalog import Catalog
from atomicbatch.server.schema import Schema
from atomicbatch.transactions.base import statement_error

_log = logging.getLogger("atomicbatch.server")
_T = TypeVar("_T")
# How often a transaction is begun anew because the schema has changed meanwhile.
_MOST_LOOKS = 5


class Ticket:
    """
    One caller's claim to transactions: one, and others when its batch is run again.

    Attributes:
        over: None of them can commit any more.
        raced: What has met another transaction already, see ``Session.raced``.
        renewed: The batch was run again because the schema may have changed.
    """

    __slots__ = ("over", "raced", "renewed")

    def __init__(self) -> None:
        self.over = self.renewed = False
        self.raced: set[tuple[str, ...]] = set()


class Session:
    """
    One worker thread's connection; as a context manager, one transaction on it.

    It is what ``engine.run`` is given as the transaction and ``rows`` as the connection.

    Attributes:
        execute: SQL text and parameters -> a DB-API cursor; valid inside a transaction.
        reply_bytes: Bytes of the replies made in this transaction so far.
        catalog: The schema that is served, or None where statements are all that is wanted.
        schema: What the transaction sees; valid where there is a catalog.
    """

    execute: Execute
    schema: Schema

    def __init__(self, backend: Backend, catalog: Catalog | None = None, *, reader: bool) -> None:
        self.backend = backend
        self.catalog = catalog
        self.driver_error = backend.driver_error
        self.reply_bytes = 0
        self._reader = reader
        self._read_only = reader
        self._raw: Raw | None = None
        self._version: int | None = None
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
        for _ in range(_MOST_LOOKS):
            try:
                if self._begun():
                    break
            except (self.driver_error, exc.SQLAlchemyError) as error:
                self._discard()
                # A connection that broke while it was idle: the next attempt makes a new one.
                raise statement_error(error) or _no_connection(error) from error
        else:
            raise BusyError("the database's schema keeps changing")
        self.reply_bytes = 0
        with self._lock:
            self._running = self._ticket
        return self

    def _begun(self) -> bool:
        """BEGIN; False where what is served turned out to have changed: begin again."""
        if self._raw is None:
            self._raw = self._connect()
            self._version = None
            self.execute = self.backend.executor(self._raw)
        raw, backend, catalog = self._raw, self.backend, self.catalog
        if catalog is not None and not backend.has_versions:
            if catalog.is_due() and catalog.schema_of(raw) is None:
                catalog.read_again()
            self.schema = catalog.schema
        backend.begin(raw, read_only=self._read_only)
        if backend.moved(raw):
            self._raw = None
            backend.leave(raw)
            return False
        version = backend.schema_version(raw)
        if catalog is not None and version != self._version:
            schema = catalog.schema_of(raw)
            if schema is None:
                backend.rollback(raw)
                catalog.read_again()
                return False
            self.schema, self._version = schema, version
        return True

    def outdated(self, *, surely: bool = False) -> bool:
        """
        Whether the schema may have changed since it was read; True once for each batch.

        Args:
            surely: A statement has failed for want of what the schema says is there.
        """
        if self.catalog is None or self._ticket.renewed:
            return False
        if not surely and (
            self.backend.has_versions or self.catalog.schema_of(self._raw) is not None
        ):
            return False
        self.catalog.expire()
        self._ticket.renewed = True
        return True

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
        except BrokenTransactionError:
            if self.catalog is not None:
                self.catalog.expire()
            if discard:
                self._discard()
            raise
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

    def __init__(self, backend: Backend, catalog: Catalog, size: int, *, reader: bool) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="reader" if reader else "writer")
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._backend, self._catalog, self._reader = backend, catalog, reader

    def _session(self) -> Session:
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = Session(self._backend, self._catalog, reader=self._reader)
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
    A database that is served: its schema and the threads that work on it.

    Attributes:
        catalog: Its schema as it is now.

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
        engine = backend.engine()
        with engine.connect():
            backend.dialect = dialect_of(engine)
        self.catalog = Catalog(backend, engine)
        if backend.one_writer:
            self._writers = _Threads(backend, self.catalog, 1, reader=False)
            self._readers = _Threads(backend, self.catalog, threads, reader=True)
        else:
            self._writers = _Threads(backend, self.catalog, threads, reader=False)
            self._readers = self._writers

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
