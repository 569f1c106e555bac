"""Names: which column a name in a query string means."""

from __future__ import annotations

import difflib
import re

from atomicbatch.server.schema.tables import Column, Table

QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
"""A name or a value in quotes; within them, a backslash stands before quotes and backslashes."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class QueryProblem(Exception):
    """
    A query string is not understood.

    Attributes:
        detail: What is wrong, for people.
        parameter: The name of the query parameter.
    """

    def __init__(self, detail: str, parameter: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.detail = detail
        self.parameter = parameter


def unescaped(text: str) -> str:
    """What stood between quotes, without its backslashes."""
    return _ESCAPE.sub(r"\1", text)


def find_column(table: Table, name: str, parameter: str) -> Column:
    """
    The column called ``name``.

    Raises:
        QueryProblem: There is none.
    """
    column = table.by_name.get(name)
    if column is not None:
        return column
    close = difflib.get_close_matches(name[:100], table.by_name, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise QueryProblem(f"{table.name!r} has no column {name[:100]!r}{hint}", parameter)


def named_column(table: Table, name: str) -> Column:
    """
    The column that the name of a query parameter means: as it is, or in quotes as in lists.

    Raises:
        QueryProblem: There is none, or there is one of either name.
    """
    match = QUOTED.fullmatch(name)
    if match is None:
        return find_column(table, name, name)
    plain = unescaped(match[1])
    if name not in table.by_name:
        return find_column(table, plain, name)
    if plain in table.by_name:
        raise QueryProblem("two columns match this name: write the condition in and=(...)", name)
    return table.by_name[name]
