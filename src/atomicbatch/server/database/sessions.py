"""Sessions: a worker thread's connection, and the transactions that batches run in on it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from sqlalchemy import exc

from atomicbatch.engine import Turn, Turns
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.model import Batch, Reply
from atomicbatch.server.database.backend import Backend, Execute, Raw, Row
from atomicbatch.server.database.flight import Flight
from atomicbatch.server.database.threads import too_late
from atomicbatch.server.database.tickets import AnyTicket, untimed
from atomicbatch.server.principal import Principal
from atomicbatch.server.schema.catalog import Catalog
from atomicbatch.server.schema.tables import Schema
from atomicbatch.transactions.contract import statement_error

_log = logging.getLogger("atomicbatch.server")
# How long a transaction is begun anew because the schema has changed meanwhile.
_LOOK_SECONDS = 5.0


class Session:
    """
    One worker thread's connection; as a context manager, one transaction on it.

    The engine is given it as the transaction, and ``rows`` as the connection.

    Attributes:
        execute: SQL text and parameters -> a DB-API cursor; valid inside a transaction.
        stream, one, few: The methods of ``Backend`` with these names, on the session's connection.
        principal: Who asks for the call that is being performed; None: nobody has signed in.
        reply_bytes: Bytes of the replies made in this transaction so far.
        kept: For whoever performs calls: what to remember until the transaction ends.
        catalog: The schema that is served; None if nothing but statements is needed.
        schema: What the transaction sees of it; valid if there is a catalog.
        flight: What sends statements before earlier ones are answered, on this connection; None:
            the driver cannot.
    """

    execute: Execute
    stream: Callable[[str, Sequence[Any], int], Generator[Row]]
    one: Callable[[str, Sequence[Any], int], Row | None]
    few: Callable[[str, Sequence[Any], int], list[Row] | None]
    schema: Schema
    flight: Flight | None = None

    def __init__(
        self,
        backend: Backend,
        catalog: Catalog | None = None,
        turns: Turns | None = None,
        *,
        reader: bool,
    ) -> None:
        self.backend = backend
        self.catalog = catalog
        self.turns = Turns() if turns is None else turns
        self.driver_error = backend.driver_error
        self.principal: Principal | None = None
        self.reply_bytes = 0
        self.kept: dict[int, Any] = {}
        self._reader = reader
        self._raw: Raw | None = None
        self._version: int | None = None
        self._socket: socket.socket | None = None
        # Guards what other threads use to interrupt this one: whose turn it is, and on what.
        self._lock = threading.Lock()
        self._ticket = untimed(read_only=reader)

    def reserve(self, ticket: AnyTicket) -> None:
        """Say for whom the next transactions are."""
        with self._lock:
            self._ticket = ticket

    @property
    def replies(self) -> list[Reply]:
        """The replies of this transaction so far, for whoever has to answer for this thread."""
        replies = self._ticket.replies
        return [] if replies is None else replies

    def meets(self, batch: Batch) -> bool:
        """Whether a batch has to wait for its turn; see ``engine.turns``."""
        return self.turns.meets(batch)

    def ask(self, batch: Batch) -> Turn:
        """Stand in line, until it is our turn or our time is over."""
        turn = self.turns.ask(batch)
        self._ticket.stand_in_line(turn)
        return turn

    def raced(self, what: tuple[str, ...]) -> bool:
        """Whether this has been asked before, in an earlier run of the same batch."""
        before = what in self._ticket.raced
        self._ticket.raced.add(what)
        return before

    def begin(self, batch: Batch, *, deadline: float) -> Session:  # noqa: ARG002 - part of the contract
        """A transaction for ``batch``: a context manager, see ``transactions.contract``."""
        return self

    @staticmethod
    def took_part() -> bool:
        """All that a call does is done in this transaction; see ``transactions.contract``."""
        return True

    def __enter__(self) -> Session:
        give_up = time.monotonic() + _LOOK_SECONDS
        while True:
            self._check_time()
            try:
                if self._begun():
                    break
            except (self.driver_error, exc.SQLAlchemyError) as error:
                self._discard()
                # A connection that broke while it was idle: the next attempt makes a new one.
                raise self.trouble(error) or _no_connection(error) from error
            if time.monotonic() > give_up:
                raise BusyError("the database's schema keeps changing")
        self.reply_bytes = 0
        self.kept.clear()
        self._ticket.replies = []
        # If the ticket was ended while BEGIN was waiting, there was no statement to interrupt.
        if self._ticket.over:
            self._roll_back(discard=True)
            raise too_late()
        return self

    def not_begun(self, error: Exception) -> TransactionError:
        """The error for a BEGIN that has failed after it was sent; the connection is closed."""
        self._discard()
        if isinstance(error, TransactionError):
            return error
        return self.trouble(error) or _no_connection(error)

    def begin_again(self) -> None:
        """Undo what the transaction has done so far, and begin it anew."""
        self.backend.rollback(self._raw)
        self.backend.send_begin(self._raw, self._ticket)
        self.reply_bytes = 0
        self._ticket.replies = []

    def _begun(self) -> bool:
        """BEGIN; False if the database or its schema turned out to have changed: begin again."""
        if self._raw is None:
            self._connect()
            self._check_time()
            self._version = None
        raw, backend, catalog = self._raw, self.backend, self.catalog
        if catalog is not None and not backend.has_versions:
            if catalog.is_due() and catalog.schema_of(raw) is None:
                catalog.read_again()
            self.schema = catalog.schema
        backend.send_begin(raw, self._ticket)
        if backend.moved(raw):
            self._forget()
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

    def takes_any_text(self, error: Exception) -> bool:
        """Whether to run the batch again, because the connection can now read what it could not."""
        return self.backend.takes_any_text(self._raw, error)

    def outdated(self, *, surely: bool = False) -> bool:
        """
        Whether the schema may have changed since it was read; True once for each batch.

        Args:
            surely: A statement has failed because something that the schema has is not there.
        """
        if self.catalog is None or self._ticket.renewed:
            return False
        if not surely and not self._may_have_changed(self.catalog):
            return False
        self.catalog.expire()
        self._ticket.renewed = True
        return True

    def _may_have_changed(self, catalog: Catalog) -> bool:
        if self.backend.has_versions:
            return False
        try:
            self.backend.settle(self._raw)
            return catalog.schema_of(self._raw) is None
        except self.driver_error as error:
            if (trouble := self.trouble(error)) is None:
                raise
            raise trouble from error

    def _check_time(self) -> None:
        if self._ticket.over:
            raise too_late()

    def _connect(self) -> None:
        try:
            raw = self.backend.connect(reader=self._reader)
        except self.driver_error as error:
            raise _no_connection(error) from error
        with self._lock:
            self._raw = raw
            self._socket = self.backend.socket(raw)
        self.execute = self.backend.executor(raw)
        self.stream = partial(self.backend.stream, raw)
        self.one = partial(self.backend.one, raw)
        self.few = partial(self.backend.few, raw)
        self.flight = self.backend.flight(raw)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kept.clear()
        if kind is None and self._ticket.may_commit():
            self._commit()
            return
        over = self._ticket.over
        if self._raw is not None:  # else BEGIN has failed
            self._roll_back(discard=over)
        if over and kind is None:
            raise too_late()

    def _commit(self) -> None:
        try:
            self.backend.commit(self._raw)
        except UnknownOutcomeError:
            self._discard()
            raise
        except TransactionError:
            self._ticket.refused()
            self._roll_back(discard=self._ticket.over)
            raise
        except BaseException:
            self._discard()
            raise
        self._ticket.committed()
        if self._ticket.over or self.backend.is_worn(self._raw):
            self._discard()  # about to be severed, or of no use

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
        if discard or self.backend.is_worn(self._raw):
            # An interrupt may still be on its way, and would strike the next batch.
            self._discard()

    def _forget(self) -> Raw | None:
        """Let go of the connection, and return it to whoever is to close it."""
        with self._lock:
            raw, self._raw = self._raw, None
            own, self._socket = self._socket, None
        if own is not None:
            own.close()  # only our own descriptor of the socket
        return raw

    def _discard(self) -> None:
        raw = self._forget()
        if raw is not None:
            try:
                self.backend.close(raw)
            except Exception as error:
                _log.debug("closing a connection failed: %s", error)

    def trouble(self, error: Exception) -> TransactionError | None:
        """Our error for a driver's exception; None if the exception is the call's own fault."""
        return too_late() if self._ticket.over else statement_error(error)

    def stop(self, ticket: AnyTicket) -> None:
        """
        End the statement of ``ticket``, from any thread; it may take a second.

        The ticket must be over. Its connection is then not used again, so that a late interrupt
        strikes nobody else.
        """
        with self._lock:
            raw = self._raw if self._ticket is ticket else None
        if raw is not None:
            try:
                self.backend.interrupt(raw)
            except Exception as error:
                _log.debug("interrupting a statement failed: %s", error)

    def cut_off(self, ticket: AnyTicket) -> None:
        """Shut down the socket of ``ticket``, from any thread, at once."""
        with self._lock:
            if self._ticket is ticket and self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._discard()


def _no_connection(error: Exception) -> TransactionError:
    _log.warning("no connection to the database: %s", error)
    return BusyError("the database cannot be reached")
