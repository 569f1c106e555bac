"""Codec of PostgreSQL's arrays: JSON arrays <-> the server's text form, ``{1,NULL,"a b"}``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from atomicbatch.server.values.codec import Codec, ValueProblem, json_type
from atomicbatch.server.values.kinds import Bounds, Kind


def array_codec(name: str, bounds: Bounds, item: Codec) -> Codec:
    """
    The conversions of an array's column.

    What a JSON array cannot express is written as the server's text form, in a JSON text: arrays
    that do not count from 1, several dimensions of JSON, and JSON's null within one.

    Args:
        name: The column's.
        bounds: The array's, with those of its items.
        item: The conversions of one item.
    """
    kind, delimiter = bounds.item or Kind.OTHER, bounds.delimiter
    of_json = kind is Kind.JSON
    load = _LOADERS.get(kind)

    def read(text: str) -> Any:
        value = text if load is None else load(text)
        return value if item.to_json is None else item.to_json(value)

    def to_json(value: Any) -> Any:
        if value.__class__ is not str or not value.startswith("{"):
            return value
        items = _items(value, delimiter)
        if of_json and any(v.__class__ is list or v == "null" for v in items):
            return value
        return _each(items, read)

    def write(value: Any) -> str:
        if value is None:
            return "NULL"
        if value.__class__ is list and not of_json:
            if not value:
                raise ValueProblem(name, "contains an empty array inside an array")
            return "{" + delimiter.join([write(v) for v in value]) + "}"
        return _quoted(_text(item.from_json(value)))

    def from_json(value: Any) -> str:
        if value.__class__ is list:
            return "{" + delimiter.join([write(v) for v in value]) + "}"
        if value.__class__ is str:
            return from_text(value)
        raise ValueProblem(name, f"must be an array, not {json_type(value)}")

    def from_text(text: str) -> str:
        start = _BOUNDS.match(text)
        try:
            items = _items(text[start.end() :] if start else text, delimiter)
        except ValueError:
            example = "{1,2}".replace(",", delimiter)
            raise ValueProblem(name, f"must be an array, or its text form {example}") from None
        _each(items, item.from_text)
        return text

    return Codec(from_json, from_text, to_json)


# int() and the like of the text forms that the server writes.
_LOADERS: dict[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: lambda text: text == "t",
    Kind.BYTES: lambda text: bytes.fromhex(text[2:]),
}
# Where an array does not count from 1: "[0:1]={a,b}".
_BOUNDS = re.compile(r"(\[-?[0-9]+(:-?[0-9]+)?\])+=")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# What the server reads as blanks around items. Python's strip() removes more, which may be data.
_BLANKS = " \t\n\r\v\f"


def _each(items: list[Any], convert: Callable[[str], Any]) -> list[Any]:
    return [
        None if v is None else _each(v, convert) if v.__class__ is list else convert(v)
        for v in items
    ]


def _token(delimiter: str) -> re.Pattern[str]:
    other = rf'[^{{}}"\\{re.escape(delimiter)}]'
    return re.compile(rf'"((?:[^"\\]|\\.)*)"|((?:{other}|\\.)+)|([{{}}{delimiter}])', re.DOTALL)


_TOKENS = {delimiter: _token(delimiter) for delimiter in ",;"}


def _items(text: str, delimiter: str) -> list[Any]:
    """
    Text of items, None for NULL, lists for further dimensions.

    Raises:
        ValueError: It is no array in text form.
    """
    token = _TOKENS.get(delimiter) or _token(delimiter)
    whole: list[Any] = []
    open_lists = [whole]
    end = 0
    may_come = True  # an item or a brace; else a delimiter or a closing brace
    while end < len(text):
        match = token.match(text, end)
        if match is None:
            raise ValueError("no token")
        end = match.end()
        quoted, plain, mark = match.groups()
        if mark == "{" and may_come:
            inner: list[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif mark == "}" and len(open_lists) > 1 and (not may_come or not open_lists[-1]):
            open_lists.pop()
            may_come = False
        elif mark == delimiter and not may_come and len(open_lists) > 1:
            may_come = True
        elif mark is None and may_come and len(open_lists) > 1:
            value = plain.strip(_BLANKS) if quoted is None else _ESCAPE.sub(r"\1", quoted)
            open_lists[-1].append(None if quoted is None and value == "NULL" else value)
            may_come = False
        else:
            raise ValueError("a token at the wrong place")
    if len(open_lists) != 1 or len(whole) != 1:
        raise ValueError("not one array")
    found: list[Any] = whole[0]
    return found


def _text(value: Any) -> str:
    """An item's driver parameter in the server's text form."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
