"""
Codec: the conversions of one column, and what all codecs have in common.

The rule: whatever a column holds survives database -> JSON -> database, digit for digit. What
would be rounded, cut or read as something else on the way in is refused.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec


class ValueProblem(Exception):
    """
    A value does not fit its column.

    Attributes:
        status: 400 for a wrong type, 422 for a value outside what the column can hold.
        slug: The problem's type.
        detail: What was expected, for people; never holds the value itself.
        column: The column's name.
    """

    def __init__(
        self, column: str, detail: str, *, status: int = 400, slug: str | None = None
    ) -> None:
        super().__init__(f"column {column!r}: {detail}")
        self.slug = slug or ("wrong-type" if status == 400 else "value-out-of-range")
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
        unchanged: The class whose values ``to_json`` gives as they are; None if there is none.
        typed: JSON values that ``from_json`` takes, as a type for msgspec; None where no type
            tells. It need not describe all of them.
        from_typed: A value decoded as ``typed``, not None -> what ``from_json`` gives for it;
            None where they are the same.
    """

    from_json: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    to_json: Callable[[Any], Any] | None
    unchanged: type | None = None
    typed: Any = None
    from_typed: Callable[[Any], Any] | None = None


# A float would change some of the digits: 0.1 stays 0.1.
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
decode_json: Callable[[bytes], Any] = _decoder.decode
"""JSON text -> values; a number with a point becomes a Decimal. Raises msgspec.DecodeError."""
encode_json: Callable[[Any], bytes] = _encoder.encode
"""Values -> compact JSON text; Decimal is written as a number, digit for digit."""


# At most 40 digits: int() of longer text takes quadratic time, and no column holds it.
WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
DECIMAL = re.compile(
    r"[+-]?([0-9]{1,1000}(\.[0-9]{0,1000})?|\.[0-9]{1,1000})([eE][+-]?[0-9]{1,4})?", re.ASCII
)


def as_stored(value: Any) -> Any:
    """A value as JSON can show it. SQLite lets a column hold values of any type."""
    if value.__class__ is int:
        return value
    if value.__class__ is bytes:
        return base64.b64encode(value).decode("ascii")
    if value.__class__ is float and not math.isfinite(value):
        return str(value)
    return value


def json_type(value: Any) -> str:
    """What JSON calls the type of ``value``, with its article."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Decimal):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
