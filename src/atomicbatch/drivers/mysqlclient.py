"""
mysqlclient (``MySQLdb``): MariaDB and MySQL, by their C library.

It does not show the server's flags, so nobody can tell without asking whether the transaction is
still the one that was begun. Prove it by a savepoint of your own, before COMMIT.
"""

from __future__ import annotations

from typing import Any

from atomicbatch.drivers import pep249
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt
from atomicbatch.drivers.mysql import check_warnings, kill_query

send = pep249.send
ask = pep249.ask
state = pep249.state
socket_number = pep249.socket_number


def commit(connection: Any) -> None:
    """COMMIT, as ``SyncDriver.commit`` says, but without a proof."""
    try:
        connection.query("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error


def rollback(connection: Any) -> None:
    """ROLLBACK, see ``SyncDriver.rollback``."""
    connection.query("ROLLBACK")
    if connection.warning_count():
        connection.query("SHOW WARNINGS")
        check_warnings(connection.store_result().fetch_row(maxrows=0))


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:
    """Stop the statement by KILL QUERY on another connection."""
    return kill_query(int(connection.thread_id()), elsewhere)
