"""Kinds: what a column can hold, as far as JSON is concerned, and within which bounds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a column holds, which decides how its values are written in JSON."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    """Without time zone."""
    TIMESTAMP = "timestamp"
    """A point in time; written with its offset, UTC."""
    BYTES = "bytes"
    JSON = "json"
    UUID = "uuid"
    ARRAY = "array"
    """PostgreSQL only."""
    ANY = "any"
    """SQLite columns without a type."""
    OTHER = "other"
    """Written as the database's own text form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    What a column's type declares; None where it declares nothing.

    Attributes:
        length: Most characters of a text, or most bytes.
        precision: Most digits of a decimal.
        scale: Most digits after a decimal's point.
        fraction_digits: Most digits of a second's fraction.
        minimum: Smallest integer.
        maximum: Largest integer.
        choices: The words of an enumeration.
        zone: Whether times are kept with their offset.
        item: The kind of an array's items.
        items: What the type of an array's items declares.
        delimiter: What stands between an array's items in the database's text form.
    """

    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction_digits: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] | None = None
    zone: bool = False
    item: Kind | None = None
    items: Bounds | None = None
    delimiter: str = ","
