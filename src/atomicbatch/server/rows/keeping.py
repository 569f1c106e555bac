"""
Keeping: a client can send back what GET has shown, and the row stays as it is.

A column may hold a value that cannot be written by its JSON form. SQLite lets a column hold values
of any type; other programs write dates in forms of their own; a database may hold what it would
refuse today; and computed columns cannot be written at all. Such a column is left alone when its
value is sent as it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from atomicbatch.server.rows.plan import Row
from atomicbatch.server.rows.representation import shown
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import ValueProblem, decode_json, encode_json
from atomicbatch.server.values.kinds import Kind

# In these a text is stored in one form only, unless it shows bytes in base64, or infinity.
_ONE_FORM = frozenset({Kind.TEXT, Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT, Kind.OTHER, Kind.ANY})
_OTHERWISE = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?|-?inf", re.ASCII
)


def may_be_kept(resource: Resource, members: Iterable[tuple[str, Any]]) -> bool:
    """Whether the row may show a value of a body while it holds another one."""
    sqlite, by_name = resource.dialect.name == "sqlite", resource.table.by_name
    for name, value in members:
        if value.__class__ is str:
            if not sqlite:
                continue
            column = by_name.get(name)
            if column is None or column.kind not in _ONE_FORM or _OTHERWISE.fullmatch(value):
                return True
        elif isinstance(value, msgspec.Raw):
            return True
        elif value is None or value.__class__ is list:
            column = by_name.get(name)
            if column is not None and _holds_json(column):
                return True
    return False


def kept(resource: Resource, before: Row, body: dict[str, Any]) -> set[str]:
    """The columns to leave alone: ``body`` has for them what ``before`` shows."""
    names = set()
    for name, value in body.items():
        column = resource.table.by_name.get(name)
        if column is None or (value is None and column.kind is not Kind.JSON):
            continue
        stored = before[resource.positions[name]]
        if (
            stored is not None
            and _alike(shown(column, stored), value)
            and not _stores(resource, column, value, stored)
        ):
            names.add(name)
    return names


def _stores(resource: Resource, column: Column, value: Any, stored: Any) -> bool:
    """Whether writing ``value`` would give what is stored."""
    if not column.writable or value is None:  # NULL is not the document null
        return False
    try:
        parameter = column.codec.from_json(value)
    except ValueProblem:
        return False
    if resource.dialect.name != "sqlite" and not _holds_json(column):
        return True
    if isinstance(parameter, bool):
        parameter = int(parameter)
    return parameter.__class__ is stored.__class__ and bool(parameter == stored)


def _holds_json(column: Column) -> bool:
    """Whether a column keeps a JSON text as it is: its blanks, and how its numbers are written."""
    return Kind.JSON in (column.kind, column.item)


def _alike(left: Any, right: Any) -> bool:
    """Whether two values are the same in JSON, however they are written."""
    try:
        return bool(_decoded(left) == _decoded(right))
    except (msgspec.DecodeError, RecursionError):
        return False


def _decoded(value: Any) -> Any:
    return _marked(
        decode_json(bytes(value) if isinstance(value, msgspec.Raw) else encode_json(value))
    )


def _marked(value: Any) -> Any:
    """A decoded value in which true is not 1."""
    if value.__class__ is bool:
        return ("boolean", value)
    if value.__class__ is list:
        return [_marked(item) for item in value]
    if value.__class__ is dict:
        return {name: _marked(item) for name, item in value.items()}
    return value
