"""
Connection: one client's socket; which of its requests is answered when, and when it is closed.

Requests that come while one is being answered wait for their turn, so that responses go out in
order. A client that does not send or does not take something in time loses its connection, by the
clock that all connections share (``Traffic.keep_time``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Any

from atomicbatch.model import Reply
from atomicbatch.problems import TITLES, problem_reply
from atomicbatch.server.http.reader import Head, Reader
from atomicbatch.server.http.request import App, Request
from atomicbatch.server.http.traffic import Traffic, closing

# Requests in a row before we stop reading: pipelining is rare, and floods are cheap to send.
_MAX_WAITING_REQUESTS = 16
# After an answer that ends the connection the client may still be sending. A socket that is closed
# with unread bytes is reset, and the client may never see the answer (RFC 9112, section 9.6).
_LINGER_SECONDS = 2.0
_MAX_LINGERING = 100
_TAKEN_BYTES = 64 * 1024


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
        self._reader = Reader(self, max_head_bytes=self._limits.max_head_bytes)
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

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or turn the client away if there are too many."""
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
        """Tell the application that the client is gone."""
        self._ended = True
        self._traffic.connections.discard(self)
        self._deadline = self._write_deadline = math.inf
        self._drop_waiting()
        if self._request is not None:
            self._request.hang_up()
        self._reader.close()

    def eof_received(self) -> None:
        """Treat the end of what the client sends as a hang-up, as asyncio does."""

    def data_received(self, data: bytes) -> None:
        """Read bytes."""
        self._reader.feed(data)

    def pause_writing(self) -> None:
        """Limit the time in which the client must take what it has been sent."""
        self._write_mark = self._transport.get_write_buffer_size()
        self._write_deadline = self._loop.time() + self._limits.write_seconds
        self._traffic.count_unsent()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._write_deadline = math.inf
        self._traffic.count_unsent()
        self._next()

    # Called by traffic.

    def check_time(self, now: float) -> None:
        """End the connection if the client has taken too long for something."""
        if now >= self._write_deadline:
            size = self._transport.get_write_buffer_size()
            if size > self._write_mark - _TAKEN_BYTES:
                self._transport.abort()
                return
            self._write_mark = size
            self._write_deadline = now + self._limits.write_seconds
        if now >= self._deadline:
            self._deadline = math.inf
            if self._reader.in_head:
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

    # Called by the server when it stops.

    @property
    def busy(self) -> bool:
        """Whether a whole request is being answered or waits to be."""
        request = self._request
        return request is not None and (request.complete or bool(self._waiting))

    def stop(self, reply: Reply) -> None:
        """Close the connection; a request that has not arrived as a whole gets ``reply``."""
        if self._request is not None and not self._request.complete:
            self._refuse(reply)
        elif self._request is None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # Called by a request.

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
        """Go on after a response, or end the connection."""
        if not request.keep_alive:
            self._end(at_once=request.complete)

    # Called by the reader.

    def take_head(self, head: Head) -> None:
        """A request has begun: it may be answered when its turn comes."""
        self._deadline = math.inf
        self._arriving = self._make(head)
        self._take(self._arriving, self._app)

    def take_body(self, body: bytes) -> None:
        """Hold bytes of a body, within the bound on all bodies together."""
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

    def take_end(self) -> None:
        """The request has arrived as a whole."""
        request, self._arriving = self._arriving, None
        if request is not None:
            request.end()

    def wait_for_head(self) -> None:
        """Limit the time in which the client must complete the head that has begun."""
        self._deadline = self._loop.time() + self._limits.head_seconds

    def refuse_head(self) -> None:
        """Refuse a head that is too long."""
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

    def refuse_malformed(self, why: str) -> None:
        """Refuse what is not an HTTP request."""
        slug = "malformed-request"
        self._refuse(problem_reply(400, slug, TITLES[slug], f"this is not an HTTP request: {why}"))

    # Inside

    def _make(self, head: Head) -> Request:
        return Request(self, head, client=self._peer, server=self._own)

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
            return  # the client does not take its answers: it gets no more
        if not self._waiting:
            self._resume_reading()
            if not self._ended and not self._reader.in_head:
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

    def _refuse(self, reply: Reply) -> None:
        """Answer in place of the application, when its turn comes, and end the connection."""
        reply = closing(reply)
        arriving, self._arriving = self._arriving, None
        self._stop_reading()
        self._deadline = math.inf
        if arriving is None:
            path = self._reader.target.partition(b"?")[0] or b"-"
            self._take(self._make(Head("-", path, [])), _answering(reply))
        elif arriving is self._request:
            arriving.refuse(reply)
        else:
            self._waiting[-1] = (arriving, _answering(reply))

    def _end(self, *, at_once: bool) -> None:
        """Close the connection once its last answer is sent; until then, read what still comes."""
        self._stop_reading()
        self._drop_waiting()
        now = self._loop.time()
        if at_once or not self._transport.can_write_eof():
            self._deadline = now + self._limits.write_seconds
            self._transport.close()
            return
        self._deadline = now + _LINGER_SECONDS
        self._transport.write_eof()
        self._resume_reading()

    def _stop_reading(self) -> None:
        """Ignore whatever still comes."""
        self._ended = True
        self._reader.end()

    def _drop_waiting(self) -> None:
        for request, _ in self._waiting:
            self._release(request)
        self._waiting.clear()

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
    """An application that always gives this answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's shape
        headers = list(reply.headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    return app
