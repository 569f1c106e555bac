"""OpenAPI: the document at ``/openapi.json``, made from the schema (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from atomicbatch.limits import Limits
from atomicbatch.server.pages.openapi_batch import batch_path_item
from atomicbatch.server.pages.openapi_schemas import PROBLEM, row_schema, write_schema
from atomicbatch.server.schema.tables import Schema, Table

Document = dict[str, Any]

_FILTER_HELP = (
    "Filters: `column=operator.value` with eq, neq, gt, gte, lt, lte, like, ilike, in, is;"
    " `not.` before the operator negates; `or=(a.eq.1,b.gt.2)` and `and=(...)` join."
)


def openapi_document(
    schema: Schema, *, batch_path: str, limits: Limits, read_only: bool, version: str
) -> Document:
    """
    Describe everything that the server answers.

    Args:
        schema: What is served.
        batch_path: Where the batch endpoint is; the tables are beside it.
        limits: Named in the description of the batch endpoint.
        read_only: Describe only operations that read.
        version: The server's.
    """
    base = batch_path.rpartition("/")[0]
    paths: Document = {batch_path: batch_path_item(schema, base, limits, read_only=read_only)}
    schemas: Document = {"rfc9457.Problem": PROBLEM}
    for table in schema.tables.values():
        writable = not (read_only or table.read_only)
        name = _component(table.name)
        schemas[name] = row_schema(table)
        if writable:
            schemas[f"{name}.create"] = write_schema(table, required=True)
            schemas[f"{name}.change"] = write_schema(table, required=False)
        path = f"{base}/{quote(table.name, safe='')}"
        paths[path] = _collection(table, name, writable=writable)
        if table.key:
            paths[f"{path}/{{key}}"] = _item(table, name, writable=writable)
    paths[base] = {
        "get": {
            "operationId": "resources",
            "tags": ["server"],
            "summary": "The tables and views",
            "responses": _responses((200, "The resources", _RESOURCES, ())),
        }
    }
    paths |= {"/healthz": _probe("The process answers"), "/readyz": _probe("The database answers")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"atomicbatch: {schema.database}",
            "version": version,
            "description": "Every table and view as a resource, and atomic batches of calls."
            " HEAD is served wherever GET is; OPTIONS answers with Allow.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {
                "Problem": {
                    "description": "What is wrong (RFC 9457)",
                    "content": {"application/problem+json": {"schema": _ref("rfc9457.Problem")}},
                }
            },
        },
    }


def _component(name: str) -> str:
    """
    A table's name as a key of components: letters, digits, ``-`` and ``_``; others between dots.

    The dot behind the number keeps ``éb`` apart from the one character U+E9B.
    """
    return "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else f".{ord(c):x}." for c in name
    )


def _ref(name: str, kind: str = "schemas") -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


def _query(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str) -> Document:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


_PARAMETERS: Document = {
    "select": _query("select", "Columns, `name` or `alias:name`", {"type": "string"}),
    "order": _query(
        "order", "`column[.asc|.desc][.nullsfirst|.nullslast]`, ...", {"type": "string"}
    ),
    "limit": _query("limit", "Most rows", {"type": "integer", "minimum": 0}),
    "offset": _query("offset", "Rows to skip", {"type": "integer", "minimum": 0}),
    "or": _query("or", "`(a.eq.1,b.gt.2)`", {"type": "string"}),
    "and": _query("and", "`(a.eq.1,b.gt.2)`", {"type": "string"}),
    "on_conflict": _query(
        "on_conflict", "The unique columns that make a row a duplicate", {"type": "string"}
    ),
    "Prefer": _header(
        "Prefer",
        "return=minimal, return=representation, count=exact, resolution=merge-duplicates,"
        " resolution=ignore-duplicates, missing=default, max-affected=N, handling=strict",
    ),
    "If-Match": _header("If-Match", "412 unless the row has this ETag"),
    "If-None-Match": _header("If-None-Match", "304 (or 412 on writes) if it has this ETag"),
}


_RESOURCES: Document = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "href": {"type": "string", "format": "uri-reference"},
            "key": {"type": "array", "items": {"type": "string"}},
            "read_only": {"type": "boolean"},
        },
        "required": ["name", "href", "key", "read_only"],
    },
}
# These names have other meanings in a query: such a column is filtered within and=(...).
_NO_COLUMNS = frozenset(name for name, entry in _PARAMETERS.items() if entry["in"] == "query") | {
    "not.and",
    "not.or",
}
_APPLIED = "Preference-Applied"
_HEADERS: Document = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in {
        "ETag": "Changes whenever the answer does; strong",
        "Location": "The created row",
        "Content-Range": "With count=exact: `0-9/57`, `*/0`",
        _APPLIED: "The part of Prefer that was honoured",
    }.items()
}


def _parameters(*names: str) -> list[Document]:
    return [_ref(name, "parameters") for name in names]


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def _responses(*successes: tuple[int, str, Document | None, tuple[str, ...]]) -> Document:
    """Each success as (status, description, schema, names of headers); all else is a problem."""
    responses: Document = {}
    for status, description, schema, headers in successes:
        responses[str(status)] = {"description": description}
        if headers:
            responses[str(status)]["headers"] = {name: _ref(name, "headers") for name in headers}
        if schema is not None:
            responses[str(status)]["content"] = _json(schema)
    return responses | {"default": _ref("Problem", "responses")}


def _body(schema: Document) -> Document:
    return {"required": True, "content": _json(schema)}


def _many(name: str) -> Document:
    return {"type": "array", "items": _ref(name)}


def _collection(table: Table, name: str, *, writable: bool) -> Document:
    filters = [
        _query(column.name, "operator.value", {"type": "string"})
        for column in table.columns
        if column.name not in _NO_COLUMNS
    ]
    read: Document = {
        "tags": [table.name],
        "summary": f"Rows of {table.name}",
        "description": _FILTER_HELP,
        "parameters": filters
        + _parameters("select", "order", "limit", "offset", "or", "and", "Prefer", "If-None-Match"),
        "responses": _responses(
            (200, "The rows", _many(name), ("ETag", "Content-Range", _APPLIED)),
            (304, "Unchanged", None, ("ETag",)),
        ),
    }
    item: Document = {"get": {**read, "operationId": f"list.{name}"}}
    if not writable:
        return item
    row_or_rows: Document = {"oneOf": [_ref(name), _many(name)]}
    create = _ref(f"{name}.create")
    item["post"] = {
        "operationId": f"create.{name}",
        "tags": [table.name],
        "summary": f"Create a row of {table.name}, or many",
        "parameters": _parameters("select", "on_conflict", "Prefer"),
        "requestBody": _body({"oneOf": [create, {"type": "array", "items": create}]}),
        "responses": _responses(
            (201, "Created", row_or_rows, ("Location", "ETag", _APPLIED)),
            (
                200,
                "All existed and were merged or ignored",
                row_or_rows,
                ("Location", "ETag", _APPLIED),
            ),
        ),
    }
    some = filters + _parameters("select", "or", "and", "Prefer")
    item["patch"] = {
        "operationId": f"changeMany.{name}",
        "tags": [table.name],
        "summary": f"Change all rows of {table.name} that match; needs a filter",
        "description": _FILTER_HELP,
        "parameters": some,
        "requestBody": _body(_ref(f"{name}.change")),
        "responses": _responses(
            (200, "The changed rows", _many(name), (_APPLIED,)), (204, "Changed", None, (_APPLIED,))
        ),
    }
    item["delete"] = {
        "operationId": f"deleteMany.{name}",
        "tags": [table.name],
        "summary": f"Delete all rows of {table.name} that match; needs a filter",
        "description": _FILTER_HELP,
        "parameters": some,
        "responses": _responses(
            (200, "The deleted rows", _many(name), (_APPLIED,)), (204, "Deleted", None, (_APPLIED,))
        ),
    }
    return item


def _item(table: Table, name: str, *, writable: bool) -> Document:
    key = ",".join(column.name for column in table.key)
    row = _ref(name)
    common: Document = {"tags": [table.name]}
    select = _parameters("select")
    conditions = _parameters("If-Match", "If-None-Match")
    item: Document = {
        "parameters": [
            {
                "name": "key",
                "in": "path",
                "required": True,
                "description": f"{key}; the parts of a composite key are separated by commas",
                "schema": {"type": "string"},
            }
        ],
        "get": {
            **common,
            "operationId": f"read.{name}",
            "summary": f"One row of {table.name}",
            "parameters": select + conditions,
            "responses": _responses(
                (200, "The row", row, ("ETag",)), (304, "Unchanged", None, ("ETag",))
            ),
        },
    }
    if not writable:
        return item
    prefer = _parameters("Prefer")
    item["put"] = {
        **common,
        "operationId": f"put.{name}",
        "summary": f"Create or replace one row of {table.name}",
        "parameters": select + conditions + prefer,
        "requestBody": _body(_ref(f"{name}.change")),
        "responses": _responses(
            (200, "Replaced", row, ("ETag", _APPLIED)),
            (201, "Created", row, ("Location", "ETag", _APPLIED)),
            (204, "Replaced", None, ("ETag", _APPLIED)),
        ),
    }
    item["patch"] = {
        **common,
        "operationId": f"change.{name}",
        "summary": f"Change one row of {table.name}",
        "parameters": select + conditions + prefer,
        "requestBody": _body(_ref(f"{name}.change")),
        "responses": _responses(
            (200, "The row", row, ("ETag", _APPLIED)), (204, "Changed", None, ("ETag", _APPLIED))
        ),
    }
    item["delete"] = {
        **common,
        "operationId": f"delete.{name}",
        "summary": f"Delete one row of {table.name}",
        "parameters": conditions + prefer,
        "responses": _responses(
            (200, "The deleted row", row, (_APPLIED,)), (204, "Deleted", None, (_APPLIED,))
        ),
    }
    return item


def _probe(summary: str) -> Document:
    return {
        "get": {
            "operationId": summary.replace(" ", "-").lower(),
            "tags": ["server"],
            "summary": summary,
            "responses": _responses((200, "It does", {"type": "object"}, ())),
        }
    }
