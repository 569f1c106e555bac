"""
COPY by psycopg in a batch: its rows are kept while the app writes or reads them.

Alone, the connection is the copy's from the first row to the last. In a batch all connections of
the app share one, and the app may use another of them between two rows. So the rows of COPY ...
FROM STDIN are gathered, and sent when the block ends; those of COPY ... TO STDOUT are fetched
before it begins.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Final

from atomicbatch.doors.psycopg_operations import Operation, begin, check_open, text_for
from atomicbatch.doors.psycopg_steps import OnWire, Plan, Statement
from atomicbatch.doors.server_uses import Use
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import bare, uncommented

MOST_BYTES: Final = 64 * 1024 * 1024
"""How much of one COPY is kept: as much as some ten thousand calls' bodies."""
_OUT = re.compile(r"\bTO\s+STDOUT\b")
_BINARY = re.compile(r"\bFORMAT\s+['\"]?BINARY\b|\bBINARY\s*$", re.IGNORECASE)
logger = logging.getLogger("atomicbatch")


@contextmanager
def copying(cursor: Any, use: Use, statement: Any, params: Any, writer: Any) -> Iterator[Any]:
    """Do what ``Cursor.copy`` does."""
    copy = _Copying(cursor, use, statement, params, writer)
    connection = cursor._conn
    with connection.lock:
        if copy.is_out:
            connection.wait(Operation(use, copy.fetch()))
        try:
            with copy.make() as made:
                yield made
        except BaseException as error:
            if not copy.is_out:
                _quietly(connection.wait, Operation(use, copy.abandon(error)))
            raise
        if not copy.is_out:
            connection.wait(Operation(use, copy.send()))
    cursor._select_current_result(0)


@asynccontextmanager
async def copying_async(
    cursor: Any, use: Use, statement: Any, params: Any, writer: Any
) -> AsyncIterator[Any]:
    """Do what ``AsyncCursor.copy`` does."""
    copy = _Copying(cursor, use, statement, params, writer)
    connection = cursor._conn
    async with connection.lock:
        if copy.is_out:
            await connection.wait(Operation(use, copy.fetch()))
        try:
            async with copy.make() as made:
                yield made
        except BaseException as error:
            if not copy.is_out:
                await _quietly_async(connection.wait, Operation(use, copy.abandon(error)))
            raise
        if not copy.is_out:
            await connection.wait(Operation(use, copy.send()))
    cursor._select_current_result(0)


class _Copying:
    """One COPY, in whichever direction."""

    def __init__(self, cursor: Any, use: Use, statement: Any, params: Any, writer: Any) -> None:
        self._cursor = cursor
        self._use = use
        self._statement = statement
        self._params = params
        self._text = text_for(cursor, statement)
        self._blocks = Blocks(use)
        self.is_out = _OUT.search(bare(self._text, Family.POSTGRESQL)) is not None
        self._is_binary = False
        if not self.is_out:
            self._check(writer)

    def _check(self, writer: Any) -> None:
        """Make ready to gather rows."""
        check_open(self._cursor)
        module = _module()
        own = module.copy.LibpqWriter, module.copy.AsyncLibpqWriter
        if writer is not None and not isinstance(writer, own):
            self._use.refuse(
                f"a handler gives copy() a writer of its own, {type(writer).__name__}; let psycopg "
                f"write to the database, or do it outside of batches"
            )
        self._is_binary = _BINARY.search(uncommented(self._text, Family.POSTGRESQL)) is not None
        self._cursor._reset()
        self._cursor._last_query = None
        self._cursor._tx = module.adapt.Transformer(self._cursor)

    def make(self) -> Any:
        """Make what the app is given."""
        is_async = hasattr(self._cursor._conn, "__aenter__")
        if self.is_out:
            return _reader(is_async)(self._cursor, self._blocks)
        kind = _module().AsyncCopy if is_async else _module().Copy
        writer = (_AsyncGatherer if is_async else _Gatherer)(self._blocks)
        return kind(self._cursor, binary=self._is_binary, writer=writer)

    # What is done on the wire ------------------------------------------------------------------

    def fetch(self) -> Plan:
        """Fetch all rows."""
        return self._statement_of(self._fetching)

    def send(self) -> Plan:
        """Send all rows."""
        return self._statement_of(self._sending)

    def abandon(self, error: BaseException) -> Plan:
        """Fail, as psycopg does when the app raises something between two rows."""
        what = f"error from Python: {type(error).__qualname__} - {error}"
        return self._statement_of(lambda wire: self._abandoning(wire, what))

    def _statement_of(self, make: Any) -> Plan:
        check_open(self._cursor)
        yield from begin(self._cursor._conn, self._use)
        yield Statement(self._text, self._params, OnWire(self._cursor, make))

    def _fetching(self, wire: Any) -> Generator[Any, Any, None]:
        generators, cursor = _generators(), self._cursor
        yield from cursor._start_copy_gen(self._statement, self._params)
        if cursor.pgresult.status != _module().pq.ExecStatus.COPY_OUT:
            yield from self._end(wire, "not a COPY ... TO STDOUT")
        while isinstance(block := (yield from generators.copy_from(wire.pgconn)), memoryview):
            self._blocks.add(block, in_the_middle=True)
        rows = block.command_tuples
        self._blocks.rows = -1 if rows is None else rows
        self._blocks.check()

    def _sending(self, wire: Any) -> Generator[Any, Any, None]:
        generators, cursor = _generators(), self._cursor
        yield from cursor._start_copy_gen(self._statement, self._params)
        if bool(cursor.pgresult.binary_tuples) is not self._is_binary:
            yield from self._end(wire, "the format of a COPY was not recognized")
        for block in self._blocks:
            yield from generators.copy_to(wire.pgconn, block, flush=True)
        cursor._results = [(yield from generators.copy_end(wire.pgconn, None))]

    def _abandoning(self, wire: Any, what: str) -> Generator[Any, Any, None]:
        yield from self._cursor._start_copy_gen(self._statement, self._params)
        yield from self._end(wire, what)

    def _end(self, wire: Any, what: str) -> Generator[Any, Any, None]:
        message = what.encode(wire.pgconn._encoding, "replace")
        yield from _generators().copy_end(wire.pgconn, message)


class Blocks:
    """What is copied, as it is kept."""

    def __init__(self, use: Use) -> None:
        self._use = use
        self._blocks: list[bytes] = []
        self._size = 0
        self.rows = -1

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)

    def add(self, block: Any, *, in_the_middle: bool = False) -> None:
        """
        Keep some more.

        Args:
            block: It.
            in_the_middle: The server is sending, so that only :meth:`check` may refuse it.
        """
        self._size += len(block)
        if self._size <= MOST_BYTES:
            self._blocks.append(bytes(block))
        elif not in_the_middle:
            self.check()

    def check(self) -> None:
        """Refuse what is too much."""
        if self._size > MOST_BYTES:
            self._use.refuse(
                f"a handler copies more than {MOST_BYTES // 1024**2} MiB by one COPY, which a "
                f"batch keeps in memory until its end; use several, or do it outside of batches"
            )


class _Gatherer:
    """Takes the place of psycopg's writer."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def write(self, data: Any) -> None:
        self._blocks.add(data)

    def finish(self, exc: BaseException | None = None) -> None:
        """Nothing has been begun yet."""


class _AsyncGatherer:
    """Likewise, for those who await."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    async def write(self, data: Any) -> None:
        self._blocks.add(data)

    async def finish(self, exc: BaseException | None = None) -> None:
        """Nothing has been begun yet."""


@cache
def _reader(is_async: bool) -> Any:
    """Make the class of what gives rows that are here already."""
    base: Any = _module().AsyncCopy if is_async else _module().Copy

    class Reader(base):  # type: ignore[misc]
        """Reads what was fetched before."""

        def __init__(self, cursor: Any, blocks: Blocks) -> None:
            super().__init__(cursor)
            self._blocks = iter(blocks)
            self._rows = blocks.rows

        def _read_gen(self) -> Generator[Any, Any, Any]:
            block = next(self._blocks, None)
            if block is None:
                self._finished = True
                self.cursor._rowcount = self._rows
                return memoryview(b"")
            return memoryview(block)
            yield

    Reader.__name__ = Reader.__qualname__ = base.__name__
    return Reader


def _module() -> Any:
    return sys.modules["psycopg"]


def _generators() -> Any:
    return sys.modules["psycopg.generators"]


def _quietly(act: Any, operation: Operation) -> None:
    """Do something while another exception is on its way, which counts more."""
    try:
        act(operation)
    except Exception as error:
        logger.debug("a COPY was given up (%s)", type(error).__name__)


async def _quietly_async(act: Any, operation: Operation) -> None:
    try:
        await act(operation)
    except Exception as error:
        logger.debug("a COPY was given up (%s)", type(error).__name__)
