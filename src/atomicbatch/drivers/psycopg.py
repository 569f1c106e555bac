"""psycopg (version 3), sync connections: PostgreSQL by libpq."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.postgresql import (
    check_state,
    check_tag,
    drive_cancel,
    in_one_text,
    state_of,
)


def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows, in one round trip."""
    # What has more than one statement cannot be prepared, which psycopg would do in the end.
    connection.execute(in_one_text(texts), prepare=False)


def ask(connection: Any, text: str) -> Any:
    """Run a query, in one round trip; return the first column of its one row, or None."""
    with connection.cursor(row_factory=first) as cursor:
        return cursor.execute(text, prepare=False).fetchone()


def first(_: Any) -> Callable[[Sequence[Any]], Any]:
    """A row factory that gives the first column."""
    return itemgetter(0)


def state(connection: Any) -> State:
    """What libpq has heard from the server."""
    return state_of(connection.pgconn.transaction_status)


def commit(connection: Any) -> None:
    """COMMIT, see ``SyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        cursor = connection.execute("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error
    check_tag(cursor.statusmessage)


def commit_after(connection: Any, texts: Sequence[str]) -> None:
    """
    Run SQL of ours, and COMMIT if it has succeeded, in one round trip.

    Raises:
        NotReachedError: Ours has failed, and COMMIT was not run.
        Exception: Of COMMIT, or of nobody knows what.
    """
    before = state(connection)
    try:
        connection.execute(in_one_text([*texts, "COMMIT"]), prepare=False)
    except Exception as error:
        raise_if_not_reached(before, state(connection), error)
        raise


def raise_if_not_reached(before: State, after: State, error: Exception) -> None:
    """
    Tell SQL of ours that has failed from a COMMIT that has, whatever the error says.

    The server leaves a transaction open, though broken, only if it has not run COMMIT. Where there
    was none, there is none afterwards; then it was ours that could not be run.
    """
    if after is State.ABORTED or before is after is State.IDLE:
        raise NotReachedError from error


def rollback(connection: Any) -> None:
    """ROLLBACK, if a transaction is open."""
    if state(connection) is not State.IDLE:
        connection.execute("ROLLBACK")


def socket_number(connection: Any) -> int | None:
    """The number of libpq's socket."""
    return int(connection.pgconn.socket)


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Stop the statement by libpq's cancel request; with a libpq before 17 by another session."""
    number = int(connection.info.backend_pid)

    def interrupt(seconds: float) -> None:
        try:
            cancel = connection.pgconn.cancel_conn()
        except Exception:  # libpq before 17, whose PQcancel would hold Python's lock
            info = connection.info
            cancel_by_name(
                sys.modules["psycopg"], info.get_parameters(), info.password, number, seconds
            )
            return
        try:
            cancel.start()
            drive_cancel(cancel, seconds)
        finally:
            cancel.finish()

    return interrupt


def cancel_by_name(
    module: Any, parameters: dict[str, str], password: str | None, number: int, seconds: float
) -> None:
    """
    Let another session of the same role stop the statement.

    Args:
        module: psycopg or psycopg2.
        parameters: What the connection was made with.
        password: Likewise; the parameters leave it out.
        number: The server's number of the session's process.
        seconds: How long connecting may take; libpq takes 2 for anything below.
    """
    keywords = parameters | {"password": password or "", "connect_timeout": max(2, int(seconds))}
    with (
        closing(module.connect(**keywords)) as other,
        closing(other.cursor()) as cursor,
    ):
        cursor.execute(f"SELECT pg_cancel_backend({number:d})")
