"""OpenAPI of the batch endpoint, with an example that works on the tables that are served."""

from __future__ import annotations

from typing import Any, NamedTuple
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


class ExampleCall(NamedTuple):
    """A call of the example."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    body: str
    """JSON on one line, or empty."""


def example_calls(schema: Schema, base: str, *, read_only: bool) -> list[ExampleCall]:
    """Calls for a first batch on a table of ``schema``: a create where possible, and a list."""
    tables = list(schema.tables.values())
    writable = [table for table in tables if table.key and not (table.read_only or read_only)]
    # One without references can be created without knowing what is there.
    plain = [table for table in writable if not table.foreign_keys] or writable
    calls = []
    if plain:
        body = encode_json(_row(plain[0])).decode()
        calls.append(ExampleCall("POST", _path(plain[0], base), body))
    listed = plain or tables
    if listed:
        calls.append(ExampleCall("GET", f"{_path(listed[0], base)}?limit=3", ""))
    return calls or [ExampleCall("GET", "/healthz", "")]


def example_batch(schema: Schema, base: str, *, read_only: bool) -> str:
    """The example's calls as the body of a batch."""
    parts = "".join(
        f"--{BOUNDARY}\n\n{call.method} {call.target} HTTP/1.1\n{_rest(call)}"
        for call in example_calls(schema, base, read_only=read_only)
    )
    return f"{parts}--{BOUNDARY}--\n"


def example_http_file(schema: Schema, base: str, address: str, *, read_only: bool) -> str:
    """The example's calls as an ``.http`` file."""
    return "\n".join(
        f"###\n{call.method} {address}{call.target}\n{_rest(call)}"
        for call in example_calls(schema, base, read_only=read_only)
    )


def _rest(call: ExampleCall) -> str:
    return f"Content-Type: application/json\n\n{call.body}\n" if call.body else ""


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
