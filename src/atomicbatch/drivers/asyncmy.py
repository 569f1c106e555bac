"""asyncmy: MariaDB and MySQL; aiomysql compiled, and alike but for a few names."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers import aiomysql
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.mysql import check_state, kill_query, state_of

ask = aiomysql.ask
rollback = aiomysql.rollback


async def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows: a round trip for each statement."""
    for text in texts:
        await connection.query(text)


def state(connection: Any) -> State:
    """The flag that came with the server's last answer."""
    return state_of(status(connection))


def status(connection: Any) -> int:
    """The flags that came with the server's last answer."""
    # The connection's own server_status keeps what it was where the server's is 0, which it is
    # outside of a transaction when autocommit is off.
    result = connection._result
    return int(connection.server_status if result is None else result.server_status)


async def commit(connection: Any) -> None:
    """COMMIT, see ``AsyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        await connection.query("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error


def socket_number(connection: Any) -> int | None:
    """The number of its transport's socket."""
    if hasattr(connection, "_transport"):
        transport = connection._transport
    else:
        transport = connection._writer.transport  # before 0.2.13
    return int(transport.get_extra_info("socket").fileno())


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:
    """Stop the statement by KILL QUERY, on a connection made like this one if need be."""

    def on_a_copy(text: str, seconds: float) -> None:
        # On an event loop of its own: that of the connection may be what stands still.
        asyncio.run(_send_by(connection, text, seconds))

    return kill_query(int(connection.thread_id()), elsewhere or on_a_copy)


async def _send_by(connection: Any, text: str, seconds: float) -> None:
    other = copied(connection)
    other._init_command = None
    other._loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            await other.connect()
            await other.query(text)
    finally:
        other.close()


def copied(connection: Any) -> Any:
    """Make another connection with the same parameters, which is not connected yet."""
    other = copy.copy(connection)
    other._transport = other._proto = other._result = None
    other._reader = other._writer = None  # before 0.2.13
    other._connected = False
    other._stmt_cache, other._stmt_cache_size = {}, 0
    return other
