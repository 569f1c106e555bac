"""psycopg2: PostgreSQL by libpq."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers import pep249
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.postgresql import check_state, in_one_text, state_of
from atomicbatch.drivers.psycopg import cancel_by_name
from atomicbatch.errors import UnknownOutcomeError

ask = pep249.ask
socket_number = pep249.socket_number


def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows, in one round trip."""
    pep249.send(connection, [in_one_text(texts)])


def state(connection: Any) -> State:
    """What libpq has heard from the server."""
    return state_of(connection.info.transaction_status)


def commit(connection: Any) -> None:
    """
    COMMIT, see ``SyncDriver.commit``; its proof takes no round trip.

    The driver itself must end the transactions that it has begun. It does not show the command tag,
    but COMMIT of a transaction that is in order is never answered by ROLLBACK.
    """
    check_state(state(connection))
    try:
        if connection.autocommit:
            pep249.send(connection, ["COMMIT"])
        else:
            connection.commit()
    except BaseException as error:
        raise commit_error(error) from error
    if state(connection) is not State.IDLE:
        raise UnknownOutcomeError("the database's answer to COMMIT could not be understood")


def rollback(connection: Any) -> None:
    """ROLLBACK, if a transaction is open."""
    if state(connection) is State.IDLE:
        return
    if connection.autocommit:
        pep249.send(connection, ["ROLLBACK"])
    else:
        connection.rollback()


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Stop the statement by another session of the same role."""
    number = int(connection.info.backend_pid)

    def interrupt(seconds: float) -> None:
        # Not by its cancel(), which holds Python's lock: a silent server would stop all threads.
        cancel_by_name(
            sys.modules["psycopg2"],
            connection.get_dsn_parameters(),
            connection.info.password,
            number,
            seconds,
        )

    return interrupt
