"""
The batch's own connection by asyncpg, and SQL of ours that travels with a handler's statement.

asyncpg has no pipeline. But the server answers all that comes before one Sync in a row, and asyncpg
passes over the answers that it does not wait for. So a transport of ours puts ours in front::

    Parse SAVEPOINT  Bind  Execute | Parse INSERT  Bind  Execute  Sync      one round trip
    ours                           | asyncpg's

The server runs nothing behind a message that has failed, up to Sync. So no statement runs without
its savepoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from struct import pack
from typing import TYPE_CHECKING, Any

from atomicbatch.doors.asyncpg_sides import Abroad, note_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

_opening: ContextVar[bool] = ContextVar("atomicbatch_opening_wire", default=False)
# Without parameters, and without formats.
_NO_VALUES = pack("!hhh", 0, 0, 0)
_BIND = b"B" + pack("!i", 4 + 2 + len(_NO_VALUES)) + b"\0\0" + _NO_VALUES
_EXECUTE = b"E" + pack("!i", 4 + 1 + 4) + b"\0" + pack("!i", 0)


@lru_cache(maxsize=256)
def messages(texts: tuple[str, ...]) -> bytes:
    """
    Write what runs statements without parameters or rows, with no Sync behind.

    PostgreSQL's protocol, 55.2.3: extended query.
    """
    written = bytearray()
    for text in texts:
        query = b"\0" + text.encode() + b"\0" + pack("!h", 0)
        written += b"P" + pack("!i", 4 + len(query)) + query + _BIND + _EXECUTE
    return bytes(written)


class Transport:
    """
    What a wire's protocol writes to.

    Args:
        transport: The event loop's.
        side: Tells what goes ahead.
    """

    __slots__ = ("_side", "_transport")

    def __init__(self, transport: Any, side: Abroad) -> None:
        self._transport = transport
        self._side = side

    def write(self, data: Any) -> None:
        """Write, with what goes ahead in front."""
        if self._side.ahead:
            data = messages(self._side.take_ahead()) + bytes(data)
        self._transport.write(data)

    def writelines(self, buffers: Sequence[Any]) -> None:
        """Likewise."""
        if self._side.ahead:
            buffers = [messages(self._side.take_ahead()), *buffers]
        self._transport.writelines(buffers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    """Around ``Protocol.connection_made``: a wire's protocol gets a transport of ours."""

    def connection_made(self: Any, transport: Any) -> Any:
        if _opening.get():
            side = note_wire(self)
            side.sends_ahead = True
            transport = Transport(transport, side)
        return found(self, transport)

    return connection_made


@contextmanager
def _opening_wire() -> Iterator[None]:
    token = _opening.set(True)
    try:
        yield
    finally:
        _opening.reset(token)


async def opened(module: Any, connection: Any) -> Any:
    """
    Open a connection like one of the app's: to the same address, with the same parameters.

    Args:
        module: asyncpg.
        connection: The app's.
    """
    with _opening_wire():
        try:
            wire = await module.connect_utils._connect_addr(
                addr=connection._addr,
                loop=asyncio.get_running_loop(),
                params=connection._params,
                config=connection._config._replace(command_timeout=None),
                connection_class=_class(module.Connection),
                record_class=module.Record,
            )
        except Exception as error:
            # asyncpg's own sign to try the next host, of which there is none here.
            if type(error).__name__.endswith("Signal") and error.__cause__ is not None:
                raise error.__cause__ from None
            raise
    note_wire(wire._protocol)
    return wire


@cache
def _class(base: Any) -> Any:
    class Wire(base):  # type: ignore[misc]
        """The batch's own connection. What the server tells while it works is the app's to hear."""

        __slots__ = ()

        def _process_log_message(self, fields: Any, last_query: Any) -> None:
            user = getattr(self._protocol, "_atomicbatch", None)
            listener = user.user if isinstance(user, Abroad) else None
            if listener is not None:
                listener._process_log_message(fields, last_query)

    return Wire
