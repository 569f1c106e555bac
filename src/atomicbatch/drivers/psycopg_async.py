"""psycopg (version 3), async connections: the twin of ``psycopg.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers import psycopg as sync
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import State
from atomicbatch.drivers.postgresql import check_state, check_tag, in_one_text

state = sync.state
socket_number = sync.socket_number
interrupter = sync.interrupter


async def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows, in one round trip."""
    await connection.execute(in_one_text(texts), prepare=False)


async def ask(connection: Any, text: str) -> Any:
    """Run a query, in one round trip; return the first column of its one row, or None."""
    async with connection.cursor(row_factory=sync.first) as cursor:
        await cursor.execute(text, prepare=False)
        return await cursor.fetchone()


async def commit(connection: Any) -> None:
    """COMMIT, see ``AsyncDriver.commit``; its proof takes no round trip."""
    check_state(state(connection))
    try:
        cursor = await connection.execute("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error
    check_tag(cursor.statusmessage)


async def commit_after(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL of ours, and COMMIT if it has succeeded; see ``psycopg.commit_after``."""
    before = state(connection)
    try:
        await connection.execute(in_one_text([*texts, "COMMIT"]), prepare=False)
    except Exception as error:
        sync.raise_if_not_reached(before, state(connection), error)
        raise


async def rollback(connection: Any) -> None:
    """ROLLBACK, if a transaction is open."""
    if state(connection) is not State.IDLE:
        await connection.execute("ROLLBACK")
