"""aiomysql: MariaDB and MySQL, PyMySQL on an event loop."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.mysql import check_state, check_warnings, kill_query, state_of
from atomicbatch.drivers.pep249 import first_column


async def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows: a round trip for each statement."""
    if connection._writer is None:
        # Of what is closed, aiomysql says it in a text only.
        raise ConnectionError("the connection to the database is closed")
    for text in texts:
        await connection.query(text)


async def ask(connection: Any, text: str) -> Any:
    """Run a query; return the first column of its one row, or None."""
    async with connection.cursor() as cursor:
        await cursor.execute(text)
        return first_column(await cursor.fetchone())


def state(connection: Any) -> State:
    """The flag that came with the server's last answer."""
    return state_of(connection.server_status)


async def commit(connection: Any) -> None:
    """COMMIT, see ``AsyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        await connection.query("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error


async def rollback(connection: Any) -> None:
    """ROLLBACK, see ``AsyncDriver.rollback``."""
    await connection.query("ROLLBACK")
    if connection._result.warning_count:
        await connection.query("SHOW WARNINGS")
        check_warnings(connection._result.rows)


def socket_number(connection: Any) -> int | None:
    """The number of its transport's socket."""
    return int(connection._writer.transport.get_extra_info("socket").fileno())


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:
    """Stop the statement by KILL QUERY, on a connection made like this one if need be."""

    def on_a_copy(text: str, seconds: float) -> None:
        # On an event loop of its own: that of the connection may be what stands still.
        asyncio.run(_send_by(connection, text, seconds))

    return kill_query(int(connection.thread_id()), elsewhere or on_a_copy)


async def _send_by(connection: Any, text: str, seconds: float) -> None:
    other = copied(connection)
    other.init_command = None
    other._loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            await other._connect()
            await other.query(text)
    finally:
        other.close()


def copied(connection: Any) -> Any:
    """Make another connection with the same parameters, which is not connected yet."""
    other = copy.copy(connection)
    other._reader = other._writer = other._result = other._close_reason = None
    return other
