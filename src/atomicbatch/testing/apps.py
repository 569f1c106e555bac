"""
Apps: a batch for the test client that your app already has, and what came back.

The client may be FastAPI's, Flask's, httpx, or any other that sends bytes and headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from atomicbatch.model import Call, Headers, Reply
from atomicbatch.wire.batch import read_replies, write_batch

_NO_BODY: Any = object()


def call(
    method: str, url: str, body: Any = _NO_BODY, *, headers: Mapping[str, str] | None = None
) -> Call:
    """
    Make one call of a batch.

    Args:
        method: Any HTTP method.
        url: A path, with its query.
        body: Bytes and text are sent as they are, anything else as JSON.
        headers: The call's own.
    """
    own = {name.lower(): value for name, value in (headers or {}).items()}
    if body is _NO_BODY:
        content = b""
    elif isinstance(body, bytes | str):
        content = body.encode() if isinstance(body, str) else body
    else:
        content = json.dumps(body).encode()
        own.setdefault("content-type", "application/json")
    path, _, query = url.partition("?")
    pairs = tuple((name.encode(), value.encode()) for name, value in own.items())
    return Call(method, path.encode(), query.encode(), pairs, content)


class BatchRequest(NamedTuple):
    """A batch, ready to be sent with POST."""

    headers: dict[str, str]
    body: bytes


def batch_of(*calls: Call, headers: Mapping[str, str] | None = None) -> BatchRequest:
    """
    Make the request that holds some calls.

    Args:
        calls: In the order in which they are to run.
        headers: Of the request, which every call inherits: Authorization, say.

    Raises:
        ValueError: There is no call, or one that could not be read.
    """
    content_type, body = write_batch(calls)
    return BatchRequest({**(headers or {}), "Content-Type": content_type.decode()}, body)


class AnswerReply(NamedTuple):
    """What one call has answered."""

    status: int
    headers: dict[str, str]
    """By lower-case name; of a name that is there twice, the last."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    """What a batch has answered. As text it says what became of each call, for assertions."""

    outcome: str
    """``Batch-Outcome``: committed, rolled-back; failed=2; status=409, not-started or unknown."""
    replies: tuple[AnswerReply, ...]
    """One for each call; none where the batch did not run."""
    problem: bytes = b""
    """Why there are no replies."""

    @property
    def committed(self) -> bool:
        """Everything is stored."""
        return self.outcome == "committed"

    def __str__(self) -> str:
        lines = [f"{self.outcome} {self.problem.decode('utf-8', 'replace')}".rstrip()]
        for number, reply in enumerate(self.replies, start=1):
            shown = reply.body[:300].decode("utf-8", "replace")
            lines.append(f"call {number}: {reply.status} {shown}".rstrip())
        return "\n".join(lines)


def read_answer(headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes) -> Answer:
    """
    Read the response to a batch.

    Args:
        headers: The response's, as your client gives them.
        body: The response's.

    Raises:
        AssertionError: This is no response of a batch endpoint.
        MalformedError: The body breaks the grammar.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found = {name.lower(): value for name, value in pairs}
    outcome = found.get("batch-outcome")
    if outcome is None:
        raise AssertionError("there is no Batch-Outcome: did the request reach the batch endpoint?")
    content_type = found.get("content-type", "")
    if not content_type.startswith("multipart/"):
        return Answer(outcome, (), body)
    replies = read_replies(body, content_type=content_type.encode())
    return Answer(outcome, tuple(_shown(reply) for _, reply in replies))


def _shown(reply: Reply) -> AnswerReply:
    return AnswerReply(reply.status, _decoded(reply.headers), reply.body)


def _decoded(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in headers}
