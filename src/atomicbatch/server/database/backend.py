"""Backend: what the server needs of a database, whichever it is."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.driver import SyncDriver
from atomicbatch.drivers.stopper import own_socket
from atomicbatch.errors import CommitError
from atomicbatch.server.database.faults import fault_of
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.dialect import Dialect

Raw = Any
"""A driver's connection."""
Execute = Callable[[str, Sequence[Any]], Any]
"""SQL text and parameters -> a DB-API cursor (PEP 249)."""
Row = Sequence[Any]

CONNECT_SECONDS = 5
"""How long to wait for a connection where the URL says nothing else."""
INTERRUPT_SECONDS = 1
"""
How long a request to end a statement may take.

Shorter than what a statement may take to end once it is interrupted: see ``threads.py``.
"""


class Backend(ABC):
    """One database and how its driver is used."""

    dialect: Dialect
    driver: SyncDriver
    """Our module for the driver, from ``atomicbatch/drivers/``."""
    driver_error: type[Exception]
    """The driver's base exception."""
    one_writer = False
    """Whether the database takes one writing transaction at a time."""
    has_versions = False
    """Whether ``schema_version`` tells, within a transaction, that the schema has changed."""

    # How long the engine's connections wait for the database.
    _engine_waits: Mapping[str, Any] = {}

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        self.url = url
        self.read_only = read_only

    def engine(self) -> sa.Engine:
        """An engine to read the schema with."""
        return sa.create_engine(
            self.url, poolclass=sa.NullPool, connect_args=dict(self._engine_waits)
        )

    def schema_version(self, raw: Raw) -> int | None:  # noqa: ARG002 - only SQLite has one
        """A number that changes with the schema, as the transaction on ``raw`` sees it."""
        return None

    def moved(self, raw: Raw) -> bool:  # noqa: ARG002 - only a file can be
        """Whether another database has taken the place of the one that ``raw`` has open."""
        return False

    def takes_any_text(self, raw: Raw, error: Exception) -> bool:  # noqa: ARG002 - only SQLite
        """Whether ``error`` came from text that is not UTF-8; ``raw`` now reads such text."""
        return False

    def leave(self, raw: Raw) -> None:
        """Give up the connection to a database that has moved."""
        self.close(raw)

    @abstractmethod
    def connect(self, *, reader: bool) -> Raw:
        """A new connection; ``reader``: it will only ever begin read-only transactions."""

    @abstractmethod
    def executor(self, raw: Raw) -> Execute:
        """How statements are executed on ``raw``."""

    @abstractmethod
    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        """
        The rows of a SELECT or RETURNING, one after another, without having them all in memory.

        Raises:
            TooMuchError: More has come in than ``most_bytes`` of JSON can be.
        """

    @abstractmethod
    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        """The first row of a SELECT or RETURNING, or None; raises as ``stream`` does."""

    @abstractmethod
    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        """All rows of a SELECT that gives few; None: some are long, so ``stream`` them."""

    @abstractmethod
    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        """
        BEGIN, serializable; waits for a lock no longer than ``ticket`` allows.

        Raises:
            BusyError: The lock could not be had.
        """

    def send_begin(self, raw: Raw, ticket: AnyTicket) -> None:
        """``begin``; where BEGIN can travel with the first statement, it is not waited for."""
        self.begin(raw, ticket)

    def flight(self, raw: Raw) -> Any:  # noqa: ARG002 - only libpq has a pipeline
        """What sends statements before earlier ones are answered (``flight.py``); None: nothing."""
        return None

    def settle(self, raw: Raw) -> None:  # noqa: B027 - only libpq has a pipeline
        """
        Let nothing be on its way any more.

        Afterwards any query can be sent: a transaction that has failed is rolled back.
        """

    def commit(self, raw: Raw) -> None:
        """
        Prove that the transaction still stands, and COMMIT.

        Raises:
            BrokenTransactionError: It does not stand any more.
            CommitError, ConflictError: Refused, and rolled back or to be rolled back.
            UnknownOutcomeError: Anything else came out of COMMIT. The connection must not be used
                again, not even for ROLLBACK.
        """
        try:
            self._prove_and_commit(raw)
        except CommitError as error:
            raise _with_names(error) from error.__cause__

    def _prove_and_commit(self, raw: Raw) -> None:
        self.driver.commit(raw)

    def rollback(self, raw: Raw) -> None:
        """
        ROLLBACK, whatever state the transaction is in.

        Raises:
            BrokenTransactionError: Some of it stays.
        """
        self.driver.rollback(raw)

    def interrupt(self, raw: Raw) -> None:
        """End the statement that another thread executes on ``raw``; takes a second at most."""
        self.driver.interrupter(raw, self._run_elsewhere)(INTERRUPT_SECONDS)

    def _run_elsewhere(self, sql: str, seconds: float) -> None:
        """Run a statement on another connection; only MySQL's drivers ask for it."""
        raise NotImplementedError

    def socket(self, raw: Raw) -> socket.socket | None:
        """A socket of our own on the connection of ``raw``, or None where it has none."""
        return own_socket(self.driver, raw)

    def is_worn(self, raw: Raw) -> bool:  # noqa: ARG002 - only libpq keeps what it once needed
        """Whether ``raw`` holds memory that only closing it gives back."""
        return False

    def close(self, raw: Raw) -> None:
        """Give ``raw`` up."""
        raw.close()


def _with_names(error: CommitError) -> CommitError:
    """The same refusal of COMMIT, with the constraint's name, if the database has named it."""
    fault = None if error.__cause__ is None else fault_of(error.__cause__)
    if fault is None:
        return error
    named = CommitError(f"the database refused the COMMIT: {fault.detail}")
    named.status = fault.status
    return named


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """What SQLAlchemy would give to the driver's ``connect``, with the options of the URL."""
    _, keywords = url.get_dialect()().create_connect_args(url)
    return dict(keywords)


def received(most_bytes: int) -> int:
    """How much the database may send for JSON of ``most_bytes``: bytes are twice as long there."""
    return most_bytes + most_bytes // 2 + 64 * 1024


# A host that has gone silently is noticed after about half a minute, even if nobody waits for it.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
USER_TIMEOUT_MILLISECONDS = 30_000
