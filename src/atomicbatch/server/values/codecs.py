"""Codecs: the conversions of each kind of column; text, bytes, JSON and the rest here."""

from __future__ import annotations

import base64
import binascii
import json
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.arrays import array_codec
from atomicbatch.server.values.calendars import (
    date_codec,
    datetime_codec,
    time_codec,
    timestamp_codec,
)
from atomicbatch.server.values.codec import (
    DECIMAL,
    WHOLE,
    Bounds,
    Codec,
    ValueProblem,
    as_stored,
    encode_json,
    json_type,
)
from atomicbatch.server.values.kinds import Kind
from atomicbatch.server.values.numbers import (
    boolean_codec,
    decimal_codec,
    float_codec,
    integer_codec,
)


def codec_for(dialect: Dialect, name: str, kind: Kind, bounds: Bounds) -> Codec:
    """The conversions of the column ``name``, which holds ``kind`` within ``bounds``."""
    return _MAKERS[kind](dialect, name, bounds)


def _text(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length, choices = bounds.length, bounds.choices
    no_nul = dialect.name == "postgresql"

    def from_text(text: str) -> str:
        if length is not None and len(text) > length:
            raise ValueProblem(
                name, f"is longer than {length} characters", status=422, slug="value-too-long"
            )
        if no_nul and "\0" in text:
            raise ValueProblem(
                name, "contains a NUL character, which PostgreSQL cannot store", status=422
            )
        if choices is not None and text not in choices:
            raise ValueProblem(name, f"must be one of {', '.join(choices)}", status=422)
        return text

    def from_json(value: Any) -> str:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be text, not {json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, None)


def _bytes(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length = bounds.length

    def from_text(text: str) -> bytes:
        try:
            value = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise ValueProblem(name, "must be bytes in base64 (RFC 4648 section 4)") from None
        if length is not None and len(value) > length:
            raise ValueProblem(
                name, f"is longer than {length} bytes", status=422, slug="value-too-long"
            )
        return value

    def from_json(value: Any) -> bytes:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be bytes in base64, not {json_type(value)}")
        return from_text(value)

    def to_json(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64.b64encode(value).decode("ascii")
        return as_stored(value)

    return Codec(from_json, from_text, to_json)


def _json(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    sqlite = dialect.name == "sqlite"

    def from_json(value: Any) -> str:
        text = (bytes(value) if isinstance(value, msgspec.Raw) else encode_json(value)).decode()
        if sqlite and text[:1] in "-0123456789":
            _check_sqlite_number(name, text)
        return text

    def from_text(text: str) -> str:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise ValueProblem(name, "must be JSON") from None
        return from_json(msgspec.Raw(text.encode()))

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return as_stored(value)
        # The database's own text, as it stands: no digit is lost to a float. Only PostgreSQL
        # proves that it is JSON; elsewhere a row may hold anything.
        if dialect.name != "postgresql":
            try:
                msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                return value
        return msgspec.Raw(value.encode())

    return Codec(from_json, from_text, to_json)


def _check_sqlite_number(name: str, text: str) -> None:
    """Refuse a document that is but a number, where SQLite would keep a rounded one."""
    value = Decimal(text)
    if not (WHOLE.fullmatch(text) and -(2**63) <= int(text) < 2**63):
        stored = float(value)
        if not math.isfinite(stored) or Decimal(repr(stored)) != value:
            raise ValueProblem(name, "has more digits than SQLite keeps in a number", status=422)


def _uuid(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_text(text: str) -> str:
        if len(text) in (32, 36):
            try:
                return str(uuid.UUID(text))
            except ValueError:
                pass
        raise ValueProblem(name, "must be a UUID")

    def from_json(value: Any) -> str:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be a UUID, not {json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, as_stored if dialect.name == "sqlite" else None)


def _array(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    item = codec_for(dialect, name, bounds.item or Kind.OTHER, bounds.items or Bounds())
    return array_codec(name, bounds, item)


def _any(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_json(value: Any) -> Any:
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, int):
            return integer(value)
        if isinstance(value, Decimal):
            number = float(value)
            if math.isfinite(number):
                return number
        if isinstance(value, str):
            return value
        raise ValueProblem(name, f"must be text or a number, not {json_type(value)}")

    integer = integer_codec(dialect, name, bounds).from_json

    def from_text(text: str) -> Any:
        if WHOLE.fullmatch(text):
            return integer(int(text))
        return float(text) if DECIMAL.fullmatch(text) else text

    return Codec(from_json, from_text, as_stored)


def _other(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_json(value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | Decimal):
            return str(value)
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be text, not {json_type(value)}")
        return from_text(value)

    def from_text(text: str) -> str:
        if "\0" in text:
            raise ValueProblem(name, "contains a NUL character", status=422)
        return text

    def to_json(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64.b64encode(value).decode("ascii")
        return as_stored(value) if isinstance(value, str | int | float | bool) else str(value)

    return Codec(from_json, from_text, to_json)


_MAKERS: dict[Kind, Callable[[Dialect, str, Bounds], Codec]] = {
    Kind.INTEGER: integer_codec,
    Kind.DECIMAL: decimal_codec,
    Kind.FLOAT: float_codec,
    Kind.BOOLEAN: boolean_codec,
    Kind.TEXT: _text,
    Kind.DATE: date_codec,
    Kind.TIME: time_codec,
    Kind.DATETIME: datetime_codec,
    Kind.TIMESTAMP: timestamp_codec,
    Kind.BYTES: _bytes,
    Kind.JSON: _json,
    Kind.UUID: _uuid,
    Kind.ARRAY: _array,
    Kind.ANY: _any,
    Kind.OTHER: _other,
}
