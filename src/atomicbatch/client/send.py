"""Send: an ``.http`` file as one batch, and what came of it in lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import httpx

from atomicbatch.client.http_file import HttpFile, read_http_file
from atomicbatch.errors import WireError
from atomicbatch.model import Call, Reply
from atomicbatch.wire.batch import read_replies, write_batch


class SendError(Exception):
    """The batch could not be sent, or what came back is no answer to it."""


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
        status: Of the response.
        outcome: The value of ``Batch-Outcome``, or an empty string.
        replies: One for each call; none where the batch did not run.
        refusal: The body of a response that holds no replies.
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
        response = httpx.post(
            server.rstrip("/") + path_of_endpoint,
            content=body,
            headers={**headers, "content-type": content_type.decode()},
            timeout=timeout_seconds,
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise SendError(f"cannot send to {server}: {error}") from error
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
    problem = (b"content-type", b"application/problem+json") in reply.headers
    if problem and not verbose:
        # The status line says the rest.
        detail = json.loads(reply.body).get("detail")
        if isinstance(detail, str):
            return detail
    return _pretty(reply.body) if reply.body else ""


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


# Short JSON stays on one line.
_WIDTH = 100


def _pretty(body: bytes) -> str:
    """A body for people: JSON indented where it is long, text as it is."""
    try:
        value = json.loads(body)
    except ValueError:
        text = body.decode("utf-8", "replace")
        return "".join(
            c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
        )
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= _WIDTH else json.dumps(value, ensure_ascii=False, indent=2)
