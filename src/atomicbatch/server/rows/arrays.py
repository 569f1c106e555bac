"""
Arrays: rows -> a JSON array. No more of it is ever in memory than may be sent.

Rows are written as they arrive, a few at a time, and their bytes are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.rows.plan import Row
from atomicbatch.server.rows.representation import Representation

# So many rows are written at a time; fewer, where their values come to so many bytes.
_MOST_ROWS = 500
_MOST_BYTES = 64 * 1024


class JsonArray:
    """
    A JSON array of rows.

    Args:
        shown: How a row is written.
        most_bytes: How many bytes it may come to.
    """

    __slots__ = ("_left", "_parts", "_shown", "_size", "_waiting", "_written")

    def __init__(self, shown: Representation, most_bytes: int) -> None:
        self._shown = shown
        self._left = most_bytes - 1
        self._parts: list[bytes] = []
        self._written = 0
        self._waiting: list[Row] = []
        self._size = 0  # of what is waiting, where that is known

    @property
    def count(self) -> int:
        """Rows so far."""
        return self._written + len(self._waiting)

    def add(self, row: Row) -> None:
        """
        Take one row; it is written together with others that follow.

        Raises:
            TooMuchError: The rows come to too many bytes.
        """
        self._waiting.append(row)
        for index in self._shown.large:
            value = row[index]
            if value.__class__ is str or value.__class__ is bytes:
                self._size += len(value)
        if self._size > _MOST_BYTES or len(self._waiting) == _MOST_ROWS:
            self.flush()

    def flush(self) -> None:
        """
        Write what is waiting.

        Raises:
            TooMuchError: The rows come to too many bytes.
        """
        rows, self._waiting, self._size = self._waiting, [], 0
        if rows:
            self._write(rows)

    def extend(self, rows: Iterable[Row]) -> None:
        """
        Take rows, each as it arrives.

        Raises:
            TooMuchError: They come to too many bytes.
        """
        if self._waiting:
            self.flush()
        rows = iter(rows)
        if not (large := self._shown.large):
            while chunk := list(islice(rows, _MOST_ROWS)):
                self._write(chunk)
            return
        chunk, size = [], 0
        for row in rows:
            chunk.append(row)
            for index in large:
                value = row[index]
                if value.__class__ is str or value.__class__ is bytes:
                    size += len(value)
            if size > _MOST_BYTES or len(chunk) == _MOST_ROWS:
                self._write(chunk)
                chunk, size = [], 0
                del row, value  # one of them may be as large as all that may be sent
        if chunk:
            self._write(chunk)

    def _write(self, rows: list[Row]) -> None:
        self._written += len(rows)
        part = self._shown.one(rows[0]) if len(rows) == 1 else self._shown.many(rows)[1:-1]
        self._left -= len(part) + 1
        if self._left < 0:
            raise TooMuchError
        self._parts.append(part)

    def body(self) -> bytes:
        """The array; call it once, at the end."""
        if self._waiting:
            self.flush()
        parts, self._parts = self._parts, []
        if len(parts) < 2:
            return b"[" + b"".join(parts) + b"]"
        parts[0] = b"[" + parts[0]
        parts[-1] += b"]"
        return b",".join(parts)


class Keys:
    """The keys of many rows, packed: Python's objects take ten times as much memory."""

    __slots__ = ("_packed", "count")

    def __init__(self, keys: Iterable[Row], *, most: int) -> None:
        self._packed: list[Any] = []
        self.count = 0
        keys = iter(keys)
        while chunk := [list(key) for key in islice(keys, _MOST_ROWS)]:
            self.count += len(chunk)
            if self.count > most:
                raise TooMuchError
            try:
                self._packed.append(msgspec.msgpack.encode(chunk))
            except (TypeError, OverflowError):  # of a type that has no short form
                self._packed.append(chunk)

    def __iter__(self) -> Iterator[Row]:
        for packed in self._packed:
            chunk = msgspec.msgpack.decode(packed) if isinstance(packed, bytes) else packed
            yield from chunk
