"""Bounds: how the database's side says that an answer is longer than may be sent."""

from __future__ import annotations

TOO_LONG = "longer than max_reply_bytes"
"""In the text of PostgreSQL's error when a value is too long to be read; a read's SQL raises it."""


class TooMuchError(Exception):
    """The database gives more than may be sent, ``max_reply_bytes``."""


def too_long(error: Exception) -> TooMuchError | None:
    """The error of ours, if PostgreSQL refused a value as too long; see ``Statements.read_sql``."""
    return TooMuchError() if TOO_LONG in str(error) else None
