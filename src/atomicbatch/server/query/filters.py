"""Filters: PostgREST's conditions on columns -> SQL for WHERE, every value a parameter."""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.kinds import Kind

MAX_CONDITIONS = 100
MAX_DEPTH = 10
MAX_LIST_VALUES = 1000
# All lists together: SQLite takes 32,766 parameters in one statement, PostgreSQL 65,535.
MAX_VALUES = 10_000
# SQLite refuses patterns of more than 50,000 bytes; a folded character takes up to 6.
MAX_PATTERN_LENGTH = 4000


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


_COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
OPERATORS = (*_COMPARISONS, "like", "ilike", "in", "is")
_TEXT_LIKE = frozenset({Kind.TEXT, Kind.UUID, Kind.OTHER, Kind.ANY})
# Kinds whose values may begin or end with a blank.
_BLANKS_MATTER = frozenset({Kind.TEXT, Kind.OTHER, Kind.ANY})
# Kinds without an order, or without a comparison at all.
_ONLY = {
    Kind.JSON: frozenset({"is"}),
    Kind.ARRAY: frozenset({"is"}),
    Kind.BYTES: frozenset({"eq", "neq", "in", "is"}),
}
_IS = {"null": "IS NULL", "not_null": "IS NOT NULL"}
_IS_BOOLEAN = {"true": "IS TRUE", "false": "IS FALSE", "unknown": "IS NULL"}


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
    match = _QUOTED.fullmatch(name)
    if match is None:
        return find_column(table, name, name)
    plain = _ESCAPE.sub(r"\1", match[1])
    if name not in table.by_name:
        return find_column(table, plain, name)
    if plain in table.by_name:
        raise QueryProblem("this may be one of two columns: write it in and=(...)", name)
    return table.by_name[name]


class Conditions:
    """
    Gathers the conditions of one query.

    Attributes:
        table: Whose columns they are on.
        parameters: The driver's parameters, in the order of their placeholders in the SQL.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self.parameters: list[Any] = []
        self.table = table
        self._dialect = dialect
        self._count = 0

    def plain(self, name: str, text: str) -> str:
        """
        ``name=text`` of a query string -> SQL.

        Raises:
            QueryProblem: It is no condition.
            ValueProblem: The operand does not fit the column.
        """
        return self._condition(named_column(self.table, name), text, name)

    def tree(self, name: str, text: str) -> str:
        """
        ``and=(...)``, ``or=(...)``, ``not.and=(...)`` or ``not.or=(...)`` -> SQL.

        Raises:
            QueryProblem: It is no logic tree.
            ValueProblem: An operand does not fit its column.
        """
        reader = _Tree(self, name, text)
        return reader.whole()

    def _condition(self, column: Column, text: str, parameter: str) -> str:
        operator, dot, operand = text.partition(".")
        if operator == "not" and dot:
            return f"NOT ({self.operation(column, *_split(operand), parameter)})"
        return self.operation(column, operator, operand if dot else None, parameter)

    def operation(self, column: Column, operator: str, operand: str | None, parameter: str) -> str:
        """
        One operator on one column -> SQL.

        Raises:
            QueryProblem: The operator is missing, unknown, or does not fit the column.
            ValueProblem: The operand does not fit the column.
        """
        self._count += 1
        if self._count > MAX_CONDITIONS:
            raise QueryProblem(f"there are more than {MAX_CONDITIONS} conditions", parameter)
        if operand is None or operator not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise QueryProblem(
                f"a condition is 'operator.value', with an operator of {known}", parameter
            )
        if operator not in _ONLY.get(column.kind, OPERATORS):
            raise QueryProblem(
                f"{operator} does not fit a column of kind {column.kind.value}", parameter
            )
        comparison = _COMPARISONS.get(operator)
        if comparison is not None:
            return self._compare(column, comparison, operand)
        if operator == "is":
            return self._is(column, operand, parameter)
        if operator == "in":
            return self._in(column, operand, parameter)
        return self._like(column, operand, parameter, fold=operator == "ilike")

    def _compare(self, column: Column, comparison: str, operand: str) -> str:
        self.parameters.append(column.codec.from_text(operand))
        return f"{self._dialect.quote(column.name)} {comparison} {self._dialect.placeholder}"

    def _is(self, column: Column, operand: str, parameter: str) -> str:
        what = operand.lower()
        sql = _IS.get(what)
        if sql is None and column.kind is Kind.BOOLEAN:
            sql = _IS_BOOLEAN.get(what)
        if sql is None:
            words = ", ".join((*_IS, *_IS_BOOLEAN) if column.kind is Kind.BOOLEAN else _IS)
            raise QueryProblem(f"is takes one of {words}", parameter)
        return f"{self._dialect.quote(column.name)} {sql}"

    def _in(self, column: Column, operand: str, parameter: str) -> str:
        values = list_values(operand, parameter, blanks=column.kind in _BLANKS_MATTER)
        if not values:
            return "1 = 0"
        if len(self.parameters) + len(values) > MAX_VALUES:
            raise QueryProblem(f"there are more than {MAX_VALUES} values", parameter)
        self.parameters += [column.codec.from_text(value) for value in values]
        marks = ", ".join([self._dialect.placeholder] * len(values))
        return f"{self._dialect.quote(column.name)} IN ({marks})"

    def _like(self, column: Column, operand: str, parameter: str, *, fold: bool) -> str:
        if column.kind not in _TEXT_LIKE:
            raise QueryProblem("like and ilike fit text columns only", parameter)
        if "\0" in operand:
            raise QueryProblem("a pattern holds no NUL character", parameter)
        if len(operand) > MAX_PATTERN_LENGTH:
            raise QueryProblem(f"a pattern has at most {MAX_PATTERN_LENGTH} characters", parameter)
        name, mark = self._dialect.quote(column.name), self._dialect.placeholder
        if self._dialect.name == "sqlite":
            # SQLite's LIKE folds ASCII only, and always; GLOB never folds.
            pattern = _glob(operand)
            self.parameters.append(pattern.casefold() if fold else pattern)
            # As bytes, since a text that is not UTF-8 cannot be handed to a function of Python's.
            folded = f"atomicbatch_fold(CAST({name} AS BLOB))"
            return f"{folded if fold else name} GLOB {mark}"
        if self._dialect.name == "postgresql":
            self.parameters.append(_like_pattern(operand, "\\"))
            is_text = column.kind is Kind.TEXT and column.choices is None
            text = name if is_text else f"CAST({name} AS text)"
            return f"{text} {'ILIKE' if fold else 'LIKE'} {mark}"
        # The sql_mode NO_BACKSLASH_ESCAPES takes LIKE's usual escape away; ``|`` always works.
        self.parameters.append(_like_pattern(operand, "|"))
        text = f"CONVERT({name} USING utf8mb4)"
        if fold:
            text, mark = _mysql_lower(text), _mysql_lower(mark)
        else:
            text = f"{text} COLLATE utf8mb4_bin"
        return f"{text} LIKE {mark} ESCAPE '|'"


def _mysql_lower(sql: str) -> str:
    # A collation that ignores case ignores accents too, and takes every emoji for every other.
    # So only LOWER is asked of one, for its table of letters, and utf8mb4_bin compares.
    return f"LOWER({sql} COLLATE utf8mb4_unicode_520_ci) COLLATE utf8mb4_bin"


def _split(text: str) -> tuple[str, str | None]:
    operator, dot, operand = text.partition(".")
    return operator, operand if dot else None


_PATTERN = re.compile(r"\\(.)|([%*])|(_)|(.)", re.DOTALL)


def _glob(pattern: str) -> str:
    """A LIKE pattern as a GLOB pattern that means the same."""

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
    """``*`` is PostgREST's other ``%``; ``\\*`` is a star; a last backslash is itself."""
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


# A value in a list or tree: quoted, with backslash escapes, or up to the next delimiter.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_UNQUOTED = re.compile(r"[^,()]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


_BLANKS = re.compile(r"[ \t]*")


def _value_at(text: str, position: int, parameter: str, *, blanks: bool = True) -> tuple[str, int]:
    """
    The value at ``position``, and where the delimiter behind it is.

    Blanks around quotes are none of the value's. Where the value has no quotes, nobody can tell
    whether blanks at its ends, or quotes within, are meant to be part of it: then other rows
    would be found than were asked for, and it is refused. ``blanks=False`` says that no blank can
    be part of it.
    """
    match = _QUOTED.match(text, _after_blanks(text, position))
    if match is not None:
        end = _after_blanks(text, match.end())
        if text[end : end + 1] not in ("", ",", ")"):
            raise QueryProblem("something follows a quoted value", parameter)
        return _ESCAPE.sub(r"\1", match[1]), end
    match = _UNQUOTED.match(text, position)
    end = position if match is None else match.end()
    value = text[position:end]
    if value.lstrip().startswith('"'):
        raise QueryProblem("a quoted value is not closed", parameter)
    if '"' in value:
        raise QueryProblem(
            'a value with quotes is written in quotes, with \\ before each: "5\\" pipe"', parameter
        )
    if value != value.strip():
        if blanks:
            raise QueryProblem(
                'blanks at the ends of a value are written in quotes: " a"', parameter
            )
        value = value.strip()
    return value, end


def _after_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return position if match is None else match.end()


def _list_at(
    text: str, position: int, parameter: str, *, blanks: bool = True
) -> tuple[list[str], int]:
    """The values of ``(a,"b,c")`` that starts at ``position``, and where it ends."""
    if text[position : position + 1] != "(":
        raise QueryProblem("in takes a list: in.(1,2,3)", parameter)
    position += 1
    if text[position : position + 1] == ")":
        return [], position + 1
    values: list[str] = []
    while True:
        value, position = _value_at(text, position, parameter, blanks=blanks)
        values.append(value)
        if len(values) > MAX_LIST_VALUES:
            raise QueryProblem(f"a list has at most {MAX_LIST_VALUES} values", parameter)
        delimiter = text[position : position + 1]
        position += 1
        if delimiter == ")":
            return values, position
        if delimiter != ",":
            raise QueryProblem("a list is not closed by ')'", parameter)


def list_values(text: str, parameter: str, *, blanks: bool = True) -> list[str]:
    """
    The values of ``(a,"b,c")``, which must be all of ``text``.

    Args:
        text: The list.
        parameter: The query parameter that it is in.
        blanks: Whether blanks may be part of a value; else they are dropped at its ends.

    Raises:
        QueryProblem: It is no list, or too long, or what a value is can be read in two ways.
    """
    values, end = _list_at(text, 0, parameter, blanks=blanks)
    if end != len(text):
        raise QueryProblem("something follows the list", parameter)
    return values


_TREE_START = re.compile(r"(not\.)?(and|or)(?=\()")
_TREE_NAME = re.compile(r"[^.,()\"]+")
_TREE_OPERATOR = re.compile(r"\.(not\.)?([a-z]+)\.")


class _Tree:
    """Reads ``(a.eq.1,or(b.gt.2,not.c.is.null))``, once from left to right."""

    def __init__(self, conditions: Conditions, name: str, text: str) -> None:
        self._conditions = conditions
        self._name = name
        self._text = text
        self._at = 0

    def whole(self) -> str:
        match = _TREE_START.match(self._name + "(")
        negated, word = (bool(match[1]), match[2]) if match else (False, "and")
        sql = self._members(word, 1)
        if self._at != len(self._text):
            self._fail("something follows the last ')'")
        return f"NOT {sql}" if negated else sql

    def _members(self, word: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            self._fail(f"conditions are nested deeper than {MAX_DEPTH}")
        self._take("(")
        members = [self._member(depth)]
        while self._text[self._at : self._at + 1] == ",":
            self._at += 1
            members.append(self._member(depth))
        self._take(")")
        return "(" + f" {word.upper()} ".join(members) + ")"

    def _member(self, depth: int) -> str:
        self._at = _after_blanks(self._text, self._at)
        match = _TREE_START.match(self._text, self._at)
        if match:
            self._at = match.end()
            sql = self._members(match[2], depth + 1)
            return f"NOT {sql}" if match[1] else sql
        return self._condition()

    def _condition(self) -> str:
        # PostgREST puts "not" behind the column; before it reads as well.
        before = self._text.startswith("not.", self._at)
        if before:
            self._at += 4
        column = find_column(self._conditions.table, self._column_name(), self._name)
        match = _TREE_OPERATOR.match(self._text, self._at)
        if match is None:
            self._fail("a condition in a tree is 'column.operator.value'")
        self._at = match.end()
        operator = match[2]
        blanks = column.kind in _BLANKS_MATTER
        if operator == "in":
            start = self._at
            _, self._at = _list_at(self._text, start, self._name, blanks=blanks)
            operand = self._text[start : self._at]
        else:
            operand, self._at = _value_at(self._text, self._at, self._name, blanks=blanks)
        sql = self._conditions.operation(column, operator, operand, self._name)
        return f"NOT ({sql})" if before != bool(match[1]) else f"({sql})"

    def _column_name(self) -> str:
        if self._text[self._at : self._at + 1] == '"':
            quoted = _QUOTED.match(self._text, self._at)
            if quoted is None:
                self._fail("a quoted name is not closed")
            self._at = quoted.end()
            return _ESCAPE.sub(r"\1", quoted[1])
        match = _TREE_NAME.match(self._text, self._at)
        if match is None:
            self._fail("a condition starts with a column's name")
        self._at = match.end()
        return match[0]

    def _take(self, expected: str) -> None:
        if self._text[self._at : self._at + 1] != expected:
            self._fail(f"{expected!r} is expected after {self._text[: self._at][-20:]!r}")
        self._at += 1

    def _fail(self, detail: str) -> NoReturn:
        raise QueryProblem(detail, self._name)
