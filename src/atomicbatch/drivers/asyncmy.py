"""asyncmy: MariaDB and MySQL; aiomysql compiled, and alike but for a few names."""

from __future__ import annotations

from typing import Any

from atomicbatch.drivers import aiomysql
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import State
from atomicbatch.drivers.mysql import check_state, state_of

send = aiomysql.send
ask = aiomysql.ask
rollback = aiomysql.rollback
interrupter = aiomysql.interrupter


def state(connection: Any) -> State:
    """The flag that came with the server's last answer."""
    # The connection's own server_status keeps what it was where the server's is 0, which it is
    # outside of a transaction when autocommit is off.
    result = connection._result
    return state_of(connection.server_status if result is None else result.server_status)


async def commit(connection: Any) -> None:
    """COMMIT, see ``AsyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        await connection.query("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error


def socket_number(connection: Any) -> int | None:
    """The number of its transport's socket."""
    return int(connection._transport.get_extra_info("socket").fileno())
