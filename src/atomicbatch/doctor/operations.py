"""Operations: the calls to try, from the app's OpenAPI document or from an ``.http`` file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atomicbatch.asgi.dispatch import Dispatcher, Target
from atomicbatch.asgi.types import App, Scope
from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header
from atomicbatch.openapi.calls import Operation, operations_of

logger = logging.getLogger("atomicbatch")
# Where Litestar has it is the second.
_DOCUMENTS = (b"/openapi.json", b"/schema/openapi.json")


def from_http_file(path: Path, variables: Mapping[str, str]) -> list[Operation]:
    """
    Take the calls of an ``.http`` file.

    Raises:
        DoctorError: The file is not understood.
    """
    try:
        file = read_http_file(path, variables)
    except HttpFileError as error:
        raise DoctorError(str(error)) from error
    host = urlsplit(file.origin).netloc.encode() if file.origin else b""
    operations = []
    for call, name in zip(file.calls, file.names, strict=True):
        if host and not any(own == b"host" for own, _ in call.headers):
            call = call._replace(headers=(*call.headers, (b"host", host)))
        operations.append(Operation(call, call.path.decode("ascii", "replace"), name))
    return operations


async def from_openapi(app: App, scope: Scope) -> list[Operation]:
    """
    Make a call for each operation of the app's own OpenAPI document.

    Args:
        app: FastAPI's has the document itself; others are asked for it.
        scope: Of the request by which they are asked.

    Raises:
        DoctorError: There is no such document.
    """
    document = _own_document(app) or await _asked_document(app, scope)
    if document is None:
        raise DoctorError(
            "the app has no OpenAPI document (/openapi.json, /schema/openapi.json); write the "
            "calls into an .http file and give it by --http"
        )
    return list(operations_of(document))


def with_headers(operation: Operation, headers: Mapping[str, str]) -> Call:
    """
    Add headers to an operation's call, and those that every request has.

    What a file says stands, as in a batch whose outer request has such headers; what we have made
    up does not.
    """
    call = operation.call
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    merged: list[Header] = []
    first, second = (given, call.headers) if operation.made_up else (call.headers, given)
    for header in (*first, *second, (b"host", b"localhost"), (b"accept", b"*/*")):
        if header in first or not any(name == header[0] for name, _ in merged):
            merged.append(header)
    if call.body:
        merged = [header for header in merged if header[0] != b"content-length"]
        merged.append((b"content-length", b"%d" % len(call.body)))
    return call._replace(headers=tuple(merged))


def _own_document(app: Any) -> Mapping[str, Any] | None:
    make = getattr(app, "openapi", None)
    if not callable(make):
        return None
    try:
        document = make()
    except Exception as error:
        raise DoctorError(f"the app's OpenAPI document cannot be made: {error}") from error
    return document if isinstance(document, Mapping) else None


async def _asked_document(app: App, scope: Scope) -> Mapping[str, Any] | None:
    for path in _DOCUMENTS:
        dispatcher = Dispatcher(Target(app, "", False), scope, Limits())
        headers = ((b"host", b"localhost"), (b"accept", b"application/json"))
        try:
            reply = await dispatcher.perform(Call("GET", path, b"", headers, b""))
            document = json.loads(reply.body) if reply.status == 200 else None
        except (AtomicBatchError, ValueError):
            logger.debug("no OpenAPI document at %r", path, exc_info=True)
            continue
        if isinstance(document, Mapping) and "paths" in document:
            return document
    return None
