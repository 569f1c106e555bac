"""Request: one request of a connection and its response, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

from atomicbatch.exchange import http_date
from atomicbatch.model import Header, Reply
from atomicbatch.problems import TITLES, problem_reply
from atomicbatch.server.http.access_log import ENTRY, Entry
from atomicbatch.server.http.reader import Head

_log = logging.getLogger("atomicbatch.server")
Message = MutableMapping[str, Any]
App = Callable[[dict[str, Any], Any, Any], Any]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
# Up to this size, head and body go out together. Copying more costs more than a second write.
_TOGETHER_BYTES = 64 * 1024
# If a client is this far ahead of the application, we stop reading from it for a while.
_AHEAD_BYTES = 256 * 1024


class Channel(Protocol):
    """The connection that a request has come by."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def want_body(self) -> None:
        """Go on reading: the application waits for the body."""

    def pause_body(self) -> None:
        """Stop reading: the application is behind."""

    def answered(self, request: Request) -> None:
        """The whole response has been handed over."""


class Request:
    """
    One request, from its head to its response.

    Args:
        channel: Where the response goes.
        head: Its line and headers.
        client: The address and port it came from.
        server: The address and port it came to.

    Attributes:
        scope: The ASGI scope.
        keep_alive: The connection stays open after the response.
        held: How many bytes of its body count as held.
        complete: It has arrived as a whole.
        status: The response's, once there is one.
        answered: The response has been handed over.
        gone: The client is no longer waiting for a response.
    """

    def __init__(
        self,
        channel: Channel,
        head: Head,
        *,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
    ) -> None:
        path, _, query = head.target.partition(b"?")
        self._channel = channel
        self.entry = Entry()
        decoded = path.decode("ascii", "replace")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "method": head.method,
            "scheme": "http",
            "path": unquote(decoded) if "%" in decoded else decoded,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": client,
            "server": server,
            ENTRY: self.entry,
        }
        self.started = time.perf_counter()
        self.keep_alive = head.keep_alive
        self._expects_continue = head.expects_continue
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._told_end = False
        self._news = asyncio.Event()
        self.held = 0
        self.complete = False
        self.status: int | None = None
        self.size = 0
        self.attempts: bytes | None = None
        self._head: tuple[int, list[Header]] | None = None
        self._pieces: list[bytes] = []
        self.answered = False
        self.gone = False

    # Called by the connection.

    def feed(self, chunk: bytes) -> None:
        """Take bytes of the body."""
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        self._news.set()
        if self._waiting > _AHEAD_BYTES:
            self._channel.pause_body()

    def end(self) -> None:
        """The body is complete."""
        self.complete = True
        self._news.set()

    def hang_up(self) -> None:
        """The client is gone, or has got an answer that is not the application's."""
        self.gone = True
        self._news.set()

    # Called by the application.

    async def run(self, app: App) -> None:
        """Let the application answer. If it gives no response, the client gets a 500."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            _log.exception("an exception escaped the application")
        if not self.answered and not self.gone:
            slug = "internal-error"
            self.refuse(problem_reply(500, slug, TITLES[slug], "the server's log says more"))

    async def receive(self) -> Message:
        """Return the next part of the body; after the last one, wait for the client to hang up."""
        if self._expects_continue:
            self._expects_continue = False
            self._channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.gone or self.answered):
            if self._chunks or (self.complete and not self._told_end):
                body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks, self._waiting = [], 0
                self._told_end = self.complete
                return {"type": "http.request", "body": body, "more_body": not self.complete}
            self._channel.want_body()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the response: its start, then its body, which goes out in one piece."""
        if self.gone or self.answered:
            return
        if message["type"] == "http.response.start":
            self._head = (message["status"], list(message.get("headers", ())))
            return
        if self._head is None:
            raise RuntimeError("the body of a response came before its start")
        body = message.get("body", b"")
        if self._pieces or message.get("more_body", False):
            self._pieces.append(body)
            if message.get("more_body", False):
                return
            body, self._pieces = b"".join(self._pieces), []
        self._respond(*self._head, body)

    def refuse(self, reply: Reply) -> None:
        """Answer in place of the application, which is told that the client is gone."""
        if not self.answered:
            self._respond(reply.status, list(reply.headers), reply.body)
        self.hang_up()

    def _respond(self, status: int, headers: list[Header], body: bytes) -> None:
        names = {name for name, _ in headers}
        if b"content-length" not in names and status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        if self.scope["method"] == "HEAD":
            body = b""
        if not self.complete or (b"connection", b"close") in headers:
            # The rest of the body will not be read.
            self.keep_alive = False
        if not self.keep_alive and b"connection" not in names:
            headers.append((b"connection", b"close"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        date = http_date(int(time.time()))
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
        head = b"%bdate: %b\r\n%b\r\n" % (line, date, b"".join(lines))
        ends = len(lines) + 3
        if head.count(b"\n") != ends or head.count(b"\r") != ends:
            raise RuntimeError("a header of the response holds a line break")
        self.status, self.size = status, len(body)
        for name, value in headers:
            if name == b"batch-attempts":
                self.attempts = value
            elif name == b"batch-outcome" and self.entry.outcome is None:
                self.entry.outcome = value
        self.answered = True
        self._news.set()
        if len(body) <= _TOGETHER_BYTES:
            self._channel.write(head + body)
        else:
            self._channel.write(head)
            self._channel.write(body)
        self._channel.answered(self)
