"""
Steps: the single things that an operation of psycopg's wants done in the batch's transaction.

Each gives something to what stands for the connection: a statement, a fetch, a COMMIT. What psycopg
does on the wire, it does by the app's cursor, which is moved there for as long as that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeAlias

from atomicbatch.doors.server_uses import Use
from atomicbatch.guard.watch import aside

AT = "_atomicbatch_at"
"""The attribute of an app's connection that tells on which wire its statement runs now."""


class Step(Protocol):
    """One thing that an operation wants done."""

    def do(self, use: Use) -> Any:
        """Do it; may block."""

    async def do_async(self, use: Use) -> Any:
        """Do it."""


Plan: TypeAlias = Generator[Step, Any, Any]
"""Yields steps, is sent what they come to, or has their error thrown in."""


class OnWire(NamedTuple):
    """
    Something that psycopg does on the wire.

    Attributes:
        cursor: The app's, which is moved there meanwhile; None: none.
        make: Makes psycopg's generator, given the wire.
        rides: psycopg asks for a pipeline before it sends it, so that SQL of ours can go ahead of
            it in the same round trip; see ``drivers/psycopg_ahead.py``.
    """

    cursor: Any
    make: Callable[[Any], Generator[Any, Any, Any]]
    rides: bool = False

    def do(self, wire: Any) -> Any:
        with aside(), moved(self.cursor, wire):
            return wire.wait(self._generator(wire))

    async def do_async(self, wire: Any) -> Any:
        with aside(), moved(self.cursor, wire):
            return await wire.wait(self._generator(wire))

    def _generator(self, wire: Any) -> Generator[Any, Any, Any]:
        if not self.rides and wire._pipeline is not None:
            yield from wire._pipeline.alone_gen()
        return (yield from self.make(wire))


class Statement(NamedTuple):
    """A statement of the app's; it comes to NOT_SENT if it is about the transaction only."""

    sql: str
    parameters: Any
    act: OnWire

    def do(self, use: Use) -> Any:
        return use.perform(self.sql, self.parameters, self.act.do)

    async def do_async(self, use: Use) -> Any:
        return await use.perform_async(self.sql, self.parameters, self.act.do_async)


class Fetch(NamedTuple):
    """Rows of a cursor in the server, or its end."""

    act: OnWire

    def do(self, use: Use) -> Any:
        return use.fetch(self.act.do)

    async def do_async(self, use: Use) -> Any:
        return await use.fetch_async(self.act.do_async)


class Command(NamedTuple):
    """What psycopg itself sends on a connection, such as ``commit()``."""

    sql: bytes

    def do(self, use: Use) -> None:
        if self.sql == b"COMMIT":
            use.commit()
        elif self.sql == b"ROLLBACK":
            use.rollback()
        else:
            self._as_statement().do(use)

    async def do_async(self, use: Use) -> None:
        if self.sql == b"COMMIT":
            await use.commit_async()
        elif self.sql == b"ROLLBACK":
            await use.rollback_async()
        else:
            await self._as_statement().do_async(use)

    def _as_statement(self) -> Statement:
        act = OnWire(None, lambda wire: wire._exec_command(self.sql))
        return Statement(self.sql.decode(), None, act)


@contextmanager
def moved(cursor: Any, wire: Any) -> Iterator[None]:
    """Let a cursor work on another connection than its own."""
    if cursor is None or cursor._conn is wire:
        yield
        return
    own, pgconn = cursor._conn, cursor._pgconn
    cursor._conn, cursor._pgconn = wire, wire.pgconn
    # What the server has to say about it goes to the app's.
    handlers, wire._notice_handlers = wire._notice_handlers, own._notice_handlers
    setattr(own, AT, wire)
    try:
        yield
    finally:
        delattr(own, AT)
        wire._notice_handlers = handlers
        cursor._conn, cursor._pgconn = own, pgconn
