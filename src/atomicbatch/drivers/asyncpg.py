"""asyncpg: PostgreSQL by a protocol of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.answers import answer_of
from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State
from atomicbatch.drivers.postgresql import check_tag, in_one_text, request_cancel
from atomicbatch.errors import BrokenTransactionError


async def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows, in one round trip, by the simple query protocol."""
    _check_open(connection)
    await connection.execute(in_one_text(texts))


async def ask(connection: Any, text: str) -> Any:
    """Run a query; return the first column of its one row, or None. The first time: two trips."""
    _check_open(connection)
    return await connection.fetchval(text)


def _check_open(connection: Any) -> None:
    """Say that a connection is lost in such a way that it is not taken for a mistake of ours."""
    if connection.is_closed():
        raise ConnectionResetError("the connection to the database is closed")


def state(connection: Any) -> State:
    """IDLE, or UNKNOWN: it keeps to itself whether the transaction has failed."""
    if connection.is_closed() or connection.is_in_transaction():
        return State.UNKNOWN
    return State.IDLE


def begin(level: str | None, *, read_only: bool, deferrable: bool) -> str:
    """
    Write the statement that begins a transaction, as asyncpg's own ``transaction()`` would.

    Args:
        level: An isolation level, as asyncpg has it: ``repeatable_read``; None: the server's own.
        read_only: It will only read.
        deferrable: It may wait until it cannot conflict.
    """
    words = ["BEGIN"]
    if level is not None:
        words.append(f"ISOLATION LEVEL {level.replace('_', ' ').upper()}")
    if read_only:
        words.append("READ ONLY")
    if deferrable:
        words.append("DEFERRABLE")
    return " ".join(words)


async def commit(connection: Any) -> None:
    """COMMIT, see ``AsyncDriver.commit``; the answer to COMMIT is the proof."""
    if state(connection) is State.IDLE:
        raise BrokenTransactionError("the database ended the transaction before COMMIT")
    try:
        tag = await connection.execute("COMMIT")
    except BaseException as error:
        raise commit_error(error) from error
    check_tag(tag)


async def commit_after(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL of ours, and COMMIT if it has succeeded; see ``psycopg.commit_after``."""
    was_open = connection.is_in_transaction()
    try:
        await connection.execute(in_one_text([*texts, "COMMIT"]))
    except Exception as error:
        # It remembers the state as of the server's last answer. So there must have been one.
        is_answered = answer_of(error) is not None and not connection.is_closed()
        if is_answered and (connection.is_in_transaction() or not was_open):
            raise NotReachedError from error
        raise


async def rollback(connection: Any) -> None:
    """ROLLBACK, if a transaction is open."""
    if state(connection) is not State.IDLE:
        await connection.execute("ROLLBACK")


def socket_number(connection: Any) -> int | None:
    """The number of its transport's socket."""
    return int(connection._transport.get_extra_info("socket").fileno())


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Stop the statement by a CancelRequest over a socket of our own, without the event loop."""
    address, parameters = connection._addr, connection._params
    pid, secret = connection._protocol.backend_pid, connection._protocol.backend_secret

    def interrupt(seconds: float) -> None:
        request_cancel(address, parameters, pid, secret, seconds)

    return interrupt
