"""PyMySQL: MariaDB and MySQL, in pure Python."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from atomicbatch.drivers import pep249
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.mysql import check_state, check_warnings, kill_query, state_of

ask = pep249.ask


def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows: a round trip for each statement."""
    for text in texts:
        connection.query(text)


def state(connection: Any) -> State:
    """The flag that came with the server's last answer."""
    return state_of(connection.server_status)


def commit(connection: Any) -> None:
    """COMMIT, see ``SyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        connection.query("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error


def rollback(connection: Any) -> None:
    """ROLLBACK, see ``SyncDriver.rollback``."""
    connection.query("ROLLBACK")
    if connection._result.warning_count:
        connection.query("SHOW WARNINGS")
        check_warnings(connection._result.rows)


def socket_number(connection: Any) -> int | None:
    """The number of its socket."""
    return int(connection._sock.fileno())


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:
    """Stop the statement by KILL QUERY, on a connection made like this one if need be."""

    def on_a_copy(text: str, seconds: float) -> None:
        other = copied(connection)
        other.init_command = None
        other.connect_timeout = other._read_timeout = other._write_timeout = seconds
        other.connect()
        with closing(other):
            other.query(text)

    return kill_query(int(connection.thread_id()), elsewhere or on_a_copy)


def copied(connection: Any) -> Any:
    """Make another connection with the same parameters, which is not connected yet."""
    other = copy.copy(connection)
    other._sock = other._rfile = other._result = None
    other._closed = True
    return other
