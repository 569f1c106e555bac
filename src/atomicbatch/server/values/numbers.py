"""Codecs of numbers and booleans."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import msgspec

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


def integer_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
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
        if isinstance(value, str) and WHOLE.fullmatch(value):
            return int(value)
        raise ValueProblem(name, f"must be a whole number, not {json_type(value)}")

    def from_text(text: str) -> int:
        if not WHOLE.fullmatch(text):
            raise ValueProblem(name, "must be a whole number")
        return from_json(int(text))

    # SQLite lets a column hold values of any type; infinity would be shown as null.
    to_json = as_stored if dialect.name == "sqlite" else None
    return Codec(from_json, from_text, to_json, unchanged=int, typed=_whole(low, high))


def _whole(low: int, high: int) -> Any:
    """Whole numbers within bounds, as far as msgspec has them: in 64 bits."""
    low, high = max(low, -(2**63)), min(high, 2**63 - 1)
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def decimal_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    scale, precision = bounds.scale, bounds.precision
    finish = _sqlite_number(name) if dialect.name == "sqlite" else None
    plain = _plain_amounts(precision, scale, float_digits=finish is not None)
    number = Decimal if finish is None else float

    def from_json(value: Any) -> Any:
        if value.__class__ is str:
            return number(value) if plain and plain.fullmatch(value) else from_text(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueProblem(name, f"must be a decimal number, not {json_type(value)}")
        return checked(Decimal(value))

    def from_text(text: str) -> Any:
        if plain is not None and plain.fullmatch(text):
            return number(text)
        if not DECIMAL.fullmatch(text):
            if dialect.name == "postgresql" and text in ("NaN", "Infinity", "-Infinity"):
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


def _plain_amounts(
    precision: int | None, scale: int | None, *, float_digits: bool
) -> re.Pattern[str] | None:
    """
    What surely fits NUMERIC(precision, scale), by how it is written.

    To look at a Decimal's digits takes longer than all other conversions of a call together.

    Args:
        float_digits: It must fit a double digit for digit, too. That keeps 15 of them (DBL_DIG).
    """
    if precision is None or scale is None or not 0 < scale < precision:
        return None
    if float_digits and precision > 15:
        return None
    return re.compile(rf"-?[0-9]{{1,{precision - scale}}}\.[0-9]{{1,{scale}}}", re.ASCII)


def _decimal_text(value: Any) -> str:
    """Drivers give a decimal as the database's own text; see ``server/database/``."""
    return value if isinstance(value, str) else str(value)


def _sqlite_number(name: str) -> Callable[[Decimal], int | float]:
    """SQLite keeps a NUMERIC as a 64-bit integer or a double; it would round anything else."""

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

    form = f"%.{scale or 0}f"

    def to_json(value: Any) -> Any:
        if value.__class__ is float:
            if not math.isfinite(value):
                return str(value)
            if scale is not None:
                text = form % value
                if float(text) == value:
                    return text
            return format(Decimal(repr(value)), "f")
        if value.__class__ is int:
            return f"{value}.{'0' * scale}" if scale else str(value)
        return as_stored(value)  # SQLite lets a column hold values of any type

    return to_json


def float_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    special = dialect.name == "postgresql"

    def from_json(value: Any) -> Any:
        if isinstance(value, str):
            return from_text(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueProblem(name, f"must be a number, not {json_type(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueProblem(name, "is out of range", status=422)
        # As text it is read with the column's precision: the double 0.1 is not the single 0.1.
        return repr(number) if special else number

    def from_text(text: str) -> Any:
        if special and text in ("NaN", "Infinity", "-Infinity"):
            return text
        if dialect.name == "sqlite" and text in ("Infinity", "-Infinity"):
            return float(text)
        if not DECIMAL.fullmatch(text):
            raise ValueProblem(name, "must be a number")
        return from_json(Decimal(text))

    def to_json(value: Any) -> Any:
        if value.__class__ is float:
            if math.isfinite(value):
                return value
            # JSON has no such numbers (RFC 8259 section 6).
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        if value.__class__ is int:
            return float(value)  # SQLite's RETURNING shows 3.0 as it is kept on disk: as 3
        return as_stored(value)

    return Codec(
        from_json, from_text, to_json, typed=float, from_typed=float.__repr__ if special else None
    )


def boolean_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    texts = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}

    def from_json(value: Any) -> Any:
        if value is True or value is False:
            return value
        # MariaDB's BOOLEAN is TINYINT(1), SQLite's is a number: both may hold more than 0 and 1.
        if dialect.name != "postgresql" and value.__class__ is int and -128 <= value <= 127:
            return value
        raise ValueProblem(name, f"must be true or false, not {json_type(value)}")

    def from_text(text: str) -> bool:
        try:
            return texts[text.lower()]
        except KeyError:
            raise ValueProblem(name, "must be true or false") from None

    def to_json(value: Any) -> Any:
        if value.__class__ is int and value in (0, 1):
            return value == 1
        return value if isinstance(value, bool | int) else as_stored(value)

    typed = bool if dialect.name == "postgresql" else bool | _whole(-128, 127)
    return Codec(from_json, from_text, to_json, unchanged=bool, typed=typed)
