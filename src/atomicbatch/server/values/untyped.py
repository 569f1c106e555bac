"""Codecs of columns without a type, and of types that we know nothing of."""

from __future__ import annotations

import base64
import math
from decimal import Decimal
from typing import Any

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.codec import (
    DECIMAL,
    WHOLE,
    Codec,
    ValueProblem,
    as_stored,
    json_type,
)
from atomicbatch.server.values.kinds import Bounds
from atomicbatch.server.values.numbers import integer_codec


def any_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
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


def other_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
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
