"""What an adapter that joins connections has to know of asyncpg; see ``server_uses.Kind``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from atomicbatch.doors.asyncpg_sides import Abroad, note_wire
from atomicbatch.doors.asyncpg_statements import Means
from atomicbatch.doors.asyncpg_wire import opened
from atomicbatch.doors.closed import Closed
from atomicbatch.drivers import asyncpg as driver
from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.answers import answer_of
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.postgresql import in_one_text
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, aside
from atomicbatch.sql.kinds import Family

# What the server says to ours where the transaction is over, or is not in order.
_NOT_REACHED = ("25P01", "25P02", "3B001")
_CLOSING_SECONDS = 1.0


def _place(connection: Any) -> Place | None:
    address = connection._addr
    host, port = address if isinstance(address, tuple) else (address, None)
    if port is None:
        # The path of a socket, whose name ends with the port.
        port = str(host).rpartition(".")[2]
    return of_server("postgresql", host, port, connection._params.database)


ASYNCPG = Driver("asyncpg", Family.POSTGRESQL, _place)


class Kind:
    """The one of asyncpg. What its methods do on a connection passes the doors."""

    def __init__(self) -> None:
        self.named = ASYNCPG
        self.driver: SyncDriver | AsyncDriver = driver
        self.is_async = True
        self.closed = Closed()
        # What asyncpg has for us, once it is imported and its doors are in.
        self.asyncpg: Means

    def state(self, connection: Any) -> State:
        """Tell of the app's own connection; it keeps to itself whether a statement has failed."""
        with aside():
            if connection.is_closed():
                return State.UNKNOWN
            return State.OPEN if connection.is_in_transaction() else State.IDLE

    def is_auto(self, connection: Any) -> bool:  # noqa: ARG002
        """Each statement commits by itself, unless BEGIN was sent."""
        return True

    def level(self, connection: Any) -> str:  # noqa: ARG002
        """The server's own: asyncpg sends another one with BEGIN."""
        return ""

    def is_read_only(self, connection: Any) -> bool:  # noqa: ARG002
        """Likewise."""
        return False

    async def ask(self, connection: Any, text: str) -> Any:
        """Run a query, past the app's codecs and loggers. The first time: two round trips."""
        # The app may be in the connection's exclusive section: it waits for us.
        state = await connection._get_statement(
            text, None, ignore_custom_codec=True, record_class=self.asyncpg.record
        )
        rows = await connection._protocol.bind_execute(state, (), "", 1, False, None)
        return rows[0][0] if rows else None

    async def open(self, connection: Any) -> Any:
        """Open another one to the same address, with the same parameters."""
        return await opened(sys.modules["asyncpg"], connection)

    async def adopt(self, wire: Any) -> None:
        """Take one that a library has opened; SQL of ours is sent by itself there."""
        note_wire(wire._protocol)

    async def close(self, wire: Any) -> None:
        """Close it; one that does not answer is cut off."""
        try:
            await wire.close(timeout=_CLOSING_SECONDS)
        except Exception:
            with suppress(Exception):
                wire.terminate()

    # SQL of ours ahead of a statement -----------------------------------------------------------

    def sends_ahead(self, wire: Any) -> bool:
        """Tell whether its transport can do it."""
        return note_wire(wire._protocol).sends_ahead

    async def perform_after(
        self, wire: Any, texts: Sequence[str], perform: Callable[[], Awaitable[Any]]
    ) -> Any:
        """
        Perform a statement, with SQL of ours ahead of it; see ``join.steps.AheadLink``.

        Raises:
            NotReachedError: Ours has failed.
        """
        protocol = self.protocol_of(wire)
        side = note_wire(protocol)
        side.ahead = tuple(texts)
        try:
            result = await perform()
        except NotReachedError:
            raise
        except Exception as error:
            if not side.ahead and _is_about_ours(error):
                raise NotReachedError from error
            # It may have been refused before anything was sent.
            await self.send_ahead(protocol, side)
            raise
        except BaseException:
            side.take_ahead()
            raise
        await self.send_ahead(protocol, side)
        return result

    async def send_ahead(self, protocol: Any, side: Any) -> None:
        """
        Send what is to go ahead by itself, if anything is left of it.

        Raises:
            NotReachedError: It has failed.
        """
        if isinstance(side, Abroad) and (texts := side.take_ahead()):
            try:
                await self.asyncpg.query(protocol, in_one_text(texts), None)
            except Exception as error:
                raise NotReachedError from error

    def protocol_of(self, wire: Any) -> Any:
        """Give what sends on a connection."""
        if wire.is_closed():
            raise self.asyncpg.exceptions.ConnectionDoesNotExistError("connection is closed")
        return wire._protocol


def _is_about_ours(error: Exception) -> bool:
    answer = answer_of(error)
    return answer is not None and answer.state in _NOT_REACHED


KIND = Kind()
