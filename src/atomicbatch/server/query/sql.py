"""SQL: trees and orders -> the text behind WHERE and ORDER BY, with every value as a parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, assert_never

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.query.tree import And, Condition, Filter, Not, Or, Order
from atomicbatch.server.values.kinds import Kind

_COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_IS = {
    "null": "IS NULL",
    "not_null": "IS NOT NULL",
    "true": "IS TRUE",
    "false": "IS FALSE",
    "unknown": "IS NULL",
}


class Where(NamedTuple):
    """
    What stands behind WHERE.

    Attributes:
        sql: Without the word.
        parameters: The driver's, in the order of their placeholders.
    """

    sql: str
    parameters: tuple[Any, ...]


def where(tree: Filter, dialect: Dialect) -> Where:
    """A tree as SQL."""
    parameters: list[Any] = []
    members = tree.members if isinstance(tree, And) and tree.members else (tree,)
    texts = [
        _condition(member, dialect, parameters)
        if isinstance(member, Condition)
        else _enclosed(member, dialect, parameters)
        for member in members
    ]
    return Where(" AND ".join(texts), tuple(parameters))


def _enclosed(tree: Filter, dialect: Dialect, parameters: list[Any]) -> str:
    """In parentheses, to stand in an expression."""
    if isinstance(tree, Condition):
        return f"({_condition(tree, dialect, parameters)})"
    if isinstance(tree, Not):
        return f"NOT {_enclosed(tree.member, dialect, parameters)}"
    if isinstance(tree, And):
        word, none = " AND ", "1 = 1"
    elif isinstance(tree, Or):
        word, none = " OR ", "1 = 0"
    else:
        assert_never(tree)
    texts = [_enclosed(member, dialect, parameters) for member in tree.members]
    return f"({word.join(texts) or none})"


def _condition(condition: Condition, dialect: Dialect, parameters: list[Any]) -> str:
    column, operator, value = condition
    name = dialect.quote(column.name)
    comparison = _COMPARISONS.get(operator)
    if comparison is not None:
        parameters.append(value)
        return f"{name} {comparison} {dialect.placeholder}"
    if operator == "is":
        return f"{name} {_IS[value]}"
    if operator != "in":
        return _like(condition, name, dialect, parameters)
    if not value:
        return "1 = 0"
    parameters += value
    return f"{name} IN ({', '.join([dialect.placeholder] * len(value))})"


def _like(condition: Condition, name: str, dialect: Dialect, parameters: list[Any]) -> str:
    column, operator, pattern = condition
    fold, mark = operator == "ilike", dialect.placeholder
    if dialect.name == "sqlite":
        # SQLite's LIKE folds ASCII only, and always; GLOB never folds.
        pattern = _glob(pattern)
        parameters.append(pattern.casefold() if fold else pattern)
        # As bytes, since a text that is not UTF-8 cannot be handed to a Python function.
        folded = f"atomicbatch_fold(CAST({name} AS BLOB))"
        return f"{folded if fold else name} GLOB {mark}"
    if dialect.name == "postgresql":
        parameters.append(_like_pattern(pattern, "\\"))
        is_text = column.kind is Kind.TEXT and column.choices is None
        text = name if is_text else f"CAST({name} AS text)"
        return f"{text} {'ILIKE' if fold else 'LIKE'} {mark}"
    # The sql_mode NO_BACKSLASH_ESCAPES takes LIKE's usual escape away; ``|`` always works.
    parameters.append(_like_pattern(pattern, "|"))
    text = f"CONVERT({name} USING utf8mb4)"
    if fold:
        text, mark = _mysql_lower(text), _mysql_lower(mark)
    else:
        text = f"{text} COLLATE utf8mb4_bin"
    return f"{text} LIKE {mark} ESCAPE '|'"


def _mysql_lower(sql: str) -> str:
    # A collation that ignores case ignores accents too, and takes every emoji for every other.
    # So only LOWER uses one, for its table of letters, and utf8mb4_bin compares.
    return f"LOWER({sql} COLLATE utf8mb4_unicode_520_ci) COLLATE utf8mb4_bin"


_PATTERN = re.compile(r"\\(.)|([%*])|(_)|(.)", re.DOTALL)


def _glob(pattern: str) -> str:
    """A pattern as a GLOB pattern that means the same."""

    def translate(match: re.Match[str]) -> str:
        escaped, many, one, plain = match.groups()
        if many:
            return "*"
        if one:
            return "?"
        literal: str = escaped or plain
        return f"[{literal}]" if literal in "*?[" else literal

    return _PATTERN.sub(translate, pattern)


def _like_pattern(pattern: str, escape: str) -> str:
    """A pattern as a LIKE pattern that means the same; a backslash at its end is itself."""
    special = "%_" + escape

    def translate(match: re.Match[str]) -> str:
        escaped, many, one, plain = match.groups()
        if many:
            return "%"
        if one:
            return "_"
        literal: str = escaped or plain
        return escape + literal if literal in special else literal

    return _PATTERN.sub(translate, pattern)


_DIRECTIONS = {"asc": " ASC", "desc": " DESC", None: ""}


def order_by(orders: Iterable[Order], dialect: Dialect) -> str:
    """What stands behind ORDER BY, without the words; empty where there is no order."""
    return ", ".join([_order_term(order, dialect) for order in orders])


def _order_term(order: Order, dialect: Dialect) -> str:
    name = dialect.quote(order.column.name)
    term = name + _DIRECTIONS[order.direction]
    if order.nulls is None:
        return term
    if dialect.name == "mysql":
        return f"{name} IS NULL{' DESC' if order.nulls == 'first' else ''}, {term}"
    return f"{term} NULLS {order.nulls.upper()}"
