"""Traffic: what one process holds for its clients at this moment, and the bounds on it."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from atomicbatch.errors import LimitError
from atomicbatch.limits import ServerLimits
from atomicbatch.model import Header, Reply
from atomicbatch.problems import error_reply
from atomicbatch.server.http.access_log import AccessLog
from atomicbatch.server.http.replies import NOT_STARTED

_log = logging.getLogger("atomicbatch.server")
_SWEEP_SECONDS = 0.25
_CLOSE: Header = (b"connection", b"close")


class Held(Protocol):
    """A connection, as far as its bounds are concerned."""

    def check_time(self, now: float) -> None:
        """End the connection if a time that it has been given is over."""

    def unsent_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""


class Traffic:
    """
    All connections of a process and what they hold, with one clock for all of them.

    Attributes:
        limits: The bounds.
        log: Gets a line for each request; None: there is no access log.
        connections: The open ones.
        running: The requests that are being answered, also if nobody waits for it any more.
        upload_bytes: Bytes of request bodies held.
        unsent_bytes: Bytes of answers that slow clients have not taken yet.
    """

    def __init__(self, limits: ServerLimits, log: AccessLog | None = None) -> None:
        self.limits = limits
        self.log = log
        self.connections: set[Held] = set()
        self.running: set[object] = set()
        self.upload_bytes = 0
        self.unsent_bytes = 0

    async def keep_time(self) -> None:
        """
        Look at every connection four times a second, for ever.

        One clock for all is cheaper than a timer for each request. It catches a client that sends a
        byte now and then as well as one that sends none.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self.connections):
                try:
                    connection.check_time(now)
                except Exception:  # the others still need the clock
                    _log.exception("checking a connection's time failed")
            self.count_unsent()

    def count_unsent(self) -> None:
        """Bring ``unsent_bytes`` up to date."""
        self.unsent_bytes = sum(connection.unsent_bytes() for connection in self.connections)

    def admits(self) -> Reply | None:
        """Why no further request is accepted now; None: it may run."""
        maximum = self.limits.max_requests
        if len(self.running) >= maximum:
            return _refusal("max_requests", maximum, f"{maximum} requests are being answered")
        try:
            self.check_unsent()
        except LimitError as error:
            return closing(error_reply(error))
        return None

    def check_unsent(self) -> None:
        """
        Check that another answer may be made. Called right before it is made, as many may wait.

        Raises:
            LimitError: The answers that clients have not taken yet are too long together.
        """
        maximum = self.limits.max_unsent_bytes
        if self.unsent_bytes > maximum:
            detail = f"clients have yet to take {maximum} bytes of answers"
            raise _busy("max_unsent_bytes", maximum, detail)

    def too_many_connections(self) -> Reply:
        """The answer to a connection beyond the bound."""
        maximum = self.limits.max_connections
        return _refusal("max_connections", maximum, f"{maximum} connections are open")

    def too_much_uploaded(self) -> Reply:
        """The answer to a request whose body is too much for what all bodies together may be."""
        maximum = self.limits.max_upload_bytes
        detail = f"the request bodies held at this moment come to {maximum} bytes"
        return _refusal("max_upload_bytes", maximum, detail)


def _busy(limit: str, maximum: float, detail: str) -> LimitError:
    """503: a bound of ``ServerLimits`` has been reached."""
    error = LimitError(f"{detail} already; try again later", limit=limit, maximum=maximum)
    error.status, error.slug = 503, "server-busy"
    return error


def _refusal(limit: str, maximum: float, detail: str) -> Reply:
    return closing(error_reply(_busy(limit, maximum, detail)))


def closing(reply: Reply) -> Reply:
    """The reply, marked: nothing has run, and the connection will be closed."""
    # Batch-Outcome also if nobody knows, or has looked, whether the request is a batch.
    return reply._replace(headers=(*reply.headers, _CLOSE, NOT_STARTED))
