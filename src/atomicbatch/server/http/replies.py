"""Replies: how a whole reply is sent by ASGI, and what is answered while the server stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from atomicbatch.model import Header, Headers
from atomicbatch.problems import problem_reply

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
