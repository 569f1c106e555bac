"""Request: one request of a connection, and its response as bytes."""

from __future__ import annotations

import logging
import time
from collections import deque
from http import HTTPStatus

from atomicbatch.errors import AtomicBatchError
from atomicbatch.exchange import Upload, http_date
from atomicbatch.limits import Limits
from atomicbatch.model import Headers, Reply
from atomicbatch.server.http.access_log import AccessLog, Entry
from atomicbatch.server.http.answering import Answer, Answering, Asked
from atomicbatch.server.http.reader import Head
from atomicbatch.server.http.replies import framed, internal_error

_log = logging.getLogger("atomicbatch.server")

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CLOSE = (b"connection", b"close")


class Request:
    """
    One request, from its head to its response.

    Args:
        head: Its line and headers.
        limits: Bounds on its body.
        instead: What it is answered with in place of what the application says.

    Attributes:
        asked: Its head, as the application sees it.
        expects_continue: The client waits for a 100 before it sends the body.
        upload: Its body, as far as it has come and its turn too.
        ahead: Pieces of its body that have come before its turn.
        held: How many bytes of its body count as held.
        complete: It has arrived as a whole.
        answering: Makes its answer; None: its turn has not come, or needs none.
        started: The answer is being made.
        keep_alive: The connection stays open after the response.
        began: When its head was there, in seconds of ``time.perf_counter()``.
        status: The response's, once there is one.
        size: Bytes of the response's body.
        attempts: How often a batch was run, if more than once.
    """

    __slots__ = (
        "ahead",
        "answering",
        "asked",
        "attempts",
        "began",
        "complete",
        "expects_continue",
        "held",
        "instead",
        "keep_alive",
        "size",
        "started",
        "status",
        "upload",
    )

    def __init__(self, head: Head, limits: Limits, *, instead: Reply | None = None) -> None:
        path, _, query = head.target.partition(b"?")
        self.asked = Asked(head.method, path, query, tuple(head.headers), Entry())
        self.expects_continue = head.expects_continue
        self.keep_alive = head.keep_alive
        self.instead = instead
        self.upload = Upload(limits)
        self.ahead: deque[bytes] = deque()
        self.held = 0
        self.complete = self.started = False
        self.answering: Answering | None = None
        self.began = time.perf_counter()
        self.status: int | None = None
        self.size = 0
        self.attempts: bytes | None = None

    @property
    def answered(self) -> bool:
        """The response has been handed over."""
        return self.status is not None

    def response(self, status: int, headers: Headers, body: bytes) -> tuple[bytes, bytes]:
        """
        Write the response.

        Returns:
            Its head and its body.

        Raises:
            RuntimeError: A header holds a line break.
        """
        sent, body = framed(self.asked.method, status, headers, body)
        if not self.complete or _CLOSE in sent:
            # The rest of the body will not be read.
            self.keep_alive = False
        is_told = False
        lines = []
        for header in sent:
            name = header[0]
            lines.append(b"%b: %b\r\n" % header)
            if name == b"batch-outcome":
                if self.asked.entry.outcome is None:
                    self.asked.entry.outcome = header[1]
            elif name == b"batch-attempts":
                self.attempts = header[1]
            elif name == b"connection":
                is_told = True
        if not self.keep_alive and not is_told:
            lines.append(b"connection: close\r\n")
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
        date = http_date(int(time.time()))
        head = b"%bdate: %b\r\n%b\r\n" % (line, date, b"".join(lines))
        ends = len(lines) + 3
        if head.count(b"\n") != ends or head.count(b"\r") != ends:
            raise RuntimeError("a header of the response holds a line break")
        self.status, self.size = status, len(body)
        return head, body

    def answer_of(self, answer: Answer | BaseException) -> Answer:
        """The answer, also where there is an error in its place."""
        if not isinstance(answer, BaseException):
            return answer
        if isinstance(answer, AtomicBatchError) and self.answering is not None:
            return self.answering.refusal(answer)
        _log.error("an exception escaped the application", exc_info=answer)
        return internal_error()

    def log(self, log: AccessLog, client: str) -> None:
        """Log it, once it is over."""
        log.request(
            client=client,
            method=self.asked.method,
            path=self.asked.path,
            status=self.status,
            seconds=time.perf_counter() - self.began,
            size=self.size,
            attempts=self.attempts,
            entry=self.asked.entry,
        )
