"""Replies: how a whole reply is sent by ASGI, and what the server itself answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from atomicbatch.model import Header, Headers, Reply
from atomicbatch.problems import TITLES, problem_reply

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
NOT_STARTED: Header = (b"batch-outcome", b"not-started")
_LENGTH = b"content-length"

STOPPING = problem_reply(
    503, "stopping", "The server is stopping", "send the request again to another server or later"
)
STOPPING = STOPPING._replace(
    headers=(*STOPPING.headers, (b"retry-after", b"1"), (b"connection", b"close"))
)
"""To every request that comes, or has not arrived as a whole, while the server stops."""


def framed(method: str, status: int, headers: Headers, body: bytes) -> tuple[list[Header], bytes]:
    """The headers of a response with its length, and its body where HTTP has one for it."""
    framed = list(headers)
    if status in (204, 304):
        return framed, b""
    for name, _ in headers:
        if name == _LENGTH:
            break
    else:
        framed.append((_LENGTH, b"%d" % len(body)))
    return framed, b"" if method == "HEAD" else body


async def send_reply(send: Send, method: str, status: int, headers: Headers, body: bytes) -> None:
    """Send a reply, with its length and, where HTTP has none, without its body."""
    sent, body = framed(method, status, headers, body)
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


def head_too_slow(seconds: float) -> Reply:
    """To a client that has not sent its head in time."""
    detail = f"the request's line and headers took longer than {seconds:g} seconds"
    return problem_reply(408, "timeout", TITLES["timeout"], detail)


def head_too_long(maximum: int) -> Reply:
    """To a client whose head has more bytes than it may."""
    return problem_reply(
        431,
        "limit-exceeded",
        TITLES["limit-exceeded"],
        f"the request's line and headers are longer than {maximum} bytes",
        limit="max_head_bytes",
        maximum=maximum,
    )


def no_request(why: str) -> Reply:
    """To what is not an HTTP request."""
    slug = "malformed-request"
    return problem_reply(400, slug, TITLES[slug], f"this is not an HTTP request: {why}")


def internal_error() -> Reply:
    """Where an exception has come in an answer's place."""
    slug = "internal-error"
    return problem_reply(500, slug, TITLES[slug], "the server's log says more")
