"""Calls: one for each operation of an OpenAPI document, with plausible values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from atomicbatch.model import Call
from atomicbatch.openapi.samples import Samples

_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
_FORM = "application/x-www-form-urlencoded"


class Operation(NamedTuple):
    """One call to try."""

    call: Call
    path: str
    """For people: the template of the OpenAPI document, or the call's own path."""
    name: str = ""
    """Its name in an ``.http`` file, or empty."""
    obstacle: str = ""
    """Why it cannot be tried, or empty."""
    made_up: bool = False
    """The call was generated; nobody wrote it."""


def operations_of(document: Mapping[str, Any]) -> Iterator[Operation]:
    """
    Make a call for each operation of a document, in its order.

    An operation whose description is broken has an obstacle that says so.
    """
    samples = Samples(document)
    paths = document.get("paths")
    for path, item in paths.items() if isinstance(paths, Mapping) else ():
        item = samples.resolve(item)
        for method in _METHODS:
            if method not in item:
                continue
            try:
                if _is_batch(item[method]):
                    continue
                shared, own = item.get("parameters", ()), item[method].get("parameters", ())
                yield _operation(samples, method.upper(), path, item[method], [*shared, *own])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                obstacle = f"its description in the OpenAPI document is broken ({error})"
                call = Call(method.upper(), quote(str(path)).encode(), b"", (), b"")
                yield Operation(call, str(path), obstacle=obstacle, made_up=True)


def _is_batch(operation: Mapping[str, Any]) -> bool:
    """Whether an operation is a batch endpoint, which cannot be called in a batch."""
    body = operation.get("requestBody")
    content = body.get("content") if isinstance(body, Mapping) else None
    if not content:
        return False
    return all(kind.startswith("multipart/mixed") for kind in content)


def _operation(
    samples: Samples, method: str, path: str, operation: Mapping[str, Any], parameters: list[Any]
) -> Operation:
    filled, query, headers, cookies = path, [], [], []
    # An operation's own parameter replaces one of its path's with the same name.
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
    """The body, its media type, and why it cannot be made if it cannot."""
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
