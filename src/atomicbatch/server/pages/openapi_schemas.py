"""OpenAPI schemas: a table's columns as JSON Schema."""

from __future__ import annotations

from typing import Any

from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.kinds import Kind

Document = dict[str, Any]

PROBLEM: Document = {
    "type": "object",
    "description": "RFC 9457. `call` (1-based), `offset`, `column`, `constraint`, `parameter`,"
    " `limit` where they are known.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}

_STRINGS = {
    Kind.DATE: {"format": "date"},
    # "time" and "date-time" have an offset (RFC 3339). These are in OpenAPI's format registry.
    Kind.TIME: {"format": "time-local"},
    Kind.DATETIME: {
        "format": "date-time-local",
        "description": "without time zone: 2026-11-24T17:45:00",
    },
    Kind.TIMESTAMP: {"format": "date-time"},
    Kind.BYTES: {"contentEncoding": "base64"},
    Kind.UUID: {"format": "uuid"},
    Kind.TEXT: {},
    Kind.OTHER: {},
}


def row_schema(table: Table) -> Document:
    """A row as it is read."""
    document: Document = {
        "type": "object",
        "properties": {column.name: _property(table, column) for column in table.columns},
        "required": [column.name for column in table.columns],
    }
    if table.comment:
        document["description"] = table.comment
    return document


def write_schema(table: Table, *, required: bool) -> Document:
    """A row as it is created (``required``) or changed."""
    columns = [column for column in table.columns if column.writable]
    document: Document = {
        "type": "object",
        "properties": {column.name: _property(table, column, written=True) for column in columns},
        "additionalProperties": False,
    }
    needed = [column.name for column in columns if column.required]
    if required and needed:
        document["required"] = needed
    return document


def _property(table: Table, column: Column, *, written: bool = False) -> Document:
    schema = _value(column.kind, column, written=written)
    notes = [column.comment] if column.comment else []
    notes += [
        f"refers to {key.table} ({', '.join(key.target_columns)})"
        for key in table.foreign_keys
        if column.name in key.columns
    ]
    if column in table.key:
        notes.append("part of the key" if len(table.key) > 1 else "the key")
    if notes:
        schema["description"] = "; ".join([*notes, *filter(None, [schema.get("description")])])
    if not column.writable:
        schema["readOnly"] = True
    if column.nullable and "type" in schema:
        types = schema["type"]
        schema["type"] = [*(types if isinstance(types, list) else [types]), "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _value(kind: Kind, column: Column | None, *, written: bool) -> Document:
    if kind is Kind.INTEGER:
        integer: Document = {"type": "integer", "format": "int64"}
        if column is not None and column.minimum is not None and column.maximum is not None:
            integer |= {"minimum": column.minimum, "maximum": column.maximum}
            if column.maximum > 2**63 - 1:  # BIGINT UNSIGNED: a client's int64 would overflow
                del integer["format"]
        return integer
    if kind is Kind.DECIMAL:
        return {"type": ["string", "number"] if written else "string", "format": "decimal"}
    if kind is Kind.FLOAT:
        return {"type": "number", "format": "double"}
    if kind is Kind.BOOLEAN:
        return {"type": "boolean"}
    if kind is Kind.ARRAY:
        item = column.item if column is not None and column.item is not None else Kind.OTHER
        items = _value(item, None, written=written)
        if "type" in items:
            types = items["type"]
            items["type"] = [*(types if isinstance(types, list) else [types]), "null"]
        return {"type": "array", "items": items}
    if kind in _STRINGS:
        text: Document = {"type": "string", **_STRINGS[kind]}
        if kind is Kind.TEXT and column is not None:
            if column.length is not None:
                text["maxLength"] = column.length
            if column.choices is not None:
                text["enum"] = list(column.choices)
        if kind is Kind.BYTES and column is not None and column.length is not None:
            text["maxLength"] = (column.length + 2) // 3 * 4  # as base64
        return text
    return {}  # JSON, and SQLite's columns without a type, hold anything
