"""
Refusals: headers and bodies that ask for what this server does not do.

A client that narrows or guards a write by a header must not get the write without that. So a
header that we know and do not support is refused before anything is read or written. An unknown
header is ignored, as HTTP requires.
"""

from __future__ import annotations

from atomicbatch.model import Call, Headers
from atomicbatch.server.database.faults import RowFault

_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

_OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
_ALWAYS = {
    b"accept-profile": "only the database's default schema is served",
    b"content-profile": "only the database's default schema is served",
    b"batch-references": "references to earlier replies are not built yet",
    b"batch-if": "dry runs are not built yet",
}
_ON_WRITES = {
    b"idempotency-key": "a request that is sent twice runs twice",
    b"repeatability-request-id": "a request that is sent twice runs twice",
    b"range": "filters choose the rows of a write",
    b"content-range": "a body is always whole",
    b"if": "there are no locks; use If-Match",
}
# PostgREST's way to say "fail unless exactly one row is changed".
_ONE_OBJECT = b"application/vnd.pgrst.object"
_WATCHED = frozenset({*_OVERRIDES, *_ALWAYS, *_ON_WRITES, b"accept", b"if-unmodified-since"})


def refuse_body(call: Call) -> None:
    """
    Refuse a body where the method has none.

    Raises:
        RowFault: 400, with the name of the method.
    """
    if call.body and call.method in _NO_BODY:
        # Other servers drop it. Most often it is the next request, and the delimiter before that
        # is broken.
        detail = f"{call.method} takes no body, but this call has one"
        raise RowFault(400, "unexpected-body", detail)


def refuse_headers(method: str, headers: Headers) -> None:
    """
    Refuse a call whose headers ask for what this server does not do.

    Raises:
        RowFault: 400, with the name of the header.
    """
    for name, value in headers:
        if name in _WATCHED:
            _check(method, headers, name, value)


def are_watched(headers: Headers) -> bool:
    """Whether ``refuse_headers`` may refuse them, with one method or another."""
    return any(
        name in _WATCHED and (name != b"accept" or _ONE_OBJECT in value.lower())
        for name, value in headers
    )


def _check(method: str, headers: Headers, name: bytes, value: bytes) -> None:
    writes = method not in _READS
    why = _ALWAYS.get(name) or (_ON_WRITES.get(name) if writes else None)
    if name in _OVERRIDES and value.upper() != method.encode():
        why = f"what counts is the request's own method, {method}"
    elif name == b"accept" and writes and _ONE_OBJECT in value.lower():
        why = "this server answers with arrays; use Prefer: max-affected=1"
    elif name == b"if-unmodified-since" and writes and b"if-match" not in dict(headers):
        # RFC 9110, section 13.1.4: next to If-Match it is ignored.
        detail = "If-Unmodified-Since: rows have no modification date; use If-Match"
        raise RowFault(400, "invalid-precondition", detail)
    if why is not None:
        said = "Accept: " + _ONE_OBJECT.decode() if name == b"accept" else name.decode().title()
        raise RowFault(400, "not-supported", f"{said} is not supported: {why}")
