"""Codecs of dates, times and points in time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values import Bounds, Codec, ValueProblem, as_stored, json_type


def date_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        return date.fromisoformat(text).isoformat()

    return _calendar(dialect, name, parse, "a date such as 2026-11-24")


def time_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = time.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None and dialect.name != "postgresql":
            raise ValueProblem(name, "keeps no time zone: leave the offset out")
        return value.isoformat()

    return _calendar(dialect, name, parse, "a time such as 17:45:00")


def datetime_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = datetime.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None:
            # PostgreSQL would drop the offset without a word and keep the wrong hour.
            raise ValueProblem(name, "keeps no time zone: leave the offset out")
        return value.isoformat(sep=" ")

    return _calendar(dialect, name, parse, "a date and time such as 2026-11-24T17:45:00")


def timestamp_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
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
        raise ValueProblem(name, f"must be {example}, not {json_type(value)}")

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return as_stored(value)
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
