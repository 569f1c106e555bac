"""
Filters: PostgREST's conditions on columns -> a tree.

Two forms: ``price=gt.5``, and logic trees, ``or=(price.gt.5,not.stock.is.null)``. Operands are
converted by their columns, so that a tree holds the driver's parameters.
"""

from __future__ import annotations

import re
from typing import NoReturn, cast, get_args

from atomicbatch.server.query.lists import after_blanks, list_at, list_values, value_at
from atomicbatch.server.query.names import (
    QUOTED,
    QueryProblem,
    find_column,
    named_column,
    unescaped,
)
from atomicbatch.server.query.tree import And, Comparison, Condition, Filter, Not, Operator, Or
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.kinds import Kind

MAX_CONDITIONS = 100
MAX_DEPTH = 10
# All lists together: SQLite takes 32,766 parameters in one statement, PostgreSQL 65,535.
MAX_VALUES = 10_000
# SQLite refuses patterns of more than 50,000 bytes; a folded character takes up to 6.
MAX_PATTERN_LENGTH = 4000

_COMPARISONS = frozenset(get_args(Comparison))
OPERATORS: tuple[str, ...] = (*get_args(Comparison), "like", "ilike", "in", "is")
_TEXT_LIKE = frozenset({Kind.TEXT, Kind.UUID, Kind.OTHER, Kind.ANY})
# Kinds whose values may begin or end with a blank.
_BLANKS_MATTER = frozenset({Kind.TEXT, Kind.OTHER, Kind.ANY})
# Kinds without an order, or without a comparison at all.
_ONLY = {
    Kind.JSON: frozenset({"is"}),
    Kind.ARRAY: frozenset({"is"}),
    Kind.BYTES: frozenset({"eq", "neq", "in", "is"}),
}
_IS = ("null", "not_null")
_IS_BOOLEAN = (*_IS, "true", "false", "unknown")


class Filters:
    """Parses the conditions of one query, and bounds how many they are."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._conditions = 0
        self._values = 0

    def plain(self, name: str, text: str) -> Filter:
        """
        Parse ``name=text`` of a query string.

        Raises:
            QueryProblem: It is no condition.
            ValueProblem: The operand does not fit the column.
        """
        column = named_column(self.table, name)
        operator, operand = _split(text)
        if operator == "not" and operand is not None:
            return Not(self.condition(column, *_split(operand), name))
        return self.condition(column, operator, operand, name)

    def logic(self, name: str, text: str) -> Filter:
        """
        Parse ``and=(...)``, ``or=(...)``, ``not.and=(...)`` or ``not.or=(...)``.

        Raises:
            QueryProblem: It is no logic tree.
            ValueProblem: An operand does not fit its column.
        """
        return _Logic(self, name, text).whole()

    def condition(
        self, column: Column, operator: str, operand: str | None, parameter: str
    ) -> Condition:
        """
        One operator on one column.

        Raises:
            QueryProblem: The operator is missing, unknown, or does not fit the column.
            ValueProblem: The operand does not fit the column.
        """
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise QueryProblem(f"there are more than {MAX_CONDITIONS} conditions", parameter)
        if operand is None or operator not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise QueryProblem(
                f"a condition is 'operator.value', and the operators are {known}", parameter
            )
        if operator not in _ONLY.get(column.kind, OPERATORS):
            raise QueryProblem(
                f"{operator!r} cannot be used on a column of kind {column.kind.value}", parameter
            )
        known_operator = cast("Operator", operator)
        if operator in _COMPARISONS:
            self._values += 1
            return Condition(column, known_operator, column.codec.from_text(operand))
        if operator == "is":
            return Condition(column, known_operator, _word(column, operand, parameter))
        if operator == "in":
            return self._in(column, operand, parameter)
        _check_pattern(column, operand, parameter)
        self._values += 1
        return Condition(column, known_operator, operand)

    def _in(self, column: Column, operand: str, parameter: str) -> Condition:
        texts = list_values(operand, parameter, blanks=column.kind in _BLANKS_MATTER)
        self._values += len(texts)
        if texts and self._values > MAX_VALUES:
            raise QueryProblem(f"there are more than {MAX_VALUES} values", parameter)
        return Condition(column, "in", tuple([column.codec.from_text(text) for text in texts]))


def _split(text: str) -> tuple[str, str | None]:
    operator, dot, operand = text.partition(".")
    return operator, operand if dot else None


def _word(column: Column, operand: str, parameter: str) -> str:
    words = _IS_BOOLEAN if column.kind is Kind.BOOLEAN else _IS
    word = operand.lower()
    if word not in words:
        raise QueryProblem(f"'is' takes one of {', '.join(words)}", parameter)
    return word


def _check_pattern(column: Column, pattern: str, parameter: str) -> None:
    if column.kind not in _TEXT_LIKE:
        raise QueryProblem("like and ilike work on text columns only", parameter)
    if "\0" in pattern:
        raise QueryProblem("a pattern cannot contain a NUL character", parameter)
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise QueryProblem(f"a pattern has at most {MAX_PATTERN_LENGTH} characters", parameter)


_GROUP_START = re.compile(r"(not\.)?(and|or)(?=\()")
_NAME = re.compile(r"[^.,()\"]+")
_OPERATOR = re.compile(r"\.(not\.)?([a-z]+)\.")
_GROUPS: dict[str, type[And] | type[Or]] = {"and": And, "or": Or}


class _Logic:
    """Parses ``(a.eq.1,or(b.gt.2,not.c.is.null))``, once from left to right."""

    def __init__(self, filters: Filters, name: str, text: str) -> None:
        self._filters = filters
        self._name = name
        self._text = text
        self._at = 0

    def whole(self) -> Filter:
        match = _GROUP_START.match(self._name + "(")
        negated, word = (bool(match[1]), match[2]) if match else (False, "and")
        group = self._group(word, 1)
        if self._at != len(self._text):
            self._fail("there is more text after the last ')'")
        return Not(group) if negated else group

    def _group(self, word: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            self._fail(f"conditions are nested deeper than {MAX_DEPTH}")
        self._take("(")
        members = [self._member(depth)]
        while self._text[self._at : self._at + 1] == ",":
            self._at += 1
            members.append(self._member(depth))
        self._take(")")
        return _GROUPS[word](tuple(members))

    def _member(self, depth: int) -> Filter:
        self._at = after_blanks(self._text, self._at)
        match = _GROUP_START.match(self._text, self._at)
        if match:
            self._at = match.end()
            group = self._group(match[2], depth + 1)
            return Not(group) if match[1] else group
        return self._condition()

    def _condition(self) -> Filter:
        # PostgREST writes "not" after the column; before the column it is accepted too.
        before = self._text.startswith("not.", self._at)
        if before:
            self._at += 4
        column = find_column(self._filters.table, self._column_name(), self._name)
        match = _OPERATOR.match(self._text, self._at)
        if match is None:
            self._fail("a condition in parentheses is 'column.operator.value'")
        self._at = match.end()
        operand = self._operand(match[2], blanks=column.kind in _BLANKS_MATTER)
        condition = self._filters.condition(column, match[2], operand, self._name)
        return Not(condition) if before != bool(match[1]) else condition

    def _operand(self, operator: str, *, blanks: bool) -> str:
        start = self._at
        if operator == "in":
            _, self._at = list_at(self._text, start, self._name, blanks=blanks)
            return self._text[start : self._at]
        operand, self._at = value_at(self._text, start, self._name, blanks=blanks)
        return operand

    def _column_name(self) -> str:
        if self._text[self._at : self._at + 1] == '"':
            quoted = QUOTED.match(self._text, self._at)
            if quoted is None:
                self._fail("a quoted name has no closing quote")
            self._at = quoted.end()
            return unescaped(quoted[1])
        match = _NAME.match(self._text, self._at)
        if match is None:
            self._fail("a condition starts with the name of a column")
        self._at = match.end()
        return match[0]

    def _take(self, expected: str) -> None:
        if self._text[self._at : self._at + 1] != expected:
            self._fail(f"{expected!r} is missing after {self._text[: self._at][-20:]!r}")
        self._at += 1

    def _fail(self, detail: str) -> NoReturn:
        raise QueryProblem(detail, self._name)
