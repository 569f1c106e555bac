"""Codecs of dates, times and points in time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from atomicbatch.server.dialect import Dialect, DialectName
from atomicbatch.server.values.codec import Codec, ValueProblem, as_stored, json_type
from atomicbatch.server.values.kinds import Bounds, Kind

# What the databases hold and write beyond Python's years 1 to 9999 and the hours of one day. Only
# the shape is looked at; the database refuses what does not exist.
_DAY = "-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ][0-9]{2}:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
_OFFSET = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)"
# MariaDB keeps dates whose year, month or day is 0.
_ZERO_DATE = r"(?:0000-[0-9]{2}-[0-9]{2}|[0-9]{4}-(?:00-[0-9]{2}|[0-9]{2}-00))"
_MIDNIGHT = r"24:00(?::00(?:\.0+)?)?"


def _far(clock: str) -> str:
    """The years that only PostgreSQL has, with a time or without, and its infinities."""
    return rf"[0-9]{{5,7}}{_DAY}{clock}|[0-9]{{4,7}}{_DAY}{clock} BC|-?infinity"


_WIDE: dict[DialectName, dict[Kind, str]] = {
    "postgresql": {
        Kind.DATE: _far(""),
        Kind.TIME: _MIDNIGHT,
        Kind.DATETIME: _far(_CLOCK),
        Kind.TIMESTAMP: _far(f"{_CLOCK}{_OFFSET}?"),
    },
    "mysql": {
        Kind.DATE: _ZERO_DATE,
        Kind.TIME: r"-?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?",
        Kind.DATETIME: f"{_ZERO_DATE}{_CLOCK}",
        Kind.TIMESTAMP: r"0000-00-00[T ]00:00:00(?:\.0+)?(?:\+00:00|Z)?",
    },
    "sqlite": {},
}


def date_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        return date.fromisoformat(text).isoformat()

    return _calendar(dialect, name, Kind.DATE, bounds, parse, "a date such as 2026-11-24")


def time_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        if text.startswith("24"):  # newer Pythons take it for midnight at the start of the day
            raise ValueError("no time of a day")
        value = time.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None and not bounds.zone:
            # PostgreSQL would drop the offset without a word.
            raise ValueProblem(name, "has no time zone: leave the offset out")
        return value.isoformat()

    return _calendar(dialect, name, Kind.TIME, bounds, parse, "a time such as 17:45:00")


def datetime_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    sqlite = dialect.name == "sqlite"

    def parse(text: str) -> str:
        value = datetime.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        if value.tzinfo is not None:
            # PostgreSQL would drop the offset without a word and keep the wrong hour.
            raise ValueProblem(name, "has no time zone: leave the offset out")
        if sqlite and _SQLITE_MOMENT.fullmatch(text):
            return f"{text[:10]} {text[11:]}"  # with as many digits as were sent
        return value.isoformat(sep=" ")

    example = "a date and time such as 2026-11-24T17:45:00"
    return _calendar(dialect, name, Kind.DATETIME, bounds, parse, example)


def timestamp_codec(dialect: Dialect, name: str, bounds: Bounds) -> Codec:
    def parse(text: str) -> str:
        value = datetime.fromisoformat(text)
        _check_fraction(name, text, bounds.fraction_digits)
        # Without an offset it is UTC, as the session's time zone is.
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        text = value.isoformat(sep=" ")
        # MariaDB's TIMESTAMP takes no offset before 11: the session's zone is UTC.
        return text.removesuffix("+00:00") if dialect.name == "mysql" else text

    example = "a point in time such as 2026-11-24T17:45:00Z"
    return _calendar(dialect, name, Kind.TIMESTAMP, bounds, parse, example)


_SQLITE_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")


def _calendar(
    dialect: Dialect,
    name: str,
    kind: Kind,
    bounds: Bounds,
    parse: Callable[[str], str],
    example: str,
) -> Codec:
    pattern = _WIDE[dialect.name].get(kind)
    if kind is Kind.TIME and bounds.zone:
        pattern = f"{pattern}{_OFFSET}"
    wide = None if pattern is None else re.compile(pattern, re.ASCII)

    def from_text(text: str) -> str:
        try:
            return parse(text)
        except ValueError:
            pass
        except OverflowError:
            if wide is None or not wide.fullmatch(text):
                raise ValueProblem(name, "is out of range", status=422) from None
        if wide is None or not wide.fullmatch(text):
            raise ValueProblem(name, f"must be {example}")
        _check_fraction(name, text, bounds.fraction_digits)
        if dialect.name == "mysql" and kind is Kind.TIMESTAMP:
            text = text.removesuffix("+00:00").removesuffix("Z")
        return text.replace("T", " ")

    def from_json(value: Any) -> Any:
        if value.__class__ is str:
            return from_text(value)
        if dialect.name == "sqlite" and value.__class__ is int and -(2**63) <= value < 2**63:
            return value  # SQLite's other form of a date: seconds since 1970, or a day number
        raise ValueProblem(name, f"must be {example}, not {json_type(value)}")

    def to_json(value: Any) -> Any:
        if value.__class__ is not str:
            return as_stored(value)
        if value[10:11] == " " and moment:
            value = f"{value[:10]}T{value[11:]}"
        elif moment and dialect.name == "postgresql":  # a year of more than four digits
            value = value.replace(" ", "T", 1)
        if zone:
            if dialect.name == "mysql":
                return f"{value}+00:00"
            return _SHORT_OFFSET.sub(r"\1:00\2", value)  # PostgreSQL writes +00
        return value

    moment, zone = kind in (Kind.DATETIME, Kind.TIMESTAMP), kind is Kind.TIMESTAMP
    return Codec(from_json, from_text, to_json)


_SHORT_OFFSET = re.compile(r"([+-][0-9]{2})( BC)?$")
_FRACTION = re.compile(r"\.([0-9]*?)0*(?![0-9])", re.ASCII)


def _check_fraction(name: str, text: str, digits: int | None) -> None:
    """Refuse a fraction of a second that the column would round."""
    most = 6 if digits is None else digits
    found = _FRACTION.search(text)
    if found and len(found[1]) > most:
        raise ValueProblem(name, f"keeps at most {most} fractional digits of a second", status=422)
