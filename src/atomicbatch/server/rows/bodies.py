"""Bodies: the JSON that a call sends."""

from __future__ import annotations

from typing import Any

import msgspec

from atomicbatch.model import Call
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.rows.preconditions import Conditions, is_json
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import decode_json

_decode_documents = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def json_body(resource: Resource, call: Call, conditions: Conditions) -> Any:
    """
    The body of a call, decoded; the values of JSON columns stay as they were written.

    Raises:
        RowFault: It is not JSON, or says that it is not.
    """
    _check_type(call, conditions)
    try:
        body = decode_json(call.body)
        return _with_documents(resource.documents, body, call.body) if resource.documents else body
    except msgspec.DecodeError as error:
        raise RowFault(400, "malformed-json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise RowFault(400, "malformed-json", "the body is nested too deeply") from None


def object_body(resource: Resource, call: Call, conditions: Conditions) -> dict[str, Any]:
    """
    The body of a call that has to be a JSON object.

    Raises:
        RowFault: It is not, or see ``json_body``.
    """
    body = json_body(resource, call, conditions)
    if body.__class__ is not dict:
        raise RowFault(400, "wrong-type", "the body must be a JSON object")
    found: dict[str, Any] = body
    return found


def _check_type(call: Call, conditions: Conditions) -> None:
    # A page of another site can make a browser send a body without a Content-Type, or with one
    # of forms and plain text, and is not asked first; with JSON's it is.
    if conditions.content_type is None:
        if call.body:
            detail = "the body needs a Content-Type: application/json"
            raise RowFault(415, "unsupported-media-type", detail)
    elif not is_json(conditions.content_type):
        raise RowFault(415, "unsupported-media-type", "the body must be application/json")
    if conditions.content_encoding not in (None, b"identity"):
        raise RowFault(415, "unsupported-media-type", "the body of a call cannot be compressed")


def _with_documents(columns: tuple[Column, ...], body: Any, text: bytes) -> Any:
    """The body with its JSON columns as they were written, to the last digit and blank."""
    if body.__class__ is dict:
        documents = _decode_documents(text)
        for column in columns:
            if column.name in body:
                # NULL where the column takes it; else null can only be the document.
                is_null = column.nullable and body[column.name] is None
                body[column.name] = None if is_null else documents[column.name]
    elif body.__class__ is list:
        texts = _decode_list(text)
        return [_with_documents(columns, row, bytes(texts[n])) for n, row in enumerate(body)]
    return body
