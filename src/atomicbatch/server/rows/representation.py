"""Representation: rows -> JSON and its ETag."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

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
            (index, column.codec.unchanged, column.codec.to_json)
            for index, column in enumerate(columns)
            if column.codec.to_json is not None
        )
        self._uses = 0
        self._object: Callable[..., Any] | None = None

    # Making a class takes as long as to write so many rows without it.
    _WORTH_IT = 100

    def one(self, row: Sequence[Any]) -> bytes:
        """One row as a JSON object."""
        if self._object is None:
            self._used(1)
        try:
            return encode_json(self._written(row))
        except UnicodeEncodeError:
            return encode_json(_texts(self._dictionary(row)))

    def many(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Rows as a JSON array."""
        if self._object is None:
            self._used(len(rows))
        try:
            return encode_json(self._all_written(rows))
        except UnicodeEncodeError:
            return encode_json([_texts(self._dictionary(row)) for row in rows])

    def _used(self, rows: int) -> None:
        if self._uses < self._WORTH_IT:
            self._uses += rows
            if self._uses >= self._WORTH_IT:
                self._object = _class_of(self.names)

    def _written(self, row: Sequence[Any]) -> Any:
        """A row as an object of ours, which is faster to write, or as a dictionary."""
        if self._object is None:
            return self._dictionary(row)
        return self._object(*(self._converted(row) if self._converters else row))

    def _all_written(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        make = self._object
        if make is None:
            return [self._dictionary(row) for row in rows]
        if not self._converters:
            return [make(*row) for row in rows]
        convert = self._converted
        return [make(*convert(row)) for row in rows]

    def _dictionary(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.names, self._converted(row), strict=True))

    def _converted(self, row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for index, unchanged, convert in self._converters:
            value = values[index]
            if value is not None and value.__class__ is not unchanged:
                values[index] = convert(value)
        return values


def shown(column: Column, value: Any) -> Any:
    """One value, not None, as it is shown."""
    value = value if column.codec.to_json is None else column.codec.to_json(value)
    return _text(value) if value.__class__ is str else value


def _class_of(names: Sequence[str]) -> Callable[..., Any] | None:
    """A class whose objects are written with these names; None if JSON writes one with escapes."""
    fields = [(f"f{n}", Any, msgspec.field(name=name)) for n, name in enumerate(names)]
    try:
        return msgspec.defstruct("Row", fields, gc=False)
    except ValueError:
        return None


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """A row, with base64 for texts that are not valid UTF-8."""
    return {name: _text(v) if v.__class__ is str else v for name, v in row.items()}


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
    return f'"{blake2b(representation, digest_size=12).hexdigest()}"'.encode()
