"""Response: what became of a batch -> the outer response; an error -> a refusal."""

from __future__ import annotations

import dataclasses
import json
import time
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from atomicbatch import codings
from atomicbatch.errors import AtomicBatchError, MediaTypeError, UnknownOutcomeError
from atomicbatch.exchange.formats import FORMATS
from atomicbatch.exchange.request import Head, read_head
from atomicbatch.limits import EndpointLimits, Limits, ServerLimits
from atomicbatch.model import Batch, Fate, Header, Headers, Outcome
from atomicbatch.problems import TITLES, error_reply, outcome_header, problem_reply, replies_for
from atomicbatch.wire.memo import Memo
from atomicbatch.wire.reply import reason_of

# Below this a compressed response saves no packet worth the time.
_MIN_COMPRESSED_BYTES = 1024
_ALLOW: Header = (b"allow", b"POST, OPTIONS")
_ACCEPT_POST: Header = (b"accept-post", b", ".join(FORMATS))
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

    @property
    def reason(self) -> str:
        """The reason phrase of the status, which may be one that nobody has named."""
        return reason_of(self.status)


SharedLimits = EndpointLimits | ServerLimits
"""Bounds on what all batches of an endpoint, or all clients of a server, hold together."""


def check_head(
    method: str, headers: Headers, limits: Limits, shared: SharedLimits | None = None
) -> Head | Response:
    """
    Check the head of a request to the batch endpoint.

    Args:
        method: The request's.
        headers: The request's, names in lower case.
        limits: Bounds on one batch.
        shared: The other bounds, which OPTIONS lists too.

    Returns:
        What is known of the request: read its body (at most ``limits.max_body_bytes``) and go on.
        Or the response, where no body is needed: to OPTIONS, and where the head is refused.
    """
    if method == "OPTIONS":
        return _description(limits, shared)
    if method != "POST":
        return _method_not_allowed()
    try:
        return read_head(headers, limits)
    except AtomicBatchError as error:
        return refusal(error)


def write_response(
    head: Head, batch: Batch, outcome: Outcome, *, rolled_back_status: int = 200
) -> Response:
    """
    Write the response of a batch that ran (SPEC 5.1, 5.2, 5.5).

    Args:
        head: Of the outer request: its format is the response's, and it has Accept-Encoding.
        batch: What ran.
        outcome: What became of it.
        rolled_back_status: The response's status when the batch was rolled back.
    """
    content_type, body = head.format.write(
        batch.calls, replies_for(batch, outcome), date=http_date(int(time.time()))
    )
    headers: Headers = (
        (b"content-type", content_type),
        (b"batch-outcome", outcome_header(outcome)),
        _VARY,
    )
    if outcome.attempts > 1:
        headers += ((b"batch-attempts", b"%d" % outcome.attempts),)
    accepted = [value for name, value in head.headers if name == b"accept-encoding"]
    if accepted:
        coding, identity = _choose_coding(b",".join(accepted))
        if coding is not None and (len(body) >= _MIN_COMPRESSED_BYTES or not identity):
            body = codings.encode(body, coding)
            headers += ((b"content-encoding", coding.encode()),)
    status = rolled_back_status if outcome.fate is Fate.ROLLED_BACK else 200
    return _response(status, headers, body)


# Clients of one kind accept the same each time.
_CHOSEN: Memo[bytes, tuple[str | None, bool]] = Memo(256, 256)


def _choose_coding(accepted: bytes) -> tuple[str | None, bool]:
    """Choose a coding by the value of Accept-Encoding; see :func:`codings.choose`."""
    chosen = _CHOSEN.get(accepted)
    return chosen or _CHOSEN.keep(accepted, codings.choose([accepted]), len(accepted))


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


def _method_not_allowed() -> Response:
    """Answer a method that the endpoint does not take (SPEC 2.8)."""
    slug = "method-not-allowed"
    reply = problem_reply(405, slug, TITLES[slug], "send the batch with POST")
    return _response(405, (*reply.headers, _ALLOW, _NOT_STARTED), reply.body)


@lru_cache(maxsize=4)
def http_date(seconds: int) -> bytes:
    """Write a Unix time as an HTTP date; remembered, as it changes once a second only."""
    return formatdate(seconds, usegmt=True).encode()


@lru_cache(maxsize=4)
def _description(limits: Limits, shared: SharedLimits | None) -> Response:
    """Answer OPTIONS with the limits and features as JSON (SPEC 2.8)."""
    others = {} if shared is None else dataclasses.asdict(shared)
    document = {
        "limits": dataclasses.asdict(limits) | others,
        "features": {
            "atomic": True,
            "media_types": [name.decode() for name in FORMATS],
            "content_encodings": codings.supported(),
            "replay_on_conflict": True,
        },
    }
    headers = ((b"content-type", b"application/json"), _ALLOW, _ACCEPT_POST, _ACCEPT_ENCODING)
    return _response(200, headers, json.dumps(document).encode())


# What the part around a reply takes, roughly.
_HEAD_BYTES = 200


def response_size(batch: Batch, outcome: Outcome) -> int:
    """Tell about how many bytes the response to a batch has before it is compressed."""
    size = _HEAD_BYTES * len(batch.calls)
    if outcome.fate is Fate.ROLLED_BACK:
        return size  # most replies are replaced by short ones
    return size + sum(len(reply.body) for reply in outcome.replies)


def _response(status: int, headers: Headers, body: bytes) -> Response:
    return Response(status, (*headers, (b"content-length", b"%d" % len(body))), body)
