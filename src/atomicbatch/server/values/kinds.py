"""Kinds: what a column can hold, as far as JSON is concerned."""

from __future__ import annotations

import enum


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
