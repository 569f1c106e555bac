"""
Connection: the bytes of one client <-> requests and responses (HTTP/1.1, RFC 9112), in bounds.

Requests that come while one is being answered wait for their turn, so that answers come in order.
Whatever a client does not send or does not take in time ends its connection, by the clock that all
connections share (``Traffic.keep_time``).
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import deque
from typing import Any

import httptools

from atomicbatch.model import Header, Reply
from atomicbatch.problems import TITLES, problem_reply
from atomicbatch.server.http.request import App, Request
from atomicbatch.server.http.traffic import Traffic, closing

# Answers in a row before we stop reading: pipelining is rare, and floods are cheap to send.
_MAX_WAITING_REQUESTS = 16
# After an answer that ends the connection the client may still be sending. A socket that is closed
# with unread bytes is reset, and the client may never see the answer (RFC 9112 section 9.6).
_LINGER_SECONDS = 2.0
_MAX_LINGERING = 100
_TAKEN_BYTES = 64 * 1024
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_FRAMING = (b"content-length", b"transfer-encoding")


class Connection(asyncio.Protocol):
    """
    One client's connection.

    Args:
        app: The ASGI application that answers.
        traffic: What this process holds, and its bounds.
    """

    _transport: asyncio.Transport

    def __init__(self, app: App, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic
        self._limits = traffic.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._peer: tuple[str, int] | None = None
        self._own: tuple[str, int] | None = None
        self._deadline = math.inf
        self._write_deadline = math.inf
        self._write_mark = 0
        self._reading = True
        self._ended = False  # nothing that comes is read any more
        self._waiting: deque[tuple[Request, App]] = deque()
        self._request: Request | None = None  # the one that is being answered
        self._arriving: Request | None = None  # the one whose body is coming
        # Of the head that is being read.
        self._in_head = False
        self._head_began = False
        self._head_bytes = 0
        self._body_came = False
        self._request_ended = False
        self._framing_bytes = 0
        self._target = b""
        self._headers: list[Header] = []
        self._expects_continue = False
        self._resuming = False
        self._upgrading = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or turn the client away."""
        self._transport = transport
        self._peer = _address(transport.get_extra_info("peername"))
        self._own = _address(transport.get_extra_info("sockname"))
        connections, maximum = self._traffic.connections, self._limits.max_connections
        connections.add(self)
        if len(connections) > maximum + _MAX_LINGERING:
            transport.abort()
        elif len(connections) > maximum:
            self._refuse(self._traffic.too_many_connections())
        else:
            self._deadline = self._loop.time() + self._limits.idle_seconds

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell whoever works for this client."""
        self._ended = True
        self._traffic.connections.discard(self)
        self._deadline = self._write_deadline = math.inf
        for request, _ in self._waiting:
            self._release(request)
        self._waiting.clear()
        if self._request is not None:
            self._request.hang_up()
        del self._parser  # it refers to us

    def eof_received(self) -> None:
        """Take the end of what the client sends for a hang-up, as asyncio does."""

    def data_received(self, data: bytes) -> None:
        """Read bytes."""
        if self._ended:
            return
        self._head_began = self._body_came = self._request_ended = False
        fed = data
        try:
            while fed:
                try:
                    self._parser.feed_data(fed)
                    fed = b""
                except httptools.HttpParserUpgrade as upgrade:
                    fed = self._no_upgrade(fed[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            raise RuntimeError("reading a request failed") from error  # a mistake of ours
        except httptools.HttpParserError as error:
            self._malformed(str(error))
        if self._in_head:
            self._check_head(len(data))
        elif self._arriving is not None and not self._body_came:
            self._check_framing(len(data))

    def pause_writing(self) -> None:
        """Give the client a time to take what it has been sent."""
        self._write_mark = self._transport.get_write_buffer_size()
        self._write_deadline = self._loop.time() + self._limits.write_seconds
        self._traffic.count_unsent()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._write_deadline = math.inf
        self._traffic.count_unsent()
        self._next()

    # What traffic asks.

    def check_time(self, now: float) -> None:
        """End the connection if the client has let a time pass."""
        if now >= self._write_deadline:
            size = self._transport.get_write_buffer_size()
            if size > self._write_mark - _TAKEN_BYTES:
                self._transport.abort()
                return
            self._write_mark = size
            self._write_deadline = now + self._limits.write_seconds
        if now >= self._deadline:
            self._deadline = math.inf
            if self._in_head and not self._ended:
                seconds = self._limits.head_seconds
                detail = f"the request's line and headers took longer than {seconds:g} seconds"
                self._refuse(problem_reply(408, "timeout", TITLES["timeout"], detail))
            elif self._ended or self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def unsent_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return 0 if math.isinf(self._write_deadline) else self._transport.get_write_buffer_size()

    # What the server asks when it stops.

    @property
    def busy(self) -> bool:
        """Whether a request is being answered that has arrived as a whole, or one waits."""
        request = self._request
        return request is not None and (request.complete or bool(self._waiting))

    def stop(self, reply: Reply) -> None:
        """Close the connection; what has not arrived as a whole is answered with ``reply``."""
        if self._request is not None and not self._request.complete:
            self._refuse(reply)
        elif self._request is None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # What a request asks.

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def want_body(self) -> None:
        """Go on reading: the application waits for the body."""
        self._resume_reading()

    def pause_body(self) -> None:
        """Stop reading: the application is behind."""
        self._pause_reading()

    def answered(self, request: Request) -> None:
        """Go on after a response."""
        if not request.keep_alive:
            self._end(at_once=request.complete)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._resuming or self._ended:
            return
        self._in_head = self._head_began = True
        self._head_bytes = 0
        self._target = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Take bytes of the request's target."""
        if not self._resuming:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; behind a body it is a trailer, which nobody needs."""
        if self._in_head:
            name = name.lower()
            value = value.rstrip(b" \t")  # the parser keeps them (RFC 9112 section 5.1)
            if name == b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there: the request may be answered."""
        if self._resuming:
            self._resuming = False
            return
        self._in_head = False
        self._deadline = math.inf
        if self._ended:
            return
        headers, parser = self._headers, self._parser
        size = len(self._target) + sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._limits.max_head_bytes:
            self._head_too_long()
            return
        version = parser.get_http_version()
        target = self._target if self._target[:1] == b"/" else self._from_elsewhere()
        if target is None or b"#" in target or version not in ("1.1", "1.0"):
            self._malformed("the request line is not METHOD /path HTTP/1.1")
            return
        coded = [value for name, value in headers if name == b"transfer-encoding"]
        if coded and (version == "1.0" or [value.lower() for value in coded] != [b"chunked"]):
            # The parser takes any list that ends in chunked, and decodes no more than that (RFC
            # 9112 section 6.1). A proxy in front may decode the rest, and would see another body.
            self._malformed("Transfer-Encoding can only be chunked, once, and in HTTP/1.1")
            return
        self._upgrading = parser.should_upgrade()
        request = self._make(
            method=parser.get_method().decode("ascii"),
            target=target,
            version=version,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
        )
        self._arriving = request
        self._take(request, self._app)

    def on_body(self, body: bytes) -> None:
        """Take bytes of a body, within what all bodies together may be."""
        self._body_came = True
        self._framing_bytes = 0
        request = self._arriving
        if request is None or request.answered or request.gone:
            return
        traffic = self._traffic
        if traffic.upload_bytes + len(body) > self._limits.max_upload_bytes:
            self._refuse(traffic.too_much_uploaded())
            return
        traffic.upload_bytes += len(body)
        request.held += len(body)
        request.feed(body)

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        if self._upgrading:
            return  # says the parser, which takes the body for what comes after an upgrade
        request, self._arriving = self._arriving, None
        self._request_ended = True
        self._framing_bytes = 0
        if request is not None:
            request.end()

    # Inside

    def _make(
        self, *, method: str, target: bytes, version: str = "1.1", keep_alive: bool = False
    ) -> Request:
        return Request(
            self,
            method=method,
            target=target,
            headers=self._headers,
            http_version=version,
            keep_alive=keep_alive,
            expects_continue=self._expects_continue and version == "1.1",
            client=self._peer,
            server=self._own,
        )

    def _from_elsewhere(self) -> bytes | None:
        """
        The path of a target that does not begin with one (RFC 9112 section 3.2).

        A whole URL is for the host that it names, whatever Host says; if Host says something else,
        both are left for the application to refuse.
        """
        if self._target == b"*":
            return self._target
        match = _ABSOLUTE.fullmatch(self._target)
        if match is None:
            return None
        if [value for name, value in self._headers if name == b"host"] != [match[1]]:
            self._headers.append((b"host", match[1]))
        path = match[2]
        return path if path.startswith(b"/") else b"/" + path

    def _take(self, request: Request, app: App) -> None:
        self._waiting.append((request, app))
        if len(self._waiting) > _MAX_WAITING_REQUESTS:
            self._pause_reading()
        if self._request is None:
            self._next()

    def _next(self) -> None:
        """Answer the next request that waits, or wait for one."""
        if self._request is not None or self._transport.is_closing():
            return
        if not math.isinf(self._write_deadline):
            return  # the client takes no answers: it gets no more of them
        if not self._waiting:
            self._resume_reading()
            if not self._ended and not self._in_head:
                self._deadline = self._loop.time() + self._limits.idle_seconds
            return
        self._request, app = self._waiting.popleft()
        if app is self._app and self._request.scope["raw_path"] != b"/healthz":
            refused = self._traffic.admits()
            if refused is not None:
                app = _answering(refused)
        task = self._loop.create_task(self._run(self._request, app))
        self._traffic.running.add(task)
        task.add_done_callback(self._traffic.running.discard)

    async def _run(self, request: Request, app: App) -> None:
        try:
            await request.run(app)
        except asyncio.CancelledError:
            self._transport.abort()  # the server ends
        finally:
            self._release(request)
            self._log(request)
            self._request = None
        self._next()

    def _release(self, request: Request) -> None:
        self._traffic.upload_bytes -= request.held
        request.held = 0

    def _log(self, request: Request) -> None:
        log, scope = self._traffic.log, request.scope
        if log is not None:
            log.request(
                client="-" if self._peer is None else self._peer[0],
                method=scope["method"],
                path=scope["raw_path"],
                status=request.status,
                seconds=time.perf_counter() - request.started,
                size=request.size,
                attempts=request.attempts,
                entry=request.entry,
            )

    def _check_head(self, fed: int) -> None:
        """Bound a head that is not there yet, in bytes and in time."""
        if self._head_began:
            self._deadline = self._loop.time() + self._limits.head_seconds
            # Behind another request, how many of these bytes are its own is not known: none counts.
            fed = 0 if self._request_ended else fed
        self._head_bytes += fed
        if self._head_bytes > self._limits.max_head_bytes:
            self._head_too_long()

    def _check_framing(self, fed: int) -> None:
        """Bound what comes with a body and is none: extensions of chunks, and trailers."""
        self._framing_bytes += fed
        if self._framing_bytes > self._limits.max_head_bytes:
            self._malformed("there is more around its body than in it")

    def _head_too_long(self) -> None:
        maximum = self._limits.max_head_bytes
        self._refuse(
            problem_reply(
                431,
                "limit-exceeded",
                TITLES["limit-exceeded"],
                f"the request's line and headers are longer than {maximum} bytes",
                limit="max_head_bytes",
                maximum=maximum,
            )
        )

    def _malformed(self, why: str) -> None:
        if self._ended:
            return
        slug = "malformed-request"
        self._refuse(problem_reply(400, slug, TITLES[slug], f"this is no HTTP request: {why}"))

    def _refuse(self, reply: Reply) -> None:
        """Answer in the application's place, when its turn comes, and end the connection."""
        reply = closing(reply)
        arriving, self._arriving = self._arriving, None
        self._in_head = False
        self._ended = True
        self._deadline = math.inf
        if arriving is None:
            self._headers = []
            method, path = "-", self._target.partition(b"?")[0] or b"-"
            self._take(self._make(method=method, target=path), _answering(reply))
        elif arriving is self._request:
            arriving.refuse(reply)
        else:
            self._waiting[-1] = (arriving, _answering(reply))

    def _end(self, *, at_once: bool) -> None:
        """Close the connection once its last answer is sent; first read what still comes."""
        self._ended = True
        for request, _ in self._waiting:
            self._release(request)
        self._waiting.clear()
        now = self._loop.time()
        if at_once or not self._transport.can_write_eof():
            self._deadline = now + self._limits.write_seconds
            self._transport.close()
            return
        self._deadline = now + _LINGER_SECONDS
        self._transport.write_eof()
        self._resume_reading()

    def _no_upgrade(self, rest: bytes) -> bytes:
        """
        Go on in HTTP/1.1 with a client that has asked for another protocol.

        The parser takes a body that comes with the request for bytes of the new protocol (Java's
        client asks for HTTP/2 in this way, with POST too). A new parser that is told of the body's
        length reads it as what it is.
        """
        self._upgrading = False
        if self._arriving is None:
            return b""
        framing = [header for header in self._headers if header[0] in _FRAMING]
        if not framing:
            self.on_message_complete()
            return rest
        self._resuming = True
        self._parser = httptools.HttpRequestParser(self)
        lines = b"".join([b"%b: %b\r\n" % header for header in framing])
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)
        return rest

    def _pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading or self._transport.is_closing():
            return
        if math.isinf(self._write_deadline) and len(self._waiting) <= _MAX_WAITING_REQUESTS:
            self._reading = True
            self._transport.resume_reading()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _answering(reply: Reply) -> App:
    """An application that has one answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's shape
        headers = list(reply.headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    return app
