"""Operations: the calls to try, from the app's OpenAPI document or from an ``.http`` file."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.scope import Target
from atomicbatch.asgi.types import App, Scope
from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header, Reply
from atomicbatch.openapi.calls import Operation, operations_of

logger = logging.getLogger("atomicbatch")
DOCUMENTS = ("/openapi.json", "/schema/openapi.json")
"""Where frameworks have their documents, unless told otherwise. The second is Litestar's."""
_BY_FILE = "; write the calls into an .http file and pass it with --http"
# How deep apps and middleware may be nested.
_DEEPEST = 20


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


async def from_openapi(
    app: App,
    scope: Scope,
    *,
    prefix: str | None = None,
    paths: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> list[Operation]:
    """
    Make a call for each operation of an ASGI app's own OpenAPI documents.

    Args:
        app: FastAPI apps, and those mounted in them, have the document as an attribute. Others
            are sent a request for it.
        scope: The ASGI scope of that request.
        prefix: Where the document's paths begin, such as ``/api``; None: find out.
        paths: Where the app may have its document; empty: find out.
        headers: Sent with the request.

    Raises:
        DoctorError: There is no such document.
    """
    documents = [] if paths else [*_own_documents(app, "")]
    if documents:
        return operations_in(documents, {*_routes(app, "")}, prefix)
    paths = paths or DOCUMENTS
    for one in paths:
        dispatcher = Dispatcher(Target(app, "", False), scope, Limits())
        try:
            reply = await dispatcher.perform(request_for(one, headers or {}))
        except AtomicBatchError:
            logger.debug("no OpenAPI document at %r", one, exc_info=True)
            continue
        if (document := document_of(reply)) is not None:
            return operations_in([("", document)], {*_routes(app, "")}, prefix)
    raise no_document(paths)


def request_for(path: str, headers: Mapping[str, str]) -> Call:
    """Make the call that asks for a document."""
    path, _, query = path.partition("?")
    accepted = (b"accept", b"application/json, application/vnd.oai.openapi+json;q=0.9")
    call = Call("GET", quote(path, safe="/%").encode(), query.encode(), (accepted,), b"")
    return with_headers(Operation(call, path), headers)


def document_of(reply: Reply) -> Mapping[str, Any] | None:
    """Read the answer to such a call; None: it is no document."""
    try:
        document = json.loads(reply.body) if reply.status == 200 else None
    except ValueError:
        return None
    return document if isinstance(document, Mapping) and "paths" in document else None


def no_document(paths: Iterable[str]) -> DoctorError:
    """Say that there is none at any of these paths, and how to go on."""
    return DoctorError(
        f"the app has no OpenAPI document ({', '.join(paths)}): name its path with --openapi, or "
        f"write the calls into an .http file and pass it with --http"
    )


def operations_in(
    documents: Iterable[tuple[str, Mapping[str, Any]]], routes: set[str], prefix: str | None
) -> list[Operation]:
    """
    Make a call for each operation of some documents.

    Args:
        documents: Each with the path that its app is mounted at.
        routes: The paths that the app knows, in Starlette's form.
        prefix: Where the documents' paths begin; None: find out.
    """
    found: dict[tuple[str, str], Operation] = {}
    for mount, document in documents:
        operations = [*operations_of(document)]
        begin = mount + _prefix(document, operations, mount, routes) if prefix is None else prefix
        for operation in operations:
            moved = _moved(operation, begin.rstrip("/"))
            found.setdefault((moved.call.method, moved.path), moved)
    return list(found.values())


def with_headers(operation: Operation, headers: Mapping[str, str]) -> Call:
    """
    Add headers to an operation's call, and those that every request has.

    A header that a file has stays, as in a batch whose outer request has such headers. A header
    that we have generated is replaced.
    """
    call = operation.call
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    first, second = (given, call.headers) if operation.made_up else (call.headers, given)
    merged: list[Header] = [*first]
    for header in (*second, (b"host", b"localhost"), (b"accept", b"*/*")):
        if not any(name == header[0] for name, _ in merged):
            merged.append(header)
    if call.body:
        merged = [header for header in merged if header[0] != b"content-length"]
        merged.append((b"content-length", b"%d" % len(call.body)))
    return call._replace(headers=tuple(merged))


def _moved(operation: Operation, prefix: str) -> Operation:
    path = quote(prefix).encode() + operation.call.path
    return operation._replace(call=operation.call._replace(path=path), path=prefix + operation.path)


def _prefix(
    document: Mapping[str, Any], operations: Iterable[Operation], mount: str, routes: set[str]
) -> str:
    """
    Find the prefix that the paths of a document lack.

    The document may belong to an app that is mounted in this one, or name a server below a path.
    """
    paths = {operation.path for operation in operations}
    counts = Counter({"": 0})
    for route in routes:
        for path in paths:
            if route.endswith(path) and route.startswith(mount):
                counts[route[len(mount) : len(route) - len(path)]] += 1
    best, count = max(counts.items(), key=lambda item: item[1])
    if count > counts[""]:
        return best
    if counts[""] or not isinstance(servers := document.get("servers"), list):
        return ""
    # The routes tell nothing, so the document's own word counts.
    urls = (one.get("url") for one in servers if isinstance(one, Mapping))
    return next((urlsplit(url).path.rstrip("/") for url in urls if isinstance(url, str)), "")


def _routes(app: Any, prefix: str, depth: int = 0) -> Iterator[str]:
    """The routes' paths of an app and of the apps mounted in it, in Starlette's form."""
    app = _unwrapped(app)
    for route in getattr(app, "routes", None) or ():
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
        if not isinstance(path, str):
            continue
        mounted = getattr(route, "app", None) if hasattr(route, "routes") else None
        if mounted is None:
            yield prefix + path
        elif depth < _DEEPEST:
            path = path.removesuffix("/{path}").rstrip("/")
            yield from _routes(mounted, prefix + path, depth + 1)


def _own_documents(app: Any, mount: str, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """
    Yield the documents that an app and the apps mounted in it make, each with its mount.

    Raises:
        DoctorError: A document cannot be made.
    """
    app = _unwrapped(app)
    make = getattr(app, "openapi", None)
    if callable(make):
        try:
            document = make()
        except Exception as error:
            raise DoctorError(
                f"the OpenAPI document of the app cannot be made: {type(error).__name__}: {error}"
                + _BY_FILE
            ) from error
        if isinstance(document, Mapping):
            yield mount, document
    for route in getattr(app, "routes", None) or ():
        mounted = getattr(route, "app", None)
        path = getattr(route, "path", None)
        if hasattr(route, "routes") and isinstance(path, str) and depth < _DEEPEST:
            yield from _own_documents(mounted, mount + path.rstrip("/"), depth + 1)


def _unwrapped(app: Any) -> Any:
    """Return the app with the routes, which middleware keeps as ``app``."""
    for _ in range(_DEEPEST):
        if hasattr(app, "routes") or not hasattr(app, "app"):
            break
        app = app.app
    return app
