"""
Values: JSON values <-> what the database driver takes and gives.

The rule: whatever a column holds survives database -> JSON -> database, digit for digit. What
would be rounded, cut or reinterpreted on the way in is refused. How each kind is written in JSON
is told in ``docs/reference/values.md``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.schema import Kind


class ValueProblem(Exception):
    """
    A value does not fit its column.

    Attributes:
        status: 400 for a wrong type, 422 for a value outside what the column can hold.
        detail: What was expected, for people; never holds the value itself.
        column: The column's name.
    """

    def __init__(self, column: str, detail: str, *, status: int = 400) -> None:
        super().__init__(f"column {column!r}: {detail}")
        self.column = column
        self.detail = detail
        self.status = status


@dataclass(frozen=True, slots=True)
class Codec:
    """
    The three conversions of one column.

    Attributes:
        from_json: A decoded JSON value, not None -> a driver parameter. Raises ValueProblem.
        from_text: Text of a URL (key or filter operand) -> a driver parameter. Raises ValueProblem.
        to_json: The driver's value, not None -> JSON-encodable value; None where they are the same.
    """

    from_json: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    to_json: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a column's type declares; see ``schema.Column`` for each."""

    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction_digits: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] | None = None
    item: Kind | None = None


# Arithmetic on floats is never wanted between JSON and a column: 0.1 stays "0.1".
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
decode_json: Callable[[bytes], Any] = _decoder.decode
"""JSON text -> values; a number with a point becomes a Decimal. Raises msgspec.DecodeError."""
encode_json: Callable[[Any], bytes] = _encoder.encode
"""Values -> compact JSON text; Decimal is written as a number, digit for digit."""


def codec_for(dialect: Dialect, name: str, kind: Kind, bounds: Bounds) -> Codec:
    """The conversions of the column ``name``, which holds ``kind`` within ``bounds``."""
    return _MAKERS[kind](dialect, name, bounds)


def _integer(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    # SQLite and the drivers hold 64 bits; unsigned and wider ranges come in as bounds.
    low = -(2**63) if bounds.minimum is None else bounds.minimum
    high = 2**63 - 1 if bounds.maximum is None else bounds.maximum

    def from_json(value: Any) -> int:
        if value.__class__ is not int:
            value = whole(value)
        if low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise ValueProblem(name, f"must be between {low} and {high}", status=422)

    def whole(value: Any) -> int:
        if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 40:
            number = int(value)
            if number == value:
                return number
        # Text, because JavaScript cannot write integers beyond 2**53 as numbers.
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        raise ValueProblem(name, f"must be a whole number, not {_json_type(value)}")

    def from_text(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueProblem(name, "must be a whole number")
        return from_json(int(text))

    return Codec(from_json, from_text, None)


# At most 40 digits: int() of longer text takes quadratic time, and no column holds it.
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,1000}(\.[0-9]{0,1000})?|\.[0-9]{1,1000})([eE][+-]?[0-9]{1,4})?", re.ASCII
)


def _decimal(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    scale, precision = bounds.scale, bounds.precision
    finish = _sqlite_number(name) if dialect.name == "sqlite" else None

    def from_json(value: Any) -> Any:
        if isinstance(value, str):
            return from_text(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueProblem(name, f"must be a decimal number, not {_json_type(value)}")
        return checked(Decimal(value))

    def from_text(text: str) -> Any:
        if not _DECIMAL.fullmatch(text):
            if dialect.name == "postgresql" and text == "NaN":
                return text
            raise ValueProblem(name, "must be a decimal number")
        return checked(Decimal(text))

    def checked(value: Decimal) -> Any:
        if not value.is_finite() or abs(value.adjusted()) > 2000:
            raise ValueProblem(name, "is out of range", status=422)
        exponent = value.normalize().as_tuple().exponent if value else 0
        if scale is not None and -int(exponent) > scale:
            raise ValueProblem(name, f"has more than {scale} digits after the point", status=422)
        if precision is not None and value and value.adjusted() >= precision - (scale or 0):
            raise ValueProblem(
                name,
                f"has more than {precision - (scale or 0)} digits before the point",
                status=422,
            )
        return value if finish is None else finish(value)

    return Codec(from_json, from_text, _sqlite_decimal(scale) if finish else _decimal_text)


def _decimal_text(value: Any) -> str:
    """The drivers hand decimals over as the server's own text, see database.py."""
    return value if isinstance(value, str) else str(value)


def _sqlite_number(name: str) -> Callable[[Decimal], int | float]:
    """SQLite keeps a NUMERIC as a 64-bit integer or a double; what is neither would be rounded."""

    def number(value: Decimal) -> int | float:
        if abs(value) < 2**63 and value == (whole := int(value)):
            return whole
        stored = float(value)
        if math.isfinite(stored) and Decimal(repr(stored)) == value:
            return stored
        raise ValueProblem(
            name,
            "has more digits than SQLite keeps in a NUMERIC column (about 15); TEXT keeps any",
            status=422,
        )

    return number


def _sqlite_decimal(scale: int | None) -> Callable[[Any], Any]:
    """What SQLite stored -> decimal text, with zeros up to the column's scale, never rounded."""

    def to_json(value: Any) -> Any:
        if value.__class__ is float:
            if not math.isfinite(value):
                return str(value)
            if scale is not None:
                text = f"{value:.{scale}f}"
                if float(text) == value:
                    return text
            return format(Decimal(repr(value)), "f")
        if value.__class__ is int:
            return f"{value}.{'0' * scale}" if scale else str(value)
        return _sqlite_any(value)  # SQLite lets any column hold anything

    return to_json


def _float(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    special = dialect.name == "postgresql"

    def from_json(value: Any) -> float:
        if isinstance(value, str):
            return from_text(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueProblem(name, f"must be a number, not {_json_type(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueProblem(name, "is out of range", status=422)
        return number

    def from_text(text: str) -> float:
        if special and text in ("NaN", "Infinity", "-Infinity"):
            return float(text)
        if not _DECIMAL.fullmatch(text):
            raise ValueProblem(name, "must be a number")
        return from_json(Decimal(text))

    def to_json(value: Any) -> Any:
        if value.__class__ is float and not math.isfinite(value):
            # JSON has no such numbers (RFC 8259 section 6).
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        return value if value.__class__ is float else _sqlite_any(value)

    return Codec(from_json, from_text, to_json)


def _boolean(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    texts = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}

    def from_json(value: Any) -> Any:
        if value is True or value is False:
            return value
        # MariaDB's BOOLEAN is TINYINT(1), SQLite's is a number: both may hold more than 0 and 1.
        if dialect.name != "postgresql" and value.__class__ is int and -128 <= value <= 127:
            return value
        raise ValueProblem(name, f"must be true or false, not {_json_type(value)}")

    def from_text(text: str) -> bool:
        try:
            return texts[text.lower()]
        except KeyError:
            raise ValueProblem(name, "must be true or false") from None

    def to_json(value: Any) -> Any:
        if value.__class__ is int and value in (0, 1):
            return value == 1
        return value if isinstance(value, bool | int) else _sqlite_any(value)

    return Codec(from_json, from_text, to_json)


def _text(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length, choices = bounds.length, bounds.choices
    no_nul = dialect.name == "postgresql"

    def from_text(text: str) -> str:
        if length is not None and len(text) > length:
            raise ValueProblem(name, f"is longer than {length} characters", status=422)
        if no_nul and "\0" in text:
            raise ValueProblem(
                name, "holds a NUL character, which PostgreSQL cannot store", status=422
            )
        if choices is not None and text not in choices:
            raise ValueProblem(name, f"must be one of {', '.join(choices)}", status=422)
        return text

    def from_json(value: Any) -> str:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be text, not {_json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, None)


def _date(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        return date.fromisoformat(text).isoformat()

    return _calendar(dialect, name, parse, "a date such as 2026-11-24")


def _time(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = time.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None and dialect.name != "postgresql":
            raise ValueProblem(name, "keeps no time zone: leave the offset out")
        return value.isoformat()

    return _calendar(dialect, name, parse, "a time such as 17:45:00")


def _datetime(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = datetime.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None:
            # PostgreSQL would drop the offset without a word and keep the wrong hour.
            raise ValueProblem(name, "keeps no time zone: leave the offset out")
        return value.isoformat(sep=" ")

    return _calendar(dialect, name, parse, "a date and time such as 2026-11-24T17:45:00")


def _timestamp(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = datetime.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        # Without an offset it is UTC, as the session's time zone is.
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        text = value.isoformat(sep=" ")
        # MariaDB's TIMESTAMP takes no offset before 11: the session's zone is UTC.
        return text.removesuffix("+00:00") if dialect.name == "mysql" else text

    return _calendar(
        dialect, name, parse, "a point in time such as 2026-11-24T17:45:00Z", zone=True
    )


def _calendar(
    dialect: Dialect, name: str, parse: Callable[[str], str], example: str, *, zone: bool = False
) -> Codec:
    special = ("infinity", "-infinity") if dialect.name == "postgresql" else ()

    def from_text(text: str) -> str:
        if text in special:
            return text
        try:
            return parse(text)
        except ValueError:
            raise ValueProblem(name, f"must be {example}") from None
        except OverflowError:
            raise ValueProblem(name, "is out of range", status=422) from None

    def from_json(value: Any) -> Any:
        if value.__class__ is str:
            return from_text(value)
        if dialect.name == "sqlite" and value.__class__ is int:
            return value  # SQLite's other form of a date: seconds since 1970, or a day number
        raise ValueProblem(name, f"must be {example}, not {_json_type(value)}")

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return _sqlite_any(value)
        if value[10:11] == " ":
            value = f"{value[:10]}T{value[11:]}"
        if zone:
            if dialect.name == "mysql":
                return f"{value}+00:00"
            if value[-3:-2] in ("+", "-"):  # PostgreSQL writes +00
                return f"{value}:00"
        return value

    return Codec(from_json, from_text, to_json)


_FRACTION = re.compile(r"\.([0-9]*?)0*(?![0-9])", re.ASCII)


def _check_fraction(name: str, text: str, digits: int | None) -> None:
    """Refuse a fraction of a second that the column would round."""
    most = 6 if digits is None else digits
    found = _FRACTION.search(text)
    if found and len(found[1]) > most:
        raise ValueProblem(name, f"keeps {most} digits of a second's fraction", status=422)


def _bytes(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    length = bounds.length

    def from_text(text: str) -> bytes:
        try:
            value = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise ValueProblem(name, "must be bytes in base64 (RFC 4648 section 4)") from None
        if length is not None and len(value) > length:
            raise ValueProblem(name, f"is longer than {length} bytes", status=422)
        return value

    def from_json(value: Any) -> bytes:
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be bytes in base64, not {_json_type(value)}")
        return from_text(value)

    def to_json(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64.b64encode(value).decode("ascii")
        return value

    return Codec(from_json, from_text, to_json)


def _json(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_json(value: Any) -> str:
        text = encode_json(value).decode()
        if dialect.name == "postgresql" and "\\u0000" in text:
            raise ValueProblem(
                name, "holds a NUL character, which PostgreSQL cannot store", status=422
            )
        return text

    def from_text(text: str) -> str:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise ValueProblem(name, "must be JSON") from None
        return text

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return _sqlite_any(value)
        # The database's own text, as it stands: no digit is lost to a float. Only PostgreSQL
        # proves that it is JSON; elsewhere a row may hold anything.
        if dialect.name != "postgresql":
            try:
                msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError):
                return value
        return msgspec.Raw(value.encode())

    return Codec(from_json, from_text, to_json)


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
            raise ValueProblem(name, f"must be a UUID, not {_json_type(value)}")
        return from_text(value)

    return Codec(from_json, from_text, None)


def _array(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    item = codec_for(dialect, name, bounds.item or Kind.OTHER, Bounds())
    to_item = item.to_json

    def from_json(value: Any) -> list[Any]:
        if value.__class__ is not list:
            raise ValueProblem(name, f"must be an array, not {_json_type(value)}")
        return [
            None if v is None else from_json(v) if v.__class__ is list else item.from_json(v)
            for v in value
        ]

    def from_text(text: str) -> Any:
        raise ValueProblem(name, "is an array and cannot be written in a URL")

    def to_json(value: Any) -> Any:
        if value.__class__ is not list or to_item is None:
            return value
        return [
            None if v is None else to_json(v) if v.__class__ is list else to_item(v) for v in value
        ]

    return Codec(from_json, from_text, to_json)


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
        raise ValueProblem(name, f"must be text or a number, not {_json_type(value)}")

    integer = _integer(dialect, name, bounds).from_json

    def from_text(text: str) -> Any:
        if _WHOLE.fullmatch(text):
            return integer(int(text))
        return float(text) if _DECIMAL.fullmatch(text) else text

    return Codec(from_json, from_text, _sqlite_any)


def _other(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def from_json(value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | Decimal):
            return str(value)
        if value.__class__ is not str:
            raise ValueProblem(name, f"must be text, not {_json_type(value)}")
        return from_text(value)

    def from_text(text: str) -> str:
        if "\0" in text:
            raise ValueProblem(name, "holds a NUL character", status=422)
        return text

    def to_json(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return base64.b64encode(value).decode("ascii")
        return value if isinstance(value, str | int | float | bool) else str(value)

    return Codec(from_json, from_text, to_json)


def _sqlite_any(value: Any) -> Any:
    """A value that is not of its column's declared type, which SQLite allows."""
    if value.__class__ is bytes:
        return base64.b64encode(value).decode("ascii")
    if value.__class__ is float and not math.isfinite(value):
        return str(value)
    return value


def _json_type(value: Any) -> str:
    """What JSON calls the type of ``value``, with its article."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Decimal):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


_MAKERS: dict[Kind, Callable[[Dialect, str, Bounds], Codec]] = {
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _decimal,
    Kind.FLOAT: _float,
    Kind.BOOLEAN: _boolean,
    Kind.TEXT: _text,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.DATETIME: _datetime,
    Kind.TIMESTAMP: _timestamp,
    Kind.BYTES: _bytes,
    Kind.JSON: _json,
    Kind.UUID: _uuid,
    Kind.ARRAY: _array,
    Kind.ANY: _any,
    Kind.OTHER: _other,
}
