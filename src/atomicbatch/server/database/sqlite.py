"""SQLite for the server: a file in WAL mode, with one writer at a time; readers never wait."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Sequence
from operator import methodcaller
from typing import Any

import sqlalchemy as sa

from atomicbatch.drivers.conflicts import is_conflict
from atomicbatch.drivers.known import SYNC
from atomicbatch.drivers.sqlite3 import BEGIN, BEGIN_TO_READ, commit
from atomicbatch.errors import BusyError, ConflictError
from atomicbatch.server.database.backend import Backend, Execute, Raw, Row
from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.database.sqlite_files import (
    FileConnection,
    leave_file,
    note_identities,
    open_file,
)
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.dialect import SQLITE


class SQLiteBackend(Backend):
    """An SQLite file, in WAL mode: one writer at a time, readers never blocked."""

    dialect = SQLITE
    driver = SYNC["sqlite3"]
    driver_error = sqlite3.Error
    one_writer = has_versions = True
    # Another process may hold the write lock (``--workers``, or a program of the user's).
    busy_seconds = 5.0
    # SQLite's own waiting cannot be ended, so it is done in short pieces.
    _piece_seconds = 0.1

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
            # A file that is not in WAL mode locks readers out too. The wait is rounded to 100 ms,
            # so that the driver's cache of statements is not filled by this one.
            raw.execute(f"PRAGMA busy_timeout={max(1, int(seconds * 10)) * 100}")
            raw.execute(BEGIN_TO_READ)
            return
        deadline = time.monotonic() + seconds
        while True:
            try:
                raw.execute(BEGIN)
            except sqlite3.OperationalError as error:
                if not is_conflict(error):
                    raise
                if time.monotonic() > deadline or ticket.over:
                    # We have waited long enough: running the batch again would not help.
                    raise BusyError(
                        "the database is busy: another program holds its write lock"
                    ) from error
            else:
                return

    def _prove_and_commit(self, raw: Raw) -> None:
        if raw.in_transaction and raw.moved():
            raise ConflictError("another file has taken the place of the database")
        # The connection has one file, and SQLite's own defaults for writing it.
        commit(raw, full_is_refused=True)


_LENGTH = sqlite3.SQLITE_LIMIT_LENGTH
_LONGEST = 2**31 - 1
# What a statement's own parameters and sorting may take beside what it gives.
_MORE_BYTES = 64 * 1024
_SHORT_BYTES = 8 * 1024


def _too_much(error: Exception) -> TooMuchError | None:
    """The error of ours, if SQLite refused a value for being longer than the limit set here."""
    return TooMuchError() if getattr(error, "sqlite_errorname", "") == "SQLITE_TOOBIG" else None


def _fold(text: Any) -> Any:
    """The SQL function ``atomicbatch_fold``: text as it compares when case does not matter."""
    return text.decode(errors="replace").casefold() if isinstance(text, bytes) else text
