"""
sqlite3: Python's own driver of SQLite.

Its connections need ``check_same_thread=False`` for what other threads do to them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.errors import BrokenTransactionError

BEGIN = "BEGIN IMMEDIATE"
"""
Begins a transaction that writes.

It takes the write lock at once: SQLite refuses a lock that is taken later, after reading, without
waiting if somebody else has written meanwhile (SQLITE_BUSY_SNAPSHOT).
"""
BEGIN_TO_READ = "BEGIN"


def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows; there are no round trips to save."""
    execute = connection.cursor().execute
    for text in texts:
        execute(text)


def ask(connection: Any, text: str) -> Any:
    """Run a query; return the first column of its one row, or None."""
    cursor = connection.cursor()
    try:
        cursor.row_factory = None  # an app's may give anything
        row = cursor.execute(text).fetchone()
    finally:
        cursor.close()
    return None if row is None else row[0]


def state(connection: Any) -> State:
    """Whether a transaction is open. One that has read is open, too."""
    return State.OPEN if connection.in_transaction else State.IDLE


def commit(connection: Any, *, full_is_refused: bool = False) -> None:
    """
    COMMIT, see ``SyncDriver.commit``.

    A trigger's RAISE(ROLLBACK) and ON CONFLICT ROLLBACK end the transaction, and what comes after
    is stored statement by statement; hence the proof.

    Args:
        full_is_refused: See ``commit_errors.commit_error``.
    """
    if not connection.in_transaction:
        raise BrokenTransactionError("the database ended the transaction before COMMIT")
    try:
        connection.execute("COMMIT")
    except BaseException as error:
        raise commit_error(error, full_is_refused=full_is_refused) from error
    if connection.in_transaction:
        raise BrokenTransactionError("the transaction was still open after COMMIT")


def rollback(connection: Any) -> None:
    """ROLLBACK, if a transaction is open."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def socket_number(connection: Any) -> int | None:  # noqa: ARG001 - there is no server
    """None: a file has no socket."""
    return None


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Stop the statement by SQLite's own ``sqlite3_interrupt``, which never blocks."""

    def interrupt(seconds: float) -> None:  # noqa: ARG001
        # There is nothing to stop on a connection that is closed.
        with suppress(Exception):
            connection.interrupt()

    return interrupt
