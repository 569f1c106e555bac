"""
Tree: which rows are meant, as conditions joined by AND, OR and NOT; no SQL yet.

Filters are parsed to such a tree. Whoever narrows what a call may reach makes one of its own, and
joins the two: ``And((filter, rule))``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from atomicbatch.server.schema.tables import Column

Comparison = Literal["eq", "neq", "gt", "gte", "lt", "lte"]
Operator = Literal[Comparison, "like", "ilike", "in", "is"]


class Condition(NamedTuple):
    """
    One operator on one column.

    Its value depends on the operator:

    - a comparison: a driver parameter of the column, never None;
    - ``in``: a tuple of them, which may be empty;
    - ``like``, ``ilike``: a pattern as text. ``%`` and ``*`` stand for any text, ``_`` for any one
      character, and a backslash takes the meaning of what follows;
    - ``is``: one of the words ``null``, ``not_null``, and for a boolean column ``true``, ``false``,
      ``unknown``.
    """

    column: Column
    operator: Operator
    value: Any


class And(NamedTuple):
    """All of them hold; without any it holds for every row."""

    members: tuple[Filter, ...]


class Or(NamedTuple):
    """One of them holds at least; without any it holds for no row."""

    members: tuple[Filter, ...]


class Not(NamedTuple):
    """It does not hold; what is NULL stays NULL."""

    member: Filter


Filter: TypeAlias = Condition | And | Or | Not


class Order(NamedTuple):
    """One term of an order; None leaves it to the database."""

    column: Column
    direction: Literal["asc", "desc"] | None = None
    nulls: Literal["first", "last"] | None = None
