"""Lists: values in parentheses, ``(a,"b,c")``, and where each of them ends."""

from __future__ import annotations

import re

from atomicbatch.server.query.names import QUOTED, QueryProblem, unescaped

MAX_LIST_VALUES = 1000

# A value without quotes ends at the next delimiter.
_UNQUOTED = re.compile(r"[^,()]*")
_BLANKS = re.compile(r"[ \t]*")


def value_at(text: str, position: int, parameter: str, *, blanks: bool = True) -> tuple[str, int]:
    """
    The value at ``position``, and where the delimiter behind it is.

    Blanks around quotes do not belong to the value. In a value without quotes nobody can tell
    whether blanks at its ends, or quotes within, belong to it. A guess would find other rows than
    were asked for, so such a value is refused.

    Args:
        text: The list or logic tree.
        position: Where the value starts.
        parameter: The query parameter that it is in.
        blanks: Whether a blank can belong to the value; if not, blanks at its ends are dropped.

    Raises:
        QueryProblem: The value can be read in two ways, or its quotes are not closed.
    """
    match = QUOTED.match(text, after_blanks(text, position))
    if match is not None:
        end = after_blanks(text, match.end())
        if text[end : end + 1] not in ("", ",", ")"):
            raise QueryProblem("there is more text after a quoted value", parameter)
        return unescaped(match[1]), end
    match = _UNQUOTED.match(text, position)
    end = position if match is None else match.end()
    value = text[position:end]
    if value.lstrip().startswith('"'):
        raise QueryProblem("a quoted value has no closing quote", parameter)
    if '"' in value:
        raise QueryProblem(
            'a value that contains quotes must be quoted, with \\ before each: "5\\" pipe"',
            parameter,
        )
    if value != value.strip():
        if blanks:
            raise QueryProblem(
                'a value that starts or ends with a blank must be quoted: " a"', parameter
            )
        value = value.strip()
    return value, end


def after_blanks(text: str, position: int) -> int:
    """The first position from ``position`` on that is no blank."""
    match = _BLANKS.match(text, position)
    return position if match is None else match.end()


def list_at(
    text: str, position: int, parameter: str, *, blanks: bool = True
) -> tuple[list[str], int]:
    """
    The values of the list that starts at ``position``, and where it ends.

    Raises:
        QueryProblem: There is no list, it is too long, or a value can be read in two ways.
    """
    if text[position : position + 1] != "(":
        raise QueryProblem("'in' takes a list: in.(1,2,3)", parameter)
    position += 1
    if text[position : position + 1] == ")":
        return [], position + 1
    values: list[str] = []
    while True:
        value, position = value_at(text, position, parameter, blanks=blanks)
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
    The values of a list that must be all of ``text``.

    Raises:
        QueryProblem: As ``list_at`` does, or something follows the list.
    """
    values, end = list_at(text, 0, parameter, blanks=blanks)
    if end != len(text):
        raise QueryProblem("there is more text after the list", parameter)
    return values
