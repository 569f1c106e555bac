"""Values: JSON values <-> what the database driver takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        to_json: The driver's value, not None -> a JSON-encodable value; None where they are the same.
    """

    from_json: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    to_json: Callable[[Any], Any] | None
