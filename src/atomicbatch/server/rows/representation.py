"""Representation: rows -> JSON and its ETag."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import encode_json


class Representation:
    """
    How rows of some columns are written in JSON.

    Args:
        names: Other names for the columns.
        typed: Whether the database enforces the types and lengths of columns.

    Attributes:
        large: The positions in a row whose values may be long.
    """

    def __init__(
        self, columns: Sequence[Column], names: Sequence[str] | None = None, *, typed: bool = False
    ) -> None:
        self.names = tuple(names or (column.name for column in columns))
        self.large = tuple(
            index for index, column in enumerate(columns) if column.is_long or not typed
        )
        self._converters = tuple(
            (index, column.codec.to_json)
            for index, column in enumerate(columns)
            if column.codec.to_json is not None
        )

    def value(self, row: Sequence[Any]) -> dict[str, Any]:
        """One row as an object."""
        if self._converters:
            row = list(row)
            for index, convert in self._converters:
                value = row[index]
                if value is not None:
                    row[index] = convert(value)
        return dict(zip(self.names, row, strict=True))

    def one(self, row: Sequence[Any]) -> bytes:
        """One row as a JSON object."""
        return _encode(self.value(row))

    def many(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """Rows as a JSON array."""
        if not self._converters:
            names = self.names
            return _encode([dict(zip(names, row, strict=True)) for row in rows])
        return _encode([self.value(row) for row in rows])


def shown(column: Column, value: Any) -> Any:
    """One value, not None, as it is shown."""
    value = value if column.codec.to_json is None else column.codec.to_json(value)
    return _text(value) if value.__class__ is str else value


def _encode(value: Any) -> bytes:
    try:
        return encode_json(value)
    except UnicodeEncodeError:
        return encode_json(_texts(value))


def _texts(value: Any) -> Any:
    """A row or rows, with base64 for texts that are not valid UTF-8."""
    if value.__class__ is list:
        return [_texts(row) for row in value]
    return {name: _text(v) if v.__class__ is str else v for name, v in value.items()}


def _text(text: str) -> str:
    """A text; in base64 if SQLite holds bytes that are not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return base64.b64encode(text.encode(errors="surrogateescape")).decode("ascii")
    return text


def etag(representation: bytes) -> bytes:
    """A strong entity tag (RFC 9110 section 8.8.3) of a representation, quotes included."""
    # 96 bits: a collision would be a lost update.
    return b'"%b"' % blake2b(representation, digest_size=12).hexdigest().encode()
