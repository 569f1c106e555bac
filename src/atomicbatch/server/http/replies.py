"""Replies: how a whole reply is sent by ASGI, and what is answered while the server stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from atomicbatch.model import Header, Reply
from atomicbatch.problems import problem_reply

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
NOT_STARTED: Header = (b"batch-outcome", b"not-started")

STOPPING = problem_reply(
    503, "stopping", "The server is stopping", "send the request again to another server or later"
)
STOPPING = STOPPING._replace(
    headers=(*STOPPING.headers, (b"retry-after", b"1"), (b"connection", b"close"))
)
"""To every request that comes, or has not arrived as a whole, while the server stops."""


async def send_reply(send: Send, method: str, reply: Reply) -> None:
    """Send a reply, with its length and, where HTTP has none, without its body."""
    headers = list(reply.headers)
    if reply.status not in (204, 304):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    body = b"" if method == "HEAD" or reply.status in (204, 304) else reply.body
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
