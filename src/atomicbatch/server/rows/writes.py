"""Writes: the INSERTs or UPDATEs of one table, one for each set of columns that clients send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.rows.plan import Row
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.kinds import Kind
from atomicbatch.server.values.typed import TypedObject, Values, can_be_typed


class Write:
    """
    An INSERT or UPDATE, for one set of columns in the order a client sent.

    Attributes:
        columns: The columns.
        names: Their names.
        sql: An INSERT, or an UPDATE without its WHERE.
        by_key: The UPDATE of the row with a key, which returns the row where the database does.
        bare: The INSERT, or the UPDATE of the row with a key, without RETURNING.
        assignments: What stands behind SET in an UPDATE.
        row: The row's number and the parameters -> the row with all its columns. None where the
            row is not known before somebody has looked at it; see ``Table.number``.
        typed: Takes bodies that surely fit, once there have been some of these columns.
    """

    __slots__ = (
        *(
            "_dialect",
            "_uses",
            "assignments",
            "bare",
            "by_key",
            "columns",
            "from_json",
            "names",
            "row",
            "sql",
        ),
        "typed",
    )

    def __init__(
        self,
        columns: Sequence[Column],
        dialect: Dialect,
        sql: str,
        *,
        bare: str,
        by_key: str = "",
        assignments: str = "",
        row: Callable[[Row], Row] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.names = tuple([column.name for column in columns])
        self.from_json = tuple([column.codec.from_json for column in columns])
        self.sql = sql
        self.by_key = by_key
        self.bare = bare
        self.assignments = assignments
        self.row = row
        self.typed: TypedObject | None = None
        self._dialect = dialect
        self._uses = 0

    def parameters(self, values: Iterable[Any]) -> list[Any]:
        """
        The driver's parameters for ``values``, in the order of the columns.

        Raises:
            ValueProblem: A value does not fit its column.
        """
        return [
            None if value is None else convert(value)
            for convert, value in zip(self.from_json, values, strict=True)
        ]

    # Making a decoder takes as long as so many calls without one.
    _WORTH_IT = 20

    def used(self) -> None:
        """There was another body of these columns."""
        self._uses += 1
        if self._uses == self._WORTH_IT and _can_be_typed(self.columns):
            members = [(column.name, column.codec) for column in self.columns]
            self.typed = TypedObject(members, self._dialect)


def _can_be_typed(columns: Sequence[Column]) -> bool:
    # A JSON column keeps its text as it is sent.
    return bool(columns) and all(
        Kind.JSON not in (column.kind, column.item) and can_be_typed(column.name)
        for column in columns
    )


Fitting: TypeAlias = tuple[Write, Values, Sequence[Any]]
"""A write, the values of a body that fits it, in the order of its columns, and the parameters."""


# The first name of an object, with what stands before it; others are tried by the codecs.
_LONGEST_START = 200


class Writes:
    """
    The INSERTs of a table, or its UPDATEs.

    Args:
        make: Makes the write of a set of columns; raises ValueProblem if there is none.
    """

    # A client may send columns in any order. We keep no more different orders than this.
    _MOST_KEPT = 256

    def __init__(self, make: Callable[[tuple[str, ...]], Write]) -> None:
        self._make = make
        self._kept: dict[tuple[str, ...], Write] = {}
        # Of those with the same first name, the one that was used last.
        self._by_start: dict[bytes, Write] = {}

    def of(self, names: tuple[str, ...]) -> Write:
        """
        The write of these columns.

        Raises:
            ValueProblem: There is no such column, or the database computes it.
        """
        write = self._kept.get(names)
        if write is None:
            if len(self._kept) >= self._MOST_KEPT:
                self._kept.clear()
                self._by_start.clear()
            write = self._kept[names] = self._make(names)
        return write

    def fit(self, body: bytes) -> Fitting | None:
        """
        The write for a body, if it fits at first sight.

        None: decode the body, and ask ``of`` and ``Write.parameters``. They have the last word.
        """
        write = self._by_start.get(body[: body.find(b":", 0, _LONGEST_START)])
        if write is None or (typed := write.typed) is None:
            return None
        values = typed.values(body)
        if values is None:
            return None
        parameters = typed.parameters(values)
        return None if parameters is None else (write, values, parameters)

    def remember(self, body: bytes, write: Write) -> None:
        """Try this write first for bodies that start as this one does, since it was right here."""
        write.used()
        end = body.find(b":", 0, _LONGEST_START)
        if end < 0 or write.typed is None or self._kept.get(write.names) is not write:
            return
        if len(self._by_start) >= self._MOST_KEPT:
            self._by_start.clear()
        self._by_start[body[:end]] = write
