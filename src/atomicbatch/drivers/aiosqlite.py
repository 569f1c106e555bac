"""aiosqlite: sqlite3 with a thread for each connection; every hop to that thread costs time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from atomicbatch.drivers import sqlite3 as in_thread
from atomicbatch.drivers.driver import Elsewhere, Interrupt, State

if TYPE_CHECKING:
    import sqlite3

socket_number = in_thread.socket_number


async def send(connection: Any, texts: Sequence[str]) -> None:
    """Run SQL without parameters or rows, in one hop."""
    await connection._execute(in_thread.send, connection._conn, texts)


async def ask(connection: Any, text: str) -> Any:
    """Run a query, in one hop; return the first column of its one row, or None."""
    return await connection._execute(in_thread.ask, connection._conn, text)


def state(connection: Any) -> State:
    """Whether a transaction is open."""
    return in_thread.state(connection._conn)


async def commit(connection: Any) -> None:
    """COMMIT, in one hop, see ``AsyncDriver.commit``."""
    await connection._execute(in_thread.commit, connection._conn)


async def rollback(connection: Any) -> None:
    """ROLLBACK, in one hop, if a transaction is open."""
    await connection._execute(in_thread.rollback, connection._conn)


def interrupter(connection: Any, elsewhere: Elsewhere | None = None) -> Interrupt:  # noqa: ARG001
    """Stop the statement by SQLite's own ``sqlite3_interrupt``, which never blocks."""

    def interrupt(seconds: float) -> None:  # noqa: ARG001
        # There is nothing to stop on a connection that is closed, or whose thread has ended.
        with suppress(Exception):
            connection._conn.interrupt()

    return interrupt


def behind_statements(
    connection: Any, act: Callable[[sqlite3.Connection], object]
) -> threading.Event:
    """
    Do something in the connection's thread, after what runs there now; any thread may ask for it.

    It needs no event loop. sqlite3's connections must not be used in one thread while another one
    closes them, so this is the only safe way to use the connection from outside.

    Returns:
        Is set when it is done, and never if the connection has been closed before.
    """
    done = threading.Event()

    def run() -> None:
        try:
            act(connection._conn)
        finally:
            done.set()

    connection._tx.put_nowait((_NobodyWaits(), run))
    return done


class _NobodyWaits:
    """Stands for the future, and for its event loop, that aiosqlite tells of a result."""

    def get_loop(self) -> _NobodyWaits:
        return self

    def call_soon_threadsafe(self, *_: object) -> None:
        pass
