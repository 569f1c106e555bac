"""
Backends: how each database is opened, begun, committed and interrupted, by its own driver.

A backend holds no connection; its methods take the driver's. Whatever a driver raises passes
through, except what COMMIT raises, which only here can be told apart.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from operator import methodcaller
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.conflicts import is_conflict
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    CommitError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.server.database import counting
from atomicbatch.server.database.bounds import TOO_LONG, TooMuchError
from atomicbatch.server.database.faults import fault_of
from atomicbatch.server.database.sqlite_files import (
    FileConnection,
    leave_file,
    note_identities,
    open_file,
)
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.dialect import MARIADB, MYSQL, POSTGRESQL, SQLITE, Dialect
from atomicbatch.transactions.contract import commit_error

Raw = Any
"""A driver's connection."""
Execute = Callable[[str, Sequence[Any]], Any]
"""SQL text and parameters -> a DB-API cursor (PEP 249)."""
Row = Sequence[Any]


class Backend(ABC):
    """One database and how its driver is used."""

    dialect: Dialect
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
        """Whether ``error`` came of a text that is not UTF-8, and ``raw`` reads such texts now."""
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
        """All rows of a SELECT that has few; None: some are long, so ``stream`` them."""

    @abstractmethod
    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        """
        BEGIN, serializable; waits for a lock no longer than ``ticket`` allows.

        Raises:
            BusyError: The lock could not be had.
        """

    @abstractmethod
    def commit(self, raw: Raw) -> None:
        """
        Prove that the transaction still stands, and COMMIT.

        Raises:
            BrokenTransactionError: It does not stand any more.
            CommitError, ConflictError: Refused, and rolled back or to be rolled back.
            UnknownOutcomeError: Anything else has come out of COMMIT; the connection must not be
                used again, not even for ROLLBACK.
        """

    @abstractmethod
    def rollback(self, raw: Raw) -> None:
        """
        ROLLBACK, whatever state the transaction is in.

        Raises:
            BrokenTransactionError: Some of it stays.
        """

    @abstractmethod
    def interrupt(self, raw: Raw) -> None:
        """End the statement that another thread executes on ``raw``; takes a second at most."""

    def socket(self, raw: Raw) -> socket.socket | None:  # noqa: ARG002 - a file has none
        """The socket of ``raw``, by a descriptor of our own, which no driver closes."""
        return None

    def is_worn(self, raw: Raw) -> bool:  # noqa: ARG002 - only libpq keeps what it once needed
        """Whether ``raw`` holds memory that only closing it gives back."""
        return False

    def close(self, raw: Raw) -> None:
        """Give ``raw`` up."""
        raw.close()

    # Whether SQLITE_FULL from COMMIT proves that nothing is stored.
    _full_is_refused = False

    def _commit_error(self, error: BaseException) -> TransactionError:
        """The error of ours for whatever came out of COMMIT, with the constraint's name."""
        told = commit_error(error, full_is_refused=self._full_is_refused)
        fault = fault_of(error)
        if isinstance(told, CommitError) and fault is not None:
            told = CommitError(f"the database refused the COMMIT: {fault.detail}")
            told.status = fault.status
        return told


class SQLiteBackend(Backend):
    """An SQLite file, in WAL mode: one writer at a time, readers never blocked."""

    dialect = SQLITE
    driver_error = sqlite3.Error
    one_writer = has_versions = True
    # Another process may hold the write lock (``--workers``, or a program of the user's).
    busy_seconds = 5.0
    # SQLite's own waiting cannot be ended, so it is done in short pieces.
    _piece_seconds = 0.1
    # The connection has one file, and SQLite's own defaults for writing it.
    _full_is_refused = True

    def connect(self, *, reader: bool) -> FileConnection:
        # In WAL mode a writer waits for locks at BEGIN only.
        seconds = self.busy_seconds if reader or self.read_only else self._piece_seconds
        raw = open_file(str(self.url.database), busy_seconds=seconds)
        if not self.read_only:
            mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise sqlite3.OperationalError(f"journal_mode=WAL was refused, it is {mode}")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        if reader or self.read_only:
            raw.execute("PRAGMA query_only=ON")
        raw.create_function("atomicbatch_fold", 1, _fold, deterministic=True)
        raw.execute("PRAGMA schema_version").fetchone()
        note_identities(raw)
        return raw

    def engine(self) -> sa.Engine:
        return sa.create_engine(
            self.url, poolclass=sa.NullPool, creator=lambda: self.connect(reader=True)
        )

    def schema_version(self, raw: sqlite3.Connection) -> int:
        version: int = raw.execute("PRAGMA schema_version").fetchone()[0]
        return version

    def moved(self, raw: FileConnection) -> bool:
        return raw.moved()

    def takes_any_text(self, raw: sqlite3.Connection, error: Exception) -> bool:
        if raw.text_factory is not str or "Could not decode to UTF-8" not in str(error):
            return False
        # Slower, so only once there is one: other programs can store any bytes as text.
        raw.text_factory = methodcaller("decode", "utf-8", "surrogateescape")
        return True

    def leave(self, raw: FileConnection) -> None:
        self.rollback(raw)
        leave_file(raw)

    def executor(self, raw: Raw) -> Execute:
        execute: Execute = raw.execute
        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        before = raw.setlimit(_LENGTH, min(most_bytes + _MORE_BYTES, _LONGEST))
        try:
            cursor = raw.execute(sql, parameters)
            try:
                yield from cursor
            finally:
                cursor.close()
        except sqlite3.Error as error:
            raise _too_much(error) or error from None
        finally:
            raw.setlimit(_LENGTH, before)

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        before = raw.setlimit(_LENGTH, min(most_bytes + _MORE_BYTES, _LONGEST))
        try:
            row: Row | None = raw.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise _too_much(error) or error from None
        finally:
            raw.setlimit(_LENGTH, before)
        return row

    def few(
        self,
        raw: Raw,
        sql: str,
        parameters: Sequence[Any],
        most_bytes: int,  # noqa: ARG002 - a few short rows are never too much
    ) -> list[Row] | None:
        before = raw.setlimit(_LENGTH, _SHORT_BYTES)
        try:
            rows: list[Row] = raw.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            if _too_much(error) is not None:
                return None
            raise
        finally:
            raw.setlimit(_LENGTH, before)
        return rows

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        seconds = min(ticket.deadline - time.monotonic(), self.busy_seconds)
        if ticket.read_only:
            # A file that is not in WAL mode locks readers out too. In steps, so that the driver's
            # cache of statements is good for something.
            raw.execute(f"PRAGMA busy_timeout={max(1, int(seconds * 10)) * 100}")
            raw.execute("BEGIN")
            return
        deadline = time.monotonic() + seconds
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_conflict(error):
                    raise
                if time.monotonic() > deadline or ticket.over:
                    # We have waited already: no use in running the batch again.
                    raise BusyError(
                        "the database is busy: another program holds its write lock"
                    ) from error
            else:
                return

    def commit(self, raw: Raw) -> None:
        # A trigger's RAISE(ROLLBACK) or ON CONFLICT ROLLBACK ends the transaction; what came
        # after it would have been stored statement by statement.
        if not raw.in_transaction:
            raise BrokenTransactionError("the database ended the transaction before COMMIT")
        if raw.moved():
            raise ConflictError("another file has taken the place of the database")
        try:
            raw.execute("COMMIT")
        except BaseException as error:
            raise self._commit_error(error) from error
        if raw.in_transaction:
            raise BrokenTransactionError("the transaction was still open after COMMIT")

    def rollback(self, raw: Raw) -> None:
        if raw.in_transaction:
            raw.execute("ROLLBACK")

    def interrupt(self, raw: Raw) -> None:
        raw.interrupt()


_LENGTH = sqlite3.SQLITE_LIMIT_LENGTH
_LONGEST = 2**31 - 1
# What a statement's own parameters and sorting may take beside what it gives.
_MORE_BYTES = 64 * 1024
_SHORT_BYTES = 8 * 1024


def _too_much(error: Exception) -> TooMuchError | None:
    """SQLite has refused to make a value longer than it was told."""
    return TooMuchError() if getattr(error, "sqlite_errorname", "") == "SQLITE_TOOBIG" else None


def _fold(text: Any) -> Any:
    return text.decode(errors="replace").casefold() if isinstance(text, bytes) else text


class PostgreSQLBackend(Backend):
    """PostgreSQL by psycopg, SERIALIZABLE."""

    dialect = POSTGRESQL

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        super().__init__(url, read_only=read_only)
        import psycopg
        from psycopg.types.string import TextLoader

        self._connect: Callable[..., Any] = counting.postgresql().connect
        chunked = getattr(psycopg, "capabilities", None)
        # Older versions give row by row, which takes longer.
        self._chunks = {"size": 100} if chunked and chunked.has_stream_chunked() else {}
        self._text_loader = TextLoader
        given = connect_arguments(url)
        self._engine_waits = {k: v for k, v in _POSTGRESQL_WAITS.items() if k not in given}
        self._keywords = {**given, **self._engine_waits}
        self._idle = psycopg.pq.TransactionStatus.IDLE
        self._in_transaction = psycopg.pq.TransactionStatus.INTRANS
        self.driver_error = psycopg.Error

    # Read as the server writes them: Python's types would lose digits, years and infinity.
    _TEXT_TYPES = (
        *("numeric", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
        *("json", "jsonb", "uuid", "inet", "cidr"),
    )
    # How values are written as text: a role's or a database's own settings could lose digits.
    _SETTINGS = (
        *("TimeZone = 'UTC'", "DateStyle = 'ISO'", "IntervalStyle = 'iso_8601'"),
        *("bytea_output = 'hex'", "extra_float_digits = 1", "xmloption = 'content'"),
    )

    def connect(self, *, reader: bool) -> Raw:  # noqa: ARG002 - every connection does both
        raw = self._connect(**self._keywords, autocommit=True)
        for name in self._TEXT_TYPES:
            raw.adapters.register_loader(name, self._text_loader)
        for setting in self._SETTINGS:
            raw.execute(f"SET {setting}")
        if self.read_only:
            raw.execute("SET default_transaction_read_only = on")
        return raw

    def executor(self, raw: Raw) -> Execute:
        execute: Execute = raw.execute
        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        try:
            with raw.receiving(_received(most_bytes)):
                # Closed early, it cancels the query.
                yield from raw.cursor().stream(sql, parameters, **self._chunks)
        except self.driver_error as error:
            raise _too_long(error) or error from None

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        try:
            with raw.receiving(_received(most_bytes)):
                row: Row | None = raw.execute(sql, parameters).fetchone()
        except self.driver_error as error:
            raise _too_long(error) or error from None
        return row

    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        # The driver prepares it, unlike a stream.
        try:
            with raw.receiving(_received(most_bytes)):
                rows: list[Row] = raw.execute(sql, parameters).fetchall()
        except self.driver_error as error:
            raise _too_long(error) or error from None
        return rows

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        mode = "READ ONLY" if ticket.read_only else "READ WRITE"
        raw.execute(f"BEGIN ISOLATION LEVEL SERIALIZABLE {mode}")

    def commit(self, raw: Raw) -> None:
        if raw.info.transaction_status != self._in_transaction:
            raise BrokenTransactionError("the transaction was not in order before COMMIT")
        try:
            cursor = raw.execute("COMMIT")
        except BaseException as error:
            raise self._commit_error(error) from error
        # COMMIT of a failed transaction raises nothing: the server answers ROLLBACK.
        if cursor.statusmessage == "ROLLBACK":
            raise BrokenTransactionError(
                "the database rolled back instead of COMMIT", may_be_stored=False
            )
        if cursor.statusmessage != "COMMIT":
            raise UnknownOutcomeError("the database's answer to COMMIT could not be understood")

    def rollback(self, raw: Raw) -> None:
        if raw.info.transaction_status != self._idle:
            raw.execute("ROLLBACK")

    def is_worn(self, raw: Raw) -> bool:
        worn: bool = raw.is_worn
        return worn

    def interrupt(self, raw: Raw) -> None:
        raw.cancel_safe(timeout=_INTERRUPT_SECONDS)

    def socket(self, raw: Raw) -> socket.socket | None:
        return _own_descriptor(raw.fileno())


# "Some non-transactional changed tables couldn't be rolled back".
_NOT_ROLLED_BACK = 1196


class MariaDBBackend(Backend):
    """MariaDB and MySQL by PyMySQL, SERIALIZABLE."""

    dialect = MARIADB

    def __init__(self, url: sa.URL, *, read_only: bool) -> None:
        super().__init__(url, read_only=read_only)
        import pymysql
        from pymysql.constants import CLIENT, FIELD_TYPE, SERVER_STATUS
        from pymysql.converters import conversions
        from pymysql.cursors import SSCursor

        self._connect: Callable[..., Any] = counting.mysql()
        self._unbuffered = SSCursor
        keywords = connect_arguments(url)
        self._read_timeout = keywords.get("read_timeout")
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": _SCHEMA_SECONDS}
        self._engine_waits = {k: v for k, v in waits.items() if k not in keywords}
        self._in_transaction = SERVER_STATUS.SERVER_STATUS_IN_TRANS
        self.driver_error = pymysql.Error
        # Read as the server writes them: Python's types would lose digits and zero dates.
        as_text = (
            *(FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE),
            *(FIELD_TYPE.TIME, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP),
        )
        self._keywords: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            **keywords,
            "conv": {key: value for key, value in conversions.items() if key not in as_text},
            # UPDATE then counts the rows it found, not the rows it changed.
            "client_flag": int(keywords.get("client_flag", 0)) | CLIENT.FOUND_ROWS,
            "charset": "utf8mb4",
            "autocommit": True,
        }

    def connect(self, *, reader: bool) -> Raw:  # noqa: ARG002 - every connection does both
        raw = self._open(self._keywords["connect_timeout"])
        cursor = raw.cursor()
        cursor.execute(
            # Whatever the server's own mode is. Without the first the server cuts and rounds
            # values, and says nothing; without the second it numbers a row anew whose key is 0.
            # Zero dates are taken, so that those which are there can be sent back.
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,"
            "ERROR_FOR_DIVISION_BY_ZERO', SESSION time_zone = '+00:00'"
        )
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        cursor.close()
        # From now on whoever waits for an answer is watched, see ``threads.py``.
        raw._read_timeout = self._read_timeout
        return raw

    def _open(self, seconds: float) -> Raw:
        """A connection on which nothing takes longer than ``seconds``."""
        keywords = {**self._keywords, "connect_timeout": seconds, "read_timeout": seconds}
        raw = self._connect(**keywords)
        _keep_alive(raw._sock)
        return raw

    def executor(self, raw: Raw) -> Execute:
        def execute(sql: str, parameters: Sequence[Any]) -> Any:
            cursor = raw.cursor()
            cursor.execute(sql, parameters)
            return cursor

        return execute

    def stream(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> Generator[Row]:
        cursor = raw.cursor(self._unbuffered)
        with raw.receiving(_received(most_bytes)):
            cursor.execute(sql, parameters)
            try:
                yield from cursor
            except GeneratorExit:
                # The driver would read all the rest before it could go on: rather begin anew.
                raw.close()
                raise
            cursor.close()

    def one(self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int) -> Row | None:
        with raw.receiving(_received(most_bytes)), raw.cursor() as cursor:
            cursor.execute(sql, parameters)
            row: Row | None = cursor.fetchone()
        return row

    def few(
        self, raw: Raw, sql: str, parameters: Sequence[Any], most_bytes: int
    ) -> list[Row] | None:
        with raw.receiving(_received(most_bytes)), raw.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def begin(self, raw: Raw, ticket: AnyTicket) -> None:
        if ticket.read_only:
            # SERIALIZABLE would lock every row that is read; a snapshot locks none.
            raw.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            raw.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        else:
            raw.query("START TRANSACTION")

    def commit(self, raw: Raw) -> None:
        # DDL commits without a word, and a deadlock ends the transaction: the flag, which came
        # with the last answer, says whether ours still stands.
        if not raw.server_status & self._in_transaction:
            raise BrokenTransactionError("the database ended the transaction before COMMIT")
        try:
            raw.query("COMMIT")
        except BaseException as error:
            raise self._commit_error(error) from error

    def rollback(self, raw: Raw) -> None:
        with raw.cursor() as cursor:
            cursor.execute("ROLLBACK")
            if not cursor.warning_count:
                return
            cursor.execute("SHOW WARNINGS")
            if any(warning[1] == _NOT_ROLLED_BACK for warning in cursor.fetchall()):
                # The table, or one that a trigger writes to, was made so after we had looked.
                raise BrokenTransactionError(
                    "a table was changed whose storage engine cannot roll back: that change stays"
                )

    def interrupt(self, raw: Raw) -> None:
        helper = self._open(_INTERRUPT_SECONDS)
        try:
            helper.query(f"KILL QUERY {int(raw.thread_id())}")
        finally:
            helper.close()

    def socket(self, raw: Raw) -> socket.socket | None:
        return _own_descriptor(raw._sock.fileno())


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """What SQLAlchemy would call the driver's ``connect`` with, options of the URL included."""
    _, keywords = url.get_dialect()().create_connect_args(url)
    return dict(keywords)


def _received(most_bytes: int) -> int:
    """How much the database may send for JSON of ``most_bytes``: bytes are twice as long there."""
    return most_bytes + most_bytes // 2 + 64 * 1024


# A host that has gone without a word is noticed after about half a minute also where nobody waits.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_USER_TIMEOUT_MILLISECONDS = 30_000
CONNECT_SECONDS = 5
"""How long to wait for a connection where the URL says nothing else."""
_SCHEMA_SECONDS = 30
# Shorter than what a statement may take to end once it is interrupted: see ``threads.py``.
_INTERRUPT_SECONDS = 1
_POSTGRESQL_WAITS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": _KEEPALIVE["TCP_KEEPIDLE"],
    "keepalives_interval": _KEEPALIVE["TCP_KEEPINTVL"],
    "keepalives_count": _KEEPALIVE["TCP_KEEPCNT"],
    "tcp_user_timeout": _USER_TIMEOUT_MILLISECONDS,
}


def _keep_alive(own: socket.socket) -> None:
    """Let the kernel find out that the other side has gone, where it can."""
    if own.family == socket.AF_UNIX:
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**_KEEPALIVE, "TCP_USER_TIMEOUT": _USER_TIMEOUT_MILLISECONDS}
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # not on every system
            own.setsockopt(socket.IPPROTO_TCP, option, value)


def _own_descriptor(descriptor: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None


def _too_long(error: Exception) -> TooMuchError | None:
    """PostgreSQL has refused to give a value that is too long, see ``Statements.read_sql``."""
    return TooMuchError() if TOO_LONG in str(error) else None


def backend_for(url: sa.URL, *, read_only: bool) -> Backend:
    """
    The backend for a URL whose driver is chosen already.

    Raises:
        ValueError: No such kind of database is served.
    """
    name = url.get_backend_name()
    if name == "sqlite":
        return SQLiteBackend(url, read_only=read_only)
    if name == "postgresql":
        return PostgreSQLBackend(url, read_only=read_only)
    if name in ("mysql", "mariadb"):
        return MariaDBBackend(url, read_only=read_only)
    raise ValueError(f"{name} databases are not served; SQLite, PostgreSQL, MariaDB and MySQL are")


def dialect_of(engine: sa.Engine) -> Dialect:
    """The dialect of a connected engine: MySQL lacks RETURNING, which MariaDB has."""
    if engine.dialect.name == "sqlite":
        return SQLITE
    if engine.dialect.name == "postgresql":
        return POSTGRESQL
    return MARIADB if getattr(engine.dialect, "is_mariadb", False) else MYSQL
