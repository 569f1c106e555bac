"""OpenAPI of the batch endpoint, with an example that works on the tables served."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from atomicbatch.limits import Limits
from atomicbatch.openapi import batch_path
from atomicbatch.openapi.batch_path import ExampleCall
from atomicbatch.server.schema.tables import Column, Schema, Table
from atomicbatch.server.values.codec import encode_json
from atomicbatch.server.values.kinds import Kind

Document = dict[str, Any]

_SAMPLES: dict[Kind, Any] = {
    Kind.INTEGER: 1,
    Kind.DECIMAL: "1",
    Kind.FLOAT: 1.5,
    Kind.BOOLEAN: True,
    Kind.DATE: "2026-11-24",
    Kind.TIME: "17:45:00",
    Kind.DATETIME: "2026-11-24T17:45:00",
    Kind.TIMESTAMP: "2026-11-24T17:45:00Z",
    Kind.BYTES: "AAEC",
    Kind.JSON: {},
    Kind.UUID: "0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55",
    Kind.ARRAY: [],
}


def batch_path_item(schema: Schema, base: str, limits: Limits, *, read_only: bool) -> Document:
    """The path item of the batch endpoint."""
    calls = example_calls(schema, base, read_only=read_only)
    problem = {"$ref": "#/components/responses/Problem"}
    return batch_path.batch_path_item(calls, limits, problem=problem)


def example_calls(schema: Schema, base: str, *, read_only: bool) -> list[ExampleCall]:
    """Calls for a first batch on a table of ``schema``: a create where possible, and a list."""
    tables = list(schema.tables.values())
    writable = [table for table in tables if table.key and not (table.read_only or read_only)]
    # A row without references can be created without knowing what is there.
    plain = [table for table in writable if not table.foreign_keys] or writable
    calls = []
    if plain:
        body = encode_json(_row(plain[0])).decode()
        calls.append(ExampleCall("POST", _path(plain[0], base), body))
    listed = plain or tables
    if listed:
        calls.append(ExampleCall("GET", f"{_path(listed[0], base)}?limit=3", ""))
    return calls or [ExampleCall("GET", "/healthz", "")]


def example_http_file(schema: Schema, base: str, address: str, *, read_only: bool) -> str:
    """The example's calls as an ``.http`` file."""
    return "\n".join(
        f"###\n{call.method} {address}{call.target}\n{call.rest}"
        for call in example_calls(schema, base, read_only=read_only)
    )


def _path(table: Table, base: str) -> str:
    return f"{base}/{quote(table.name, safe='')}"


def _row(table: Table) -> dict[str, Any]:
    row = {column.name: _sample(column) for column in table.columns if column.required}
    if not row:
        writable = [c for c in table.columns if c.writable and c not in table.key]
        row = {column.name: _sample(column) for column in writable[:1]}
    return row


def _sample(column: Column) -> Any:
    if column.choices:
        return column.choices[0]
    text = f"first {column.name}"
    return _SAMPLES.get(column.kind, text if column.length is None else text[: column.length])
