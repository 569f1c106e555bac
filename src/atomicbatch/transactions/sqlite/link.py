"""The link: how the join's steps are run on the connection that a batch works on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from atomicbatch import greenlets
from atomicbatch.drivers import sqlite3 as driver
from atomicbatch.errors import BusyError, ConflictError

ON_LOOP = (
    "the batch could not be begun on the event loop without waiting; make handlers and "
    "dependencies that use sqlite3 'def', or use aiosqlite"
)
_in_transaction: Any = vars(sqlite3.Connection)["in_transaction"].__get__


class Past:
    """An adopted connection, used past its doors."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def cursor(self) -> sqlite3.Cursor:
        return sqlite3.Cursor(self._connection)

    def execute(self, text: str) -> sqlite3.Cursor:
        return self.cursor().execute(text)

    @property
    def in_transaction(self) -> bool:
        return bool(_in_transaction(self._connection))

    def interrupt(self) -> None:
        sqlite3.Connection.interrupt(self._connection)


# How often a lock is tried again, where SQLite itself does not wait for it.
_LOOK_AGAIN_SECONDS = 0.005


class Link:
    """
    What runs the join's steps.

    Args:
        connection: The batch's own, or an adopted one past its doors.
        deadline: How long COMMIT may wait for a lock, as time.monotonic() tells.
        wrote: Tells whether there is anything to commit.
        at_once: BEGIN is sent in the event loop's thread, where it must not wait.
        patience: How long BEGIN may wait for a lock, in seconds, where SQLite itself does not.
    """

    __slots__ = ("_at_once", "_connection", "_deadline", "_patience", "_wrote", "interrupt")

    def __init__(
        self,
        connection: Any,
        deadline: float,
        wrote: Callable[[], bool],
        *,
        at_once: bool,
        patience: float = 0.0,
    ) -> None:
        self._connection = connection
        self._wrote = wrote
        self._deadline = deadline
        self._at_once = at_once
        self._patience = patience
        self.interrupt: Callable[[], None] = connection.interrupt

    def send(self, texts: Sequence[str]) -> None:
        driver.send(self._connection, texts)

    def ask(self, text: str) -> Any:
        return driver.ask(self._connection, text)

    def begin(self) -> None:
        try:
            self._send_in_turns([driver.BEGIN], self._patience)
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_READONLY"):
                self.send([driver.BEGIN_TO_READ])  # a file that nobody may write
            elif self._at_once and name.startswith("SQLITE_BUSY"):
                raise ConflictError(ON_LOOP) from error
            elif name.startswith("SQLITE_BUSY"):
                raise BusyError("the database was locked for as long as the batch may take") from (
                    error
                )
            else:
                raise

    def commit(self) -> None:
        if not self._wrote():
            # A handler that has undone its work may have deleted the file as well.
            self.rollback()
            return
        seconds = max(0.0, self._deadline - time.monotonic())
        if not greenlets.are_threads():
            self.send([f"PRAGMA busy_timeout={int(seconds * 1000)}"])
        self._send_in_turns(["COMMIT"], seconds)

    def _send_in_turns(self, texts: Sequence[str], seconds: float) -> None:
        """
        Send what may have to wait for a lock.

        Where threads are greenlets, SQLite itself does not wait: whoever has the lock has to run.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                self.send(texts)
            except sqlite3.OperationalError as error:
                is_busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if not is_busy or not greenlets.are_threads() or time.monotonic() >= until:
                    raise
            else:
                return
            time.sleep(_LOOK_AGAIN_SECONDS)

    def rollback(self) -> None:
        driver.rollback(self._connection)

    def is_in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def is_aborted(self) -> bool:
        return False  # SQLite undoes a failed statement alone, and takes the next one

    def is_lost(self, error: Exception) -> bool:  # noqa: ARG002
        return False  # there is nothing between us and the file
