"""Codecs: which conversions the values of each kind of column take."""

from __future__ import annotations

from collections.abc import Callable

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.arrays import array_codec
from atomicbatch.server.values.calendars import (
    date_codec,
    datetime_codec,
    time_codec,
    timestamp_codec,
)
from atomicbatch.server.values.codec import Codec
from atomicbatch.server.values.documents import json_codec
from atomicbatch.server.values.kinds import Bounds, Kind
from atomicbatch.server.values.numbers import (
    boolean_codec,
    decimal_codec,
    float_codec,
    integer_codec,
)
from atomicbatch.server.values.texts import bytes_codec, text_codec, uuid_codec
from atomicbatch.server.values.untyped import any_codec, other_codec


def codec_for(dialect: Dialect, name: str, kind: Kind, bounds: Bounds) -> Codec:
    """
    The conversions of one column.

    Args:
        dialect: Whose column it is.
        name: The column's name, for messages.
        kind: What it holds.
        bounds: What its type declares.
    """
    return _MAKERS[kind](dialect, name, bounds)


def _array(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    item = codec_for(dialect, name, bounds.item or Kind.OTHER, bounds.items or Bounds())
    return array_codec(name, bounds, item)


_MAKERS: dict[Kind, Callable[[Dialect, str, Bounds], Codec]] = {
    Kind.INTEGER: integer_codec,
    Kind.DECIMAL: decimal_codec,
    Kind.FLOAT: float_codec,
    Kind.BOOLEAN: boolean_codec,
    Kind.TEXT: text_codec,
    Kind.DATE: date_codec,
    Kind.TIME: time_codec,
    Kind.DATETIME: datetime_codec,
    Kind.TIMESTAMP: timestamp_codec,
    Kind.BYTES: bytes_codec,
    Kind.JSON: json_codec,
    Kind.UUID: uuid_codec,
    Kind.ARRAY: _array,
    Kind.ANY: any_codec,
    Kind.OTHER: other_codec,
}
