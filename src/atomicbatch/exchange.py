"""
The outer HTTP exchange, without I/O: request -> Batch, Outcome -> response.

Every endpoint (ASGI, the server) asks in this order: :func:`check_head` before it reads the body,
:func:`read_request`, then the engine, then :func:`write_response`; :func:`refusal` where one of
them raised.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from atomicbatch import codings
from atomicbatch.errors import (
    AtomicBatchError,
    LimitError,
    MalformedError,
    MediaTypeError,
    UnknownOutcomeError,
    UnsupportedError,
)
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Header, Headers, Outcome
from atomicbatch.problems import TITLES, error_reply, outcome_header, problem_reply, replies_for
from atomicbatch.wire.batch import read_batch, write_replies
from atomicbatch.wire.inherit import BATCH_PREFERENCES, read_preferences
from atomicbatch.wire.reply import is_writable

__all__ = [
    "Response",
    "body_too_long",
    "check_head",
    "http_date",
    "is_writable",
    "nested_batch",
    "read_request",
    "refusal",
    "write_response",
]

# Below this a compressed response saves no packet worth the time.
_MIN_COMPRESSED_BYTES = 1024
_ALLOW: Header = (b"allow", b"POST, OPTIONS")
_ACCEPT_POST: Header = (b"accept-post", b"multipart/mixed")
_ACCEPT_ENCODING: Header = (b"accept-encoding", ", ".join(codings.supported()).encode())
_VARY: Header = (b"vary", b"accept-encoding")
_NOT_STARTED: Header = (b"batch-outcome", b"not-started")
UNKNOWN: Header = (b"batch-outcome", b"unknown")
"""Nobody knows what COMMIT has come to."""


class Response(NamedTuple):
    """The outer response, Content-Length included."""

    status: int
    headers: Headers
    body: bytes


def check_head(method: str, headers: Headers, limits: Limits) -> Response | None:
    """
    Answer what can be answered without the body: OPTIONS, and what is refused by its head alone.

    Returns:
        The response, or None: read the body (at most ``limits.max_body_bytes``) and go on.
    """
    if method == "OPTIONS":
        return _description(limits)
    if method != "POST":
        slug = "method-not-allowed"
        reply = problem_reply(405, slug, TITLES[slug], "send the batch with POST")
        return _response(405, (*reply.headers, _ALLOW, _NOT_STARTED), reply.body)
    try:
        check_wishes(headers)
        _content_type(headers)
        codings.content_codings(_values(headers, b"content-encoding"))
        for length in _values(headers, b"content-length"):
            # Anything but digits is the HTTP server's business; 20 digits are more than 2**64.
            if length.isdigit() and (len(length) > 20 or int(length) > limits.max_body_bytes):
                raise body_too_long(limits)
    except AtomicBatchError as error:
        return refusal(error)
    return None


def read_request(
    headers: Headers,
    query: bytes,
    body: bytes,
    *,
    limits: Limits,
    batch_paths: Collection[bytes],
    not_overridable: Collection[bytes] = (),
    consumed_query: Collection[str] = (),
) -> Batch:
    """
    Undo the body's Content-Encoding (SPEC 2.7) and read the batch.

    Args:
        headers: The outer request's.
        query: The outer request's, without the ``?``.
        body: The outer request's, as it came.
        limits: Bounds on the batch.
        batch_paths: Where the batch endpoint is; a call aimed there is refused.
        not_overridable: More header names (lower-case) that a call's own headers cannot change.
        consumed_query: Names in the outer query that calls do not inherit.

    Raises:
        WireError: This is no batch that we run.
    """
    check_wishes(headers)
    content_type = _content_type(headers)
    applied = codings.content_codings(_values(headers, b"content-encoding"))
    if len(body) > limits.max_body_bytes:
        raise body_too_long(limits)
    return read_batch(
        codings.decode(body, applied, limits.max_body_bytes) if applied else body,
        content_type=content_type,
        headers=headers,
        query=query,
        batch_paths=batch_paths,
        limits=limits,
        not_overridable=not_overridable,
        consumed_query=consumed_query,
    )


# What the contract has a name for and this version does not do (SPEC 6). Ignored, the batch would
# be kept where it should only be tried, or run twice where it should run once.
_UNSUPPORTED = {
    b"idempotency-key": "Idempotency-Key: a batch that is sent twice runs twice",
    b"repeatability-request-id": "Repeatability-Request-ID: a batch that is sent twice runs twice",
    b"batch-references": "Batch-References: calls cannot refer to earlier replies",
    b"batch-if": "Batch-If: there are no dry runs",
}
_REFUSED_PREFERENCES = frozenset({b"tx", b"all-errors", b"diff"})
_OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})


def check_wishes(headers: Headers) -> None:
    """
    Refuse what a batch may be asked for by its headers and does not do.

    Raises:
        UnsupportedError: The outer request has one of those headers, or a preference about the
            batch as a whole that would decide what is kept; with ``Prefer: handling=strict``, any
            preference about the batch.
    """
    wishes: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in _UNSUPPORTED:
            raise UnsupportedError(f"{_UNSUPPORTED[name]}. Send the batch without that header")
        if name in _OVERRIDES and value.upper() != b"POST":
            raise UnsupportedError(f"{name.decode().title()}: a batch is sent with POST")
        if name == b"prefer":
            wishes += read_preferences(value)
    strict = (b"handling", b"strict") in wishes
    for wish, _ in wishes:
        if wish in _REFUSED_PREFERENCES or (strict and wish in BATCH_PREFERENCES):
            raise UnsupportedError(f"Prefer: {wish.decode()} is not supported")


def write_response(
    request_headers: Headers, batch: Batch, outcome: Outcome, *, rolled_back_status: int = 200
) -> Response:
    """
    Write the response of a batch that ran (SPEC 5.1, 5.2, 5.5).

    Args:
        request_headers: The outer request's, for its Accept-Encoding.
        batch: What ran.
        outcome: What became of it.
        rolled_back_status: The response's status when the batch was rolled back.
    """
    content_type, body = write_replies(
        batch.calls, replies_for(batch, outcome), date=http_date(int(time.time()))
    )
    headers: Headers = (
        (b"content-type", content_type),
        (b"batch-outcome", outcome_header(outcome)),
        _VARY,
    )
    if outcome.attempts > 1:
        headers += ((b"batch-attempts", b"%d" % outcome.attempts),)
    accepted = _values(request_headers, b"accept-encoding")
    if accepted:
        coding, identity = codings.choose(accepted)
        if coding is not None and (len(body) >= _MIN_COMPRESSED_BYTES or not identity):
            body = codings.encode(body, coding)
            headers += ((b"content-encoding", coding.encode()),)
    return _response(200 if outcome.committed else rolled_back_status, headers, body)


def refusal(error: AtomicBatchError) -> Response:
    """
    Write the response to a batch that did not run, or of which nobody knows (SPEC 5.3).

    After an UnknownOutcomeError it says ``Batch-Outcome: unknown`` and invites no retry.
    """
    reply = error_reply(error)
    unknown = isinstance(error, UnknownOutcomeError)
    headers: Headers = (
        *reply.headers,
        UNKNOWN if unknown else _NOT_STARTED,
    )
    if isinstance(error, MediaTypeError):
        headers += (_ACCEPT_POST, _ACCEPT_ENCODING)
    return _response(reply.status, headers, reply.body)


def nested_batch() -> Response:
    """Answer a call that has reached a batch endpoint, by a redirect of the app's own, say."""
    slug = "nested-batch"
    reply = problem_reply(400, slug, TITLES[slug], "this request is a call of a batch itself")
    return _response(400, (*reply.headers, _NOT_STARTED), reply.body)


def body_too_long(limits: Limits) -> LimitError:
    """Make the error for a body of more than ``limits.max_body_bytes``."""
    return LimitError(
        f"the body is longer than {limits.max_body_bytes} bytes",
        limit="max_body_bytes",
        maximum=limits.max_body_bytes,
    )


@lru_cache(maxsize=4)
def http_date(seconds: int) -> bytes:
    """Write a Unix time as an HTTP date; remembered, as it changes once a second only."""
    return formatdate(seconds, usegmt=True).encode()


@lru_cache(maxsize=4)
def _description(limits: Limits) -> Response:
    """Answer OPTIONS with the limits and features as JSON (SPEC 2.8)."""
    document = {
        "limits": dataclasses.asdict(limits),
        "features": {
            "atomic": True,
            "media_types": ["multipart/mixed"],
            "content_encodings": codings.supported(),
            "replay_on_conflict": True,
        },
    }
    headers = ((b"content-type", b"application/json"), _ALLOW, _ACCEPT_POST, _ACCEPT_ENCODING)
    return _response(200, headers, json.dumps(document).encode())


def _content_type(headers: Headers) -> bytes:
    values = _values(headers, b"content-type")
    if len(values) > 1:
        raise MalformedError("there are several Content-Type headers")
    if not values or values[0].partition(b";")[0].strip().lower() != b"multipart/mixed":
        raise MediaTypeError("the Content-Type of a batch is multipart/mixed")
    return values[0]


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for header, value in headers if header == name]


def _response(status: int, headers: Headers, body: bytes) -> Response:
    return Response(status, (*headers, (b"content-length", b"%d" % len(body))), body)
