"""PEP 249: what every driver with cursors can do, also one that we know nothing else about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State


def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL through a cursor, one statement at a time."""
    with closing(connection.cursor()) as cursor:
        for text in texts:
            cursor.execute(text)


def ask(connection: Any, text: str) -> Any:
    """Run a query; return the first column of its one row, or None."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(text)
        return first_column(cursor.fetchone())


def first_column(row: Any) -> Any:
    """The first column of a row, which an app's cursors may give as a dictionary."""
    if row is None:
        return None
    return next(iter(row.values())) if isinstance(row, Mapping) else row[0]


def state(connection: Any) -> State:  # noqa: ARG001 - PEP 249 has no word for it
    """Nothing is known."""
    return State.UNKNOWN


def commit(connection: Any) -> None:
    """COMMIT, as ``SyncDriver.commit`` says, but without a proof."""
    try:
        connection.commit()
    except BaseException as error:
        raise commit_error(error) from error


def rollback(connection: Any) -> None:
    """ROLLBACK."""
    connection.rollback()


def socket_number(connection: Any) -> int | None:
    """What many drivers tell, though PEP 249 does not ask for it."""
    return int(connection.fileno())


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Do nothing: the statement runs to its end, or until the connection is cut off."""

    def interrupt(seconds: float) -> None:
        """Stop nothing."""

    return interrupt
