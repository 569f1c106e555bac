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
    """A connection, as far as traffic is concerned."""

    def check_time(self, now: float) -> None:
        """Do what is due: a time that has passed ends the connection."""

    def unsent_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""


class Traffic:
    """
    All connections of a process and what they hold, with one clock for all of them.

    Attributes:
        limits: The bounds.
        log: Where each request leaves a line; None: nowhere.
        connections: Those that are open.
        running: The tasks of the requests that are being answered.
        upload_bytes: Bytes of request bodies held.
        unsent_bytes: Bytes of answers that slow clients have not taken yet.
    """

    def __init__(self, limits: ServerLimits, log: AccessLog | None = None) -> None:
        self.limits = limits
        self.log = log
        self.connections: set[Held] = set()
        self.running: set[asyncio.Task[None]] = set()
        self.upload_bytes = 0
        self.unsent_bytes = 0

    async def keep_time(self) -> None:
        """
        Look at every connection four times a second, for ever.

        One clock for all is cheaper than a timer for each request, and sees a client that sends a
        byte now and then just as one that sends none.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self.connections):
                try:
                    connection.check_time(now)
                except Exception:  # the clock of all the others must not stop
                    _log.exception("looking at a connection failed")
            self.count_unsent()

    def count_unsent(self) -> None:
        """Bring ``unsent_bytes`` up to date."""
        self.unsent_bytes = sum(connection.unsent_bytes() for connection in self.connections)

    def admits(self) -> Reply | None:
        """Why no further request is taken now, or None: it may run."""
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
        See whether another answer may be made, right before it is: many may have waited.

        Raises:
            LimitError: Clients have yet to take too many.
        """
        maximum = self.limits.max_unsent_bytes
        if self.unsent_bytes > maximum:
            detail = f"clients have yet to take {maximum} bytes of answers"
            raise _busy("max_unsent_bytes", maximum, detail)

    def too_many_connections(self) -> Reply:
        """Answer a connection beyond the bound."""
        maximum = self.limits.max_connections
        return _refusal("max_connections", maximum, f"{maximum} connections are open")

    def too_much_uploaded(self) -> Reply:
        """Answer a request whose body would be more than all bodies together may be."""
        maximum = self.limits.max_upload_bytes
        detail = f"the request bodies held at this moment come to {maximum} bytes"
        return _refusal("max_upload_bytes", maximum, detail)


def _busy(limit: str, maximum: float, detail: str) -> LimitError:
    """503: a bound of ``ServerLimits`` is reached."""
    error = LimitError(f"{detail} already; try again later", limit=limit, maximum=maximum)
    error.status, error.slug = 503, "server-busy"
    return error


def _refusal(limit: str, maximum: float, detail: str) -> Reply:
    return closing(error_reply(_busy(limit, maximum, detail)))


def closing(reply: Reply) -> Reply:
    """The same reply to a request of which nothing has run; then the connection is closed."""
    # Also where it is not known, or not looked at, whether it is a batch.
    return reply._replace(headers=(*reply.headers, _CLOSE, NOT_STARTED))
