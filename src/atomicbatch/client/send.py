"""Send: an ``.http`` file as one batch, and what came of it in lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from atomicbatch.client.http_file import HttpFile, read_http_file
from atomicbatch.errors import WireError
from atomicbatch.model import Call, Reply
from atomicbatch.wire.batch import read_replies, write_batch


class SendError(Exception):
    """The batch could not be sent, or what came back is no answer to it."""


# Nothing has left for the server when these are raised. After any other error of httpx the server
# may have the batch, and may have committed it.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    ValueError,
)


class Line(NamedTuple):
    """One line for people, and how it looks where looks are possible."""

    text: str
    bold: bool = False
    colour: str | None = None


class Sent(NamedTuple):
    """
    What came of a batch.

    Attributes:
        file: What was sent.
        status: Of the response; 0 where none came.
        outcome: The value of ``Batch-Outcome``, or an empty string; ``unknown`` where no response
            came.
        replies: One for each call; none where the batch did not run.
        refusal: The body of a response that holds no replies, or why there is no response.
    """

    file: HttpFile
    status: int
    outcome: str
    replies: tuple[Reply, ...]
    refusal: str

    @property
    def committed(self) -> bool:
        """Whether everything that was sent took effect."""
        return self.outcome == "committed"

    def lines(self, *, verbose: bool) -> Iterator[Line]:
        """Each reply, and the outcome last."""
        pairs = zip(self.file.calls, self.file.names, self.replies, strict=False)
        for number, (call, name, reply) in enumerate(pairs, 1):
            yield from _reply_lines(number, call, name, reply, verbose=verbose)
        if self.refusal:
            yield Line(_pretty(self.refusal.encode()))
        text = self.outcome or f"no batch endpoint: it answered {self.status}"
        yield Line(text, bold=True, colour="green" if self.committed else "red")


def send_file(
    path: Path,
    *,
    url: str | None,
    path_of_endpoint: str = "/v1/api/batch",
    variables: Mapping[str, str],
    headers: Mapping[str, str],
    timeout_seconds: float,
) -> Sent:
    """
    Send all requests of an ``.http`` file as one batch.

    Raises:
        HttpFileError: The file is not understood.
        SendError: No server is named, it cannot be reached, or it answers with something else.
    """
    file = read_http_file(path, variables)
    server = url or file.origin
    if server is None:
        raise SendError(f"{path} names no server in its URLs: say --url http://host:port")
    try:
        content_type, body = write_batch(file.calls)
        outer = httpx.Headers(dict(headers))
        outer["content-type"] = content_type.decode()
        response = httpx.post(
            server.rstrip("/") + path_of_endpoint,
            content=body,
            headers=outer,
            timeout=timeout_seconds,
        )
    except _NEVER_SENT as error:
        raise SendError(f"cannot send to {server}: {error}") from error
    except httpx.HTTPError as error:
        why = f"the answer of {server} was lost ({error}): the batch is stored whole or not at all"
        return Sent(file, 0, "unknown", (), why)
    answered = response.headers.get("content-type", "")
    outcome = response.headers.get("batch-outcome", "")
    if not answered.startswith("multipart/mixed"):
        return Sent(file, response.status_code, outcome, (), response.text)
    try:
        replies = read_replies(response.content, content_type=answered.encode())
    except WireError as error:
        raise SendError(f"the answer is not understood: {error}") from error
    if len(replies) != len(file.calls):
        raise SendError(f"{len(replies)} replies came for {len(file.calls)} calls")
    return Sent(file, response.status_code, outcome, tuple(reply for _, reply in replies), "")


def _reply_lines(
    number: int, call: Call, name: str, reply: Reply, *, verbose: bool
) -> Iterator[Line]:
    target = (call.path + (b"?" + call.query if call.query else b"")).decode()
    title = f"  ({name})" if name else ""
    yield Line(f"{number}. {call.method} {target}{title}", bold=True)
    colour = "green" if reply.status < 400 else "yellow" if reply.status == 424 else "red"
    yield Line(f"   {reply.status} {_reason(reply.status)}", colour=colour)
    if verbose:
        for header, value in reply.headers:
            yield Line(f"   {header.decode()}: {value.decode('latin-1')}")
    for line in _shown_body(reply, verbose=verbose).splitlines():
        yield Line(f"   {line}")


def _shown_body(reply: Reply, *, verbose: bool) -> str:
    if not reply.body:  # as after HEAD, whatever the Content-Type
        return ""
    problem = (b"content-type", b"application/problem+json") in reply.headers
    if problem and not verbose:
        # The status line says the rest.
        match _json(reply.body):
            case {"detail": str(detail)}:
                return _printable(detail)
    return _pretty(reply.body)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


# Short JSON stays on one line.
_WIDTH = 100


def _pretty(body: bytes) -> str:
    """A body for people: JSON indented where it is long, text as it is."""
    value = _json(body)
    if value is _NO_JSON:
        return _printable(body.decode("utf-8", "replace"))
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= _WIDTH else json.dumps(value, ensure_ascii=False, indent=2)


_NO_JSON = object()


def _json(body: bytes) -> Any:
    """The value of a JSON document, or ``_NO_JSON``."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _printable(text: str) -> str:
    """Text without what would steer a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
