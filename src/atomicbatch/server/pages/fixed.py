"""Fixed: the replies that need no database, made once for each schema."""

from __future__ import annotations

import msgspec

from atomicbatch import __version__
from atomicbatch.limits import Limits
from atomicbatch.model import Reply
from atomicbatch.server.pages.index import index_page, json_index
from atomicbatch.server.pages.openapi import openapi_document
from atomicbatch.server.schema.tables import Schema

_JSON = b"application/json"


def fixed_reply(content_type: bytes, body: bytes) -> Reply:
    """A reply that is the same each time."""
    return Reply(200, ((b"content-type", content_type),), body)


HEALTHY = fixed_reply(_JSON, b'{"status":"ok"}')
READY = fixed_reply(_JSON, b'{"status":"ready"}')


def fixed_replies(
    schema: Schema,
    *,
    base_path: str,
    batch_path: str,
    address: str,
    limits: Limits,
    read_only: bool,
) -> dict[bytes, Reply]:
    """
    Make the pages about a schema.

    Args:
        schema: What is served.
        base_path: Where its tables are.
        batch_path: Where the batch endpoint is.
        address: Where the server is, for the examples.
        limits: Told to whoever reads the pages.
        read_only: The pages show no writes.

    Returns:
        Replies to GET, by path.
    """
    document = openapi_document(
        schema, batch_path=batch_path, limits=limits, read_only=read_only, version=__version__
    )
    page = index_page(
        schema,
        base_path=base_path,
        batch_path=batch_path,
        address=address,
        limits=limits,
        read_only=read_only,
        version=__version__,
    )
    return {
        b"/": fixed_reply(b"text/html; charset=utf-8", page),
        b"/openapi.json": fixed_reply(_JSON, msgspec.json.encode(document)),
        b"/healthz": HEALTHY,
        base_path.encode(): fixed_reply(_JSON, json_index(schema, base_path=base_path)),
    }
