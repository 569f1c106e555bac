"""OpenAPI of the batch endpoint, with an example that works on the tables that are served."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from atomicbatch.limits import Limits
from atomicbatch.server.schema import Column, Kind, Schema, Table
from atomicbatch.server.values import encode_json

Document = dict[str, Any]
BOUNDARY = "batch"

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
    example = example_batch(schema, base, read_only=read_only)
    replies = (
        "--batchresponse_0a1b\r\nContent-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]\r\n"
        "--batchresponse_0a1b--\r\n"
    )
    return {
        "post": {
            "operationId": "batch",
            "tags": ["batch"],
            "summary": "Many calls in one database transaction: all take effect, or none",
            "description": (
                "Each part is a complete HTTP request with a path only. The calls run in order; the"
                " first status of 400 or more undoes all. Headers and query parameters of this"
                f" request apply to every call. At most {limits.max_calls} calls and"
                f" {limits.max_body_bytes} bytes, in {limits.timeout_seconds:g} seconds."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    f"multipart/mixed; boundary={BOUNDARY}": {
                        "schema": {"type": "string"},
                        "example": example,
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "A reply for each call, in order; Batch-Outcome says whether"
                    " the batch was committed",
                    "headers": {
                        "Batch-Outcome": {
                            "description": "`committed`, or `rolled-back; failed=2; status=409`",
                            "schema": {"type": "string"},
                        },
                        "Batch-Attempts": {
                            "description": "How often it was run, if more than once",
                            "schema": {"type": "integer"},
                        },
                    },
                    "content": {
                        "multipart/mixed": {"schema": {"type": "string"}, "example": replies}
                    },
                },
                "default": {"$ref": "#/components/responses/Problem"},
            },
        }
    }


def example_batch(schema: Schema, base: str, *, read_only: bool) -> str:
    """The body of a small batch on a table of ``schema``: a create where possible, and a list."""
    tables = list(schema.tables.values())
    writable = [table for table in tables if table.key and not (table.read_only or read_only)]
    # One without references can be created without knowing what is there.
    plain = [table for table in writable if not table.foreign_keys] or writable
    parts = []
    if plain:
        parts.append(_create(plain[0], base))
    listed = plain or tables
    if listed:
        parts.append(f"GET {base}/{quote(listed[0].name, safe='')}?limit=3 HTTP/1.1\n")
    parts = parts or ["GET /healthz HTTP/1.1\n"]
    return "".join(f"--{BOUNDARY}\n\n{part}" for part in parts) + f"--{BOUNDARY}--\n"


def _create(table: Table, base: str) -> str:
    row = {column.name: _sample(column) for column in table.columns if column.required}
    if not row:
        writable = [c for c in table.columns if c.writable and c not in table.key]
        row = {column.name: _sample(column) for column in writable[:1]}
    body = encode_json(row).decode()
    path = f"{base}/{quote(table.name, safe='')}"
    return f"POST {path} HTTP/1.1\nContent-Type: application/json\n\n{body}\n"


def _sample(column: Column) -> Any:
    if column.choices:
        return column.choices[0]
    text = f"first {column.name}"
    return _SAMPLES.get(column.kind, text if column.length is None else text[: column.length])
