"""Patience: how long one client may take, to send and to take what it is sent."""

from __future__ import annotations

import math

# A client that takes less than this in one limit takes nothing.
_TAKEN_BYTES = 64 * 1024


class Patience:
    """
    Until when a client is waited for, in seconds of the event loop's clock; ``inf``: for ever.

    Attributes:
        head: A head that has begun, the next request, or the end of a connection that is closed.
        body: The rest of a body.
    """

    __slots__ = ("_seconds", "_taking", "_unsent", "body", "head")

    def __init__(self, write_seconds: float) -> None:
        self.head = self.body = math.inf
        # The same for what the client has been sent, and how much it had not taken at the start.
        self._taking = math.inf
        self._unsent = 0
        self._seconds = write_seconds

    def end(self) -> None:
        """Nobody waits for anything any more."""
        self.head = self.body = self._taking = math.inf

    def limit_taking(self, now: float, unsent: int) -> None:
        """The client is to take what it has been sent, ``unsent`` bytes."""
        self._taking, self._unsent = now + self._seconds, unsent

    def note_taken(self) -> None:
        """The client has taken it."""
        self._taking = math.inf

    @property
    def has_taken(self) -> bool:
        """The client takes what it is sent."""
        return math.isinf(self._taking)

    def takes_nothing(self, now: float, unsent: int) -> bool:
        """Tell whether it has taken next to nothing, for too long; if it does, it has more time."""
        if now < self._taking:
            return False
        if unsent > self._unsent - _TAKEN_BYTES:
            return True
        self.limit_taking(now, unsent)
        return False
