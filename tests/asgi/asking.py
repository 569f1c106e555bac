"""Asks an ASGI app in-process, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from atomicbatch import Call, Headers
from atomicbatch.asgi.types import App, Message
from atomicbatch.wire.batch import write_batch
from tests.endpoints.asking import Answer, call

__all__ = ["Answer", "Request", "ask", "call", "scope_of"]


class Request:
    """One request to an ASGI app; ``hang_up`` ends it from the client's side."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        pieces = list(chunks)
        self._messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
            for index, piece in enumerate(pieces)
        ]
        self._gone = asyncio.Event()
        self.sent: list[Message] = []

    def hang_up(self) -> None:
        self._gone.set()

    @property
    def unread(self) -> int:
        """How many messages were not asked for."""
        return len(self._messages)

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> Answer:
        start, *bodies = self.sent
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in bodies),
        )


def scope_of(
    path: str,
    headers: Headers,
    *,
    method: str = "POST",
    query: bytes = b"",
    root_path: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": root_path,
        "headers": [(b"host", b"shop.example"), *headers],
        "client": ("192.0.2.7", 4711),
        "server": ("shop.example", 443),
        "state": {"pool": "shared"},
        "extensions": {"http.response.pathsend": {}, "http.response.trailers": {}},
    } | more


async def ask(
    app: App,
    *calls: Call,
    headers: Headers = (),
    path: str = "/v1/api/batch",
    **scope: Any,
) -> Answer:
    """Send a batch and wait for its answer."""
    content_type, body = write_batch(calls)
    request = Request([body])
    own = ((b"content-type", content_type), *headers)
    await app(scope_of(path, own, **scope), request.receive, request.send)
    return request.answer
