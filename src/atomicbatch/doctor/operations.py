"""Operations: the calls to try, from the app's OpenAPI document or from an ``.http`` file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from atomicbatch.asgi.dispatch import Dispatcher, Target
from atomicbatch.asgi.types import App, Scope
from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.doctor.samples import Samples
from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header

logger = logging.getLogger("atomicbatch")
_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
# Where Litestar has it is the second.
_DOCUMENTS = (b"/openapi.json", b"/schema/openapi.json")
_FORM = "application/x-www-form-urlencoded"


class Operation(NamedTuple):
    """One call to try."""

    call: Call
    path: str
    """As people know it: the template of the OpenAPI document, or the call's own path."""
    name: str = ""
    """What an ``.http`` file calls it, or empty."""
    obstacle: str = ""
    """Why it cannot be tried, or empty."""
    made_up: bool = False
    """Nobody has written the call like this."""


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
    return list(_operations(document))


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


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    samples = Samples(document)
    for path, item in document.get("paths", {}).items():
        item = samples.resolve(item)
        for method in _METHODS:
            if method in item:
                shared, own = item.get("parameters", ()), item[method].get("parameters", ())
                yield _operation(samples, method.upper(), path, item[method], [*shared, *own])


def _operation(
    samples: Samples, method: str, path: str, operation: Mapping[str, Any], parameters: list[Any]
) -> Operation:
    filled, query, headers, cookies = path, [], [], []
    # An operation's own parameter stands for one of its path's that has the same name.
    resolved = [samples.resolve(parameter) for parameter in parameters]
    for parameter in {(one.get("in"), one.get("name")): one for one in resolved}.values():
        place, name = parameter.get("in"), str(parameter.get("name"))
        told = "example" in parameter or parameter.get("examples")
        if not (parameter.get("required") or told or place == "path"):
            continue
        value = _parameter(samples, parameter)
        if place == "path":
            # FastAPI writes {name}, Starlette and Litestar may write {name:type}.
            start, end = filled.find("{" + name), filled.find("}", filled.find("{" + name))
            if start >= 0:
                filled = filled[:start] + quote(_plain(value), safe="") + filled[end + 1 :]
        elif place == "query":
            values = value if isinstance(value, list) else [value]
            query += [(name, _plain(one)) for one in values]
        elif place == "header":
            headers.append((name.lower().encode(), _plain(value).encode()))
        elif place == "cookie":
            cookies.append(f"{name}={quote(_plain(value))}")
    if cookies:
        headers.append((b"cookie", "; ".join(cookies).encode()))
    body, content_type, obstacle = _body(samples, operation)
    if content_type:
        headers.append((b"content-type", content_type))
    target = quote(filled, safe="/%{}!$&'()*+,;=:@~-._").encode()
    call = Call(method, target, urlencode(query).encode(), tuple(headers), body)
    return Operation(call, path, obstacle=obstacle, made_up=True)


def _parameter(samples: Samples, parameter: Mapping[str, Any]) -> Any:
    if given := samples.given(parameter):
        return given[0]
    for media in parameter.get("content", {}).values():
        return json.dumps(samples.value(media.get("schema")))
    return samples.value(parameter.get("schema"))


def _body(samples: Samples, operation: Mapping[str, Any]) -> tuple[bytes, bytes, str]:
    """The body, its media type, and why it cannot be made."""
    request = samples.resolve(operation.get("requestBody"))
    content = request.get("content", {})
    if not content:
        return b"", b"", ""
    for kind, media in content.items():
        plain = kind.partition(";")[0].strip().lower()
        if plain == "application/json" or plain.endswith("+json"):
            value = _medium(samples, media)
            return json.dumps(value).encode(), kind.encode(), ""
        if plain == _FORM:
            value = _medium(samples, media)
            pairs = value.items() if isinstance(value, Mapping) else ()
            return urlencode([(n, _plain(v)) for n, v in pairs]).encode(), kind.encode(), ""
    if not request.get("required"):
        return b"", b"", ""
    return b"", b"", f"no body of type {next(iter(content))} can be made up"


def _medium(samples: Samples, media: Any) -> Any:
    given = samples.given(media)
    return given[0] if given else samples.value(samples.resolve(media).get("schema"))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
