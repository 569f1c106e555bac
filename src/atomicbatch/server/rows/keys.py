"""Keys: the primary key of a row, in the path of a call and in its Location."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec

from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows.plan import Row
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import ValueProblem, decode_json
from atomicbatch.server.values.kinds import Kind


def key_texts(resource: Resource, segment: bytes) -> list[str]:
    """
    The parts of a key, decoded, from the last segment of a path as sent.

    Raises:
        RowFault: There are not as many parts as the key has columns, or one is not UTF-8.
    """
    key = resource.table.key
    parts = segment.split(b",") if len(key) > 1 else [segment]
    if len(parts) != len(key):
        names = ",".join(column.name for column in key)
        raise RowFault(400, "invalid-key", f"the key has {len(key)} parts: {names}")
    try:
        return [unquote_to_bytes(part).decode() for part in parts]
    except UnicodeDecodeError:
        raise RowFault(400, "invalid-key", "the key is not valid UTF-8") from None


# Their number is within the bounds of any whole number's column but the shortest two.
_FEW_DIGITS = 9


def read_key(resource: Resource, segment: bytes) -> Row:
    """
    A key in a path as the driver's parameters.

    Raises:
        RowFault: See ``key_texts``.
        ValueProblem: A part does not fit its column.
    """
    if resource.is_numbered and segment.isdigit() and len(segment) <= _FEW_DIGITS:
        return (int(segment),)
    key = resource.table.key
    texts = key_texts(resource, segment)
    return tuple([column.codec.from_text(text) for column, text in zip(key, texts, strict=True)])


def location(resource: Resource, path: bytes, row: Row) -> bytes | None:
    """The path of a row in the collection at ``path``; None where its key cannot be in one."""
    positions = resource.key_positions
    if len(positions) == 1 and (number := row[positions[0]]).__class__ is int:
        return b"%b/%d" % (path.rstrip(b"/"), number)
    parts = []
    for column, position in zip(resource.table.key, positions, strict=True):
        value = row[position]
        if value.__class__ is int:
            parts.append(str(value))
            continue
        text = _text(column, value)
        # SQLite lets any column hold anything; the text must lead back to the row.
        if text is None or (resource.dialect.name == "sqlite" and _read(column, text) != value):
            return None
        parts.append(quote(text, safe=""))
    segment = ",".join(parts)
    # Clients take dots out of a path, percent-encoded ones too (RFC 3986 section 6.2.2).
    if segment in ("", ".", ".."):
        return None
    return path.rstrip(b"/") + b"/" + segment.encode()


def _text(column: Column, value: Any) -> str | None:
    """A part of a key as it is written in a path, or None where it cannot be."""
    if value is None:
        return None
    if isinstance(value, bytes) and column.kind is not Kind.BYTES:
        return None
    shown = value if column.codec.to_json is None else column.codec.to_json(value)
    if isinstance(shown, msgspec.Raw):
        return bytes(shown).decode()
    if column.kind is Kind.ARRAY:
        return str(value)  # the database's text form, which a path takes
    if isinstance(shown, bool):
        return "true" if shown else "false"
    if isinstance(shown, str) and not _is_utf8(shown):
        return None
    return str(shown) if isinstance(shown, str | int | float) else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(column: Column, text: str) -> Any:
    try:
        return column.codec.from_text(text)
    except ValueProblem:
        return None


def with_key(resource: Resource, body: dict[str, Any], key: Row, segment: bytes) -> dict[str, Any]:
    """
    The body of a PUT, completed by the key in its path.

    Args:
        resource: The table.
        body: May hold the key too, if it is the same.
        key: The key as parameters.
        segment: The key as sent.

    Raises:
        RowFault: The body holds another key.
    """
    whole = dict(body)
    for column, part, text in _parts(resource, key, segment):
        if column.name not in body:
            whole[column.name] = _json_of(column, text)
        elif body[column.name] is None or not _is_same(
            column, column.codec.from_json(body[column.name]), part
        ):
            raise RowFault(
                400, "key-mismatch", f"column {column.name!r} differs from the key in the path"
            )
    return whole


def _parts(resource: Resource, key: Row, segment: bytes) -> Iterator[tuple[Column, Any, str]]:
    return zip(resource.table.key, key, key_texts(resource, segment), strict=True)


def _is_same(column: Column, one: Any, other: Any) -> bool:
    """Whether two parameters of a column are the same, however they are written."""
    if column.kind is Kind.JSON:
        return bool(decode_json(one.encode()) == decode_json(other.encode()))
    if column.kind is Kind.ARRAY and column.codec.to_json is not None:
        return bool(column.codec.to_json(one) == column.codec.to_json(other))
    return bool(one == other)


def _json_of(column: Column, text: str) -> Any:
    """A part of a key in a path as the JSON value that means the same."""
    parameter = column.codec.from_text(text)
    if column.kind is Kind.JSON:
        return msgspec.Raw(parameter.encode())
    value = column.codec.to_json(parameter) if column.codec.to_json else parameter
    return repr(value) if value.__class__ is float else value
