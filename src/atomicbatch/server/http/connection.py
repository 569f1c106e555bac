"""
Connection: one client's socket; which of its requests is answered when, and when it is closed.

Requests that come while one is being answered wait for their turn, so that responses go out in
order. A client that does not send or does not take something in time loses its connection, by the
clock that all connections share (``Traffic.keep_time``).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from functools import partial

from atomicbatch.errors import AtomicBatchError, LimitError
from atomicbatch.exchange import body_too_slow
from atomicbatch.model import Reply
from atomicbatch.server.http.answering import Answer, Answering
from atomicbatch.server.http.app import HEALTH_PATH, Application
from atomicbatch.server.http.patience import Patience
from atomicbatch.server.http.reader import Head, Reader
from atomicbatch.server.http.replies import (
    head_too_long,
    head_too_slow,
    no_request,
)
from atomicbatch.server.http.request import Request
from atomicbatch.server.http.traffic import Traffic, closing

# If a client is this far ahead of the request that is being answered, we stop reading from it.
_AHEAD_BYTES = 256 * 1024
# Up to this size, head and body go out together. Copying more costs more than a second write.
_TOGETHER_BYTES = 64 * 1024
# Requests in a row before we stop reading: pipelining is rare, and floods are cheap to send.
_MAX_WAITING_REQUESTS = 16
# After an answer that ends the connection the client may still be sending. A socket that is closed
# with unread bytes is reset, and the client may never see the answer (RFC 9112, section 9.6).
_LINGER_SECONDS = 2.0
_MAX_LINGERING = 100


class Connection(asyncio.Protocol):
    """
    One client's connection.

    Args:
        application: Answers.
        traffic: What this process holds, and its bounds.
    """

    _transport: asyncio.Transport

    def __init__(self, application: Application, traffic: Traffic) -> None:
        self._application = application
        self._traffic = traffic
        self._limits = traffic.limits
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(self, max_head_bytes=self._limits.max_head_bytes)
        self._client = "-"
        self._patience = Patience(self._limits.write_seconds)
        self._reading = True
        self._ended = False  # nothing that comes is read any more
        self._gone = False  # the client, and the socket with it
        self._is_next_due = False  # the event loop is about to begin with the next request
        self._waiting: deque[Request] = deque()
        self._request: Request | None = None  # the one that is being answered
        self._arriving: Request | None = None  # the one whose body is coming

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or turn the client away if there are too many."""
        self._transport = transport
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._client = str(name[0])
        connections, maximum = self._traffic.connections, self._limits.max_connections
        connections.add(self)
        if len(connections) > maximum + _MAX_LINGERING:
            transport.abort()
        elif len(connections) > maximum:
            self._refuse(self._traffic.too_many_connections())
        else:
            self._patience.head = self._loop.time() + self._limits.idle_seconds

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """End what the client has asked for: it is gone."""
        self._ended = self._gone = True
        self._traffic.connections.discard(self)
        self._patience.end()
        self._drop_waiting()
        request = self._request
        if request is not None:
            if request.started and request.answering is not None:
                request.answering.abandon()  # it is over once there is an answer
            else:
                self._finish(request)
        self._reader.close()

    def eof_received(self) -> None:
        """Treat the end of what the client sends as a hang-up, as asyncio does."""

    def data_received(self, data: bytes) -> None:
        """Read bytes, and begin with what they complete."""
        self._reader.feed(data)
        request = self._request
        if request is None:
            if self._waiting:
                self._next()
        elif request.complete and not request.started:
            self._start(request)

    def pause_writing(self) -> None:
        """Limit the time in which the client must take what it has been sent."""
        unsent = self._transport.get_write_buffer_size()
        self._patience.limit_taking(self._loop.time(), unsent)
        self._traffic.count_unsent()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._patience.note_taken()
        self._traffic.count_unsent()
        self._next()

    # Called by traffic.

    def check_time(self, now: float) -> None:
        """End the connection if the client has taken too long for something."""
        patience = self._patience
        if patience.takes_nothing(now, self._transport.get_write_buffer_size()):
            self._transport.abort()
            return
        if now >= patience.body:
            self._refuse_body(body_too_slow())
        if now >= patience.head:
            patience.head = math.inf
            if self._reader.in_head:
                self._refuse(head_too_slow(self._limits.head_seconds))
            elif self._ended or self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def unsent_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return 0 if self._patience.has_taken else self._transport.get_write_buffer_size()

    # Called by the server when it stops.

    @property
    def busy(self) -> bool:
        """Whether a whole request is being answered or waits to be."""
        request = self._request
        if request is None:
            return self._is_next_due
        return request.complete or bool(self._waiting)

    def stop(self, reply: Reply) -> None:
        """Close the connection; a request that has not arrived as a whole gets ``reply``."""
        if self._request is not None and not self._request.complete:
            self._refuse(reply)
        elif self._request is None and not self._is_next_due:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # Called by the reader.

    def take_head(self, head: Head) -> None:
        """A request has begun: it may be answered when its turn comes."""
        self._patience.head = math.inf
        self._arriving = Request(head, self._application.limits)
        self._take(self._arriving)

    def take_body(self, body: bytes) -> None:
        """Hold bytes of a body, within the bound on all bodies together."""
        request = self._arriving
        if request is None or request.answered:
            return
        traffic = self._traffic
        if traffic.upload_bytes + len(body) > self._limits.max_upload_bytes:
            self._refuse(traffic.too_much_uploaded())
            return
        traffic.upload_bytes += len(body)
        request.held += len(body)
        if request is not self._request or request.answering is None:
            request.ahead.append(body)
            if request.held > _AHEAD_BYTES:
                self._pause_reading()
        else:
            self._take_piece(request, body)

    def take_end(self) -> None:
        """The request has arrived as a whole."""
        request, self._arriving = self._arriving, None
        if request is not None:
            request.complete = True
            self._patience.body = math.inf

    def wait_for_head(self) -> None:
        """Limit the time in which the client must complete the head that has begun."""
        self._patience.head = self._loop.time() + self._limits.head_seconds

    def refuse_head(self) -> None:
        """Refuse a head that is too long."""
        self._refuse(head_too_long(self._limits.max_head_bytes))

    def refuse_malformed(self, why: str) -> None:
        """Refuse what is not an HTTP request."""
        self._refuse(no_request(why))

    # Inside

    def _take(self, request: Request) -> None:
        self._waiting.append(request)
        if len(self._waiting) > _MAX_WAITING_REQUESTS:
            self._pause_reading()

    def _next(self) -> None:
        """Begin with the next request that waits, or wait for one."""
        self._is_next_due = False
        if self._request is not None or self._gone or self._transport.is_closing():
            return
        if not self._patience.has_taken:
            return  # the client does not take its answers: it gets no more
        if not self._waiting:
            self._resume_reading()
            if not self._ended and not self._reader.in_head:
                self._patience.head = self._loop.time() + self._limits.idle_seconds
            return
        request = self._request = self._waiting.popleft()
        instead = request.instead
        if instead is None and request.asked.path != HEALTH_PATH:
            instead = self._traffic.admits()
        self._traffic.running.add(request)
        if instead is not None:
            self._answer(request, instead)
            return
        try:
            answer = self._application.begin(request.asked)
        except Exception as error:
            self._answer(request, error)
            return
        if not isinstance(answer, Answering):
            self._answer(request, answer)
            return
        request.answering = answer
        self._go_on(request)

    def _go_on(self, request: Request) -> None:
        """The head may pass: ask for the body, and begin once all of it is there."""
        if request.expects_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while request.ahead and not request.answered:
            self._take_piece(request, request.ahead.popleft())
        if request.answered:
            return
        # Also if the body is there: a hang-up is seen by reading only.
        self._resume_reading()
        if request.complete:
            self._start(request)
        else:
            self._patience.body = self._loop.time() + self._application.limits.timeout_seconds

    def _take_piece(self, request: Request, piece: bytes) -> None:
        try:
            request.upload.take(piece)
        except LimitError as error:
            self._refuse_body(error)

    def _refuse_body(self, error: AtomicBatchError) -> None:
        """End a request whose body is too long, or too slow."""
        self._patience.body = math.inf
        request = self._request
        if request is not None and request.answering is not None and not request.started:
            self._answer(request, request.answering.refusal(error))

    def _start(self, request: Request) -> None:
        """Have the answer made; it comes by ``_told``."""
        answering = request.answering
        if answering is None or request.answered:
            return
        request.started = True
        try:
            answering.start(request.upload, partial(self._tell, request))
        except Exception as error:
            self._answer(request, error)

    def _tell(self, request: Request, answer: Answer | BaseException) -> None:
        """Take an answer, in any thread."""
        with suppress(RuntimeError):  # the event loop is closed, and the server has ended
            self._loop.call_soon_threadsafe(self._answer, request, answer)

    def _answer(self, request: Request, answer: Answer | BaseException) -> None:
        """Send the response, if anybody waits for it, and go on with the next request."""
        if self._request is not request:
            return  # there was one already
        if not self._gone:
            try:
                self._respond(request, request.answer_of(answer))
            except Exception as error:
                self._respond(request, request.answer_of(error))
        self._finish(request)

    def _respond(self, request: Request, answer: Answer) -> None:
        head, body = request.response(answer.status, answer.headers, answer.body)
        if not self._transport.is_closing():
            if len(body) <= _TOGETHER_BYTES:
                self._transport.write(head + body)
            else:
                self._transport.write(head)
                self._transport.write(body)
        if not request.keep_alive:
            self._end(at_once=request.complete)

    def _finish(self, request: Request) -> None:
        """The request is over."""
        request.answering = None  # which refers to the request, and to all that it has come to
        self._release(request)
        self._traffic.running.discard(request)
        self._log(request)
        self._request = None
        self._patience.body = math.inf
        if self._arriving is request:
            self._arriving = None
        if self._waiting:
            # Not at once: others want their turn too.
            self._is_next_due = True
            self._loop.call_soon(self._next)
        else:
            self._next()

    def _release(self, request: Request) -> None:
        self._traffic.upload_bytes -= request.held
        request.held = 0

    def _log(self, request: Request) -> None:
        if self._traffic.log is not None:
            request.log(self._traffic.log, self._client)

    def _refuse(self, reply: Reply) -> None:
        """Answer in place of the application, when its turn comes, and end the connection."""
        reply = closing(reply)
        arriving, self._arriving = self._arriving, None
        self._stop_reading()
        self._patience.head = math.inf
        if arriving is None:
            path = self._reader.target.partition(b"?")[0] or b"-"
            head = Head("-", path, [])
            self._take(Request(head, self._application.limits, instead=reply))
            self._next()
        elif arriving is self._request:
            self._answer(arriving, reply)
        else:
            arriving.instead = reply

    def _end(self, *, at_once: bool) -> None:
        """Close the connection once its last answer is sent; until then, read what still comes."""
        self._stop_reading()
        self._drop_waiting()
        now = self._loop.time()
        if at_once or not self._transport.can_write_eof():
            self._patience.head = now + self._limits.write_seconds
            self._transport.close()
            return
        self._patience.head = now + _LINGER_SECONDS
        self._transport.write_eof()
        self._resume_reading()

    def _stop_reading(self) -> None:
        """Ignore whatever still comes."""
        self._ended = True
        self._reader.end()

    def _drop_waiting(self) -> None:
        for request in self._waiting:
            self._release(request)
        self._waiting.clear()

    def _pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading or self._transport.is_closing():
            return
        if self._patience.has_taken and len(self._waiting) <= _MAX_WAITING_REQUESTS:
            self._reading = True
            self._transport.resume_reading()
