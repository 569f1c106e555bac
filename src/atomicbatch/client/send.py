"""Send: an ``.http`` file as one batch, and what came of it in lines for people."""

from __future__ import annotations

import contextlib
import enum
import json
import time
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
    """The batch was not sent: nothing has left for the server."""


# Nothing has left for the server when these are raised. After any other error the server may have
# the batch, and may have committed it.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class ExitStatus(enum.IntEnum):
    """What ``atomicbatch send`` tells the shell."""

    COMMITTED = 0
    NOT_COMMITTED = 1
    NOT_SENT = 2
    UNKNOWN = 3


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
        exit_status: Never ``NOT_SENT``.
        outcome: What is known, in words: the value of ``Batch-Outcome`` where it can be believed.
        replies: One for each call; none where the answer holds none that can be read.
        refusal: The body of a response that holds no replies, or why there is no response.
    """

    file: HttpFile
    exit_status: ExitStatus
    outcome: str
    replies: tuple[Reply, ...] = ()
    refusal: str = ""

    @property
    def committed(self) -> bool:
        """Whether everything that was sent took effect."""
        return self.exit_status is ExitStatus.COMMITTED

    def lines(self, *, verbose: bool) -> Iterator[Line]:
        """Each reply, and the outcome last."""
        pairs = zip(self.file.calls, self.file.names, self.replies, strict=False)
        for number, (call, name, reply) in enumerate(pairs, 1):
            yield from _reply_lines(number, call, name, reply, verbose=verbose)
        if self.refusal:
            yield Line(_pretty(self.refusal.encode("utf-8", "replace")))
        yield Line(_printable(self.outcome), bold=True, colour="green" if self.committed else "red")


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
        SendError: No server is named, or it cannot be reached: nothing was sent.
    """
    file = read_http_file(path, variables)
    server = url or file.origin
    if server is None:
        raise SendError(f"{path} names no server in its URLs: say --url http://host:port")
    if "?" in server or "#" in server:
        raise SendError(f"{server} has a query: --url takes scheme, host, port and a prefix only")
    with httpx.Client(timeout=timeout_seconds) as client:
        try:
            content_type, body = write_batch(file.calls)
            outer = httpx.Headers(dict(headers))
            outer["content-type"] = content_type.decode()
            request = client.build_request(
                "POST", server.rstrip("/") + path_of_endpoint, content=body, headers=outer
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise SendError(f"cannot send to {server}: {error}") from error
        try:
            response = _answer(client, request, timeout_seconds)
        except _NEVER_SENT as error:
            raise SendError(f"cannot send to {server}: {error}") from error
        except KeyboardInterrupt:
            return _unknown(file, "nobody waited for the answer")
        except Exception as error:
            why = str(error) or type(error).__name__
            return _unknown(file, f"the answer of {server} was lost ({why})")
    try:
        return _understood(file, response)
    except Exception as error:
        return _unknown(file, f"the answer is not understood ({error!r})")


def _answer(client: httpx.Client, request: httpx.Request, seconds: float) -> httpx.Response:
    """Send, and read the answer whole, within the time given however slowly it comes."""
    end = time.monotonic() + seconds
    response = client.send(request, stream=True)
    with contextlib.closing(response):
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if time.monotonic() > end:
                raise httpx.ReadTimeout("it took too long to arrive", request=request)
    # The content is decoded already.
    fields = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(response.status_code, headers=fields, content=bytes(content))


def _unknown(file: HttpFile, why: str, replies: tuple[Reply, ...] = ()) -> Sent:
    return Sent(
        file,
        ExitStatus.UNKNOWN,
        "unknown",
        replies,
        f"{why}: the batch is stored whole or not at all, look before you send it again",
    )


def _understood(file: HttpFile, response: httpx.Response) -> Sent:
    """What an answer says of the batch; where it does not say it plainly, nothing is known."""
    status = response.status_code
    outcome = response.headers.get("batch-outcome", "").strip()
    word = outcome.partition(";")[0].strip()
    answered = response.headers.get("content-type", "")
    if not word and 300 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT:
        # HTTP: a request that is answered so was not performed. No batch endpoint has seen it, as
        # that would have said what became of it.
        where = (
            f", it is at {response.headers['location']}" if "location" in response.headers else ""
        )
        told = (
            f"not committed: this is no batch endpoint (status {status}, no Batch-Outcome){where}"
        )
        return Sent(file, ExitStatus.NOT_COMMITTED, told, refusal=response.text)
    if not answered.lower().startswith("multipart/mixed"):
        if word in ("not-started", "rolled-back"):
            return Sent(file, ExitStatus.NOT_COMMITTED, outcome, refusal=response.text)
        why = f"status {status}" + (
            f", Batch-Outcome: {outcome}" if outcome else ", no Batch-Outcome"
        )
        sent = _unknown(file, f"the answer is none of a batch ({why})")
        return sent._replace(refusal=f"{response.text}\n{sent.refusal}".lstrip("\n"))
    try:
        replies = tuple(
            reply for _, reply in read_replies(response.content, content_type=answered.encode())
        )
    except (WireError, ValueError) as error:
        return _unknown(file, f"the answer is not understood ({error})")
    if len(replies) != len(file.calls):
        return _unknown(file, f"{len(replies)} replies came for {len(file.calls)} calls", replies)
    failed = any(reply.status >= HTTPStatus.BAD_REQUEST for reply in replies)
    if word in ("rolled-back", "dry-run"):
        return Sent(file, ExitStatus.NOT_COMMITTED, outcome, replies)
    if word != "committed" or failed or not response.is_success:
        why = f"Batch-Outcome: {outcome}" if outcome else "no Batch-Outcome"
        return _unknown(
            file, f"the answer does not say it plainly ({why}, status {status})", replies
        )
    return Sent(file, ExitStatus.COMMITTED, outcome, replies)


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
