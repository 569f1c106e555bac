"""
Locks: of an app's connections to one database, one can write at a time; so it is in a batch.

All of them share the batch's transaction, and SQLite does not know them apart. So it is said here
who would have to wait, and who would hear "database is locked".
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from typing import Any, Protocol

from atomicbatch.join.checkout import Checkout
from atomicbatch.join.stack import Virtual
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.statements import read_statement

_TAKES_IT = re.compile(r"\s*BEGIN\s+(?:IMMEDIATE|EXCLUSIVE)\b", re.IGNORECASE)
_LOOK_AGAIN_SECONDS = 0.005
# Python's default for sqlite3.connect(timeout=).
_TIMEOUT_SECONDS = 5.0


class Writer(Protocol):
    """Who may have the lock: one connection of the app's."""

    checkout: Checkout
    thread: int

    def is_gone(self) -> bool:
        """Nobody has the connection any more. What it had open is undone."""


class WriteLock:
    """
    The write lock of one database, among the connections of one batch.

    Args:
        inside: What lets in one thread at a time; held by whoever asks here.
    """

    def __init__(self, inside: Any) -> None:
        self._inside = inside
        self._writer: Writer | None = None
        # The transaction for which it was taken.
        self._virtual: Virtual | None = None
        self._is_begun = False

    def take(self, writer: Writer, sql: str, timeout: Any) -> None:
        """
        Take it, if a statement needs it; it is free again when the writer's transaction ends.

        Args:
            writer: Who.
            sql: The statement.
            timeout: How long sqlite3 would wait for it, in seconds.

        Raises:
            sqlite3.OperationalError: Somebody else has it.
            TransactionError: The batch has failed meanwhile.
        """
        self._take_from_gone(writer)
        begins = _TAKES_IT.match(sql) is not None
        if not begins and read_statement(sql, Family.SQLITE).kind is not Kind.WRITE:
            return
        seconds = float(timeout) if isinstance(timeout, int | float) else _TIMEOUT_SECONDS
        give_up_at = time.monotonic() + seconds
        while self._is_taken_from(writer):
            # Whoever has it, in this thread, does not give it back while we wait.
            holder = self._writer
            is_hopeless = holder is not None and holder.thread == threading.get_ident()
            if is_hopeless or time.monotonic() >= give_up_at:
                raise _locked()
            self._inside.release()
            try:
                time.sleep(_LOOK_AGAIN_SECONDS)
            finally:
                self._inside.acquire()
            writer.checkout.transaction.status.check()
        self._writer, self._is_begun = writer, begins
        self._virtual = writer.checkout.virtual if not begins else None

    def note_begun(self, writer: Writer) -> None:
        """BEGIN IMMEDIATE has begun the transaction that has it."""
        if self._writer is writer and self._is_begun:
            self._virtual = writer.checkout.virtual

    def _take_from_gone(self, other: Writer) -> bool:
        """Let go of a writer whose connection is gone; whoever only reads sees that as well."""
        holder = self._writer
        if holder is None or holder is other or not holder.is_gone():
            return False
        self._writer = self._virtual = None
        return True

    def _is_taken_from(self, writer: Writer) -> bool:
        holder = self._writer
        if holder is None or holder is writer or self._take_from_gone(writer):
            return False
        virtual = holder.checkout.virtual
        return virtual is not None and (
            virtual.wrote or (self._is_begun and virtual is self._virtual)
        )


def _locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error
