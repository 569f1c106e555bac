"""Holding: what all batches of an endpoint hold together, and that it stays within its bounds."""

from __future__ import annotations

import threading

from atomicbatch.errors import LimitError
from atomicbatch.limits import EndpointLimits

# A handler in a thread may call back to the event loop and need another thread there.
_MIN_THREADS = 2


class Holding:
    """
    Counts batches, their bytes and their threads, from any thread.

    Args:
        limits: The bounds.
    """

    def __init__(self, limits: EndpointLimits) -> None:
        self.limits = limits
        self.batches = 0
        self.bytes = 0
        self.threads = 0
        # The garbage collector may give back what a dropped response held, inside of any of these.
        self.lock = threading.RLock()

    def refusal(self, limit: str, what: str) -> LimitError:
        """The error for a batch that would pass a bound."""
        maximum = getattr(self.limits, limit)
        error = LimitError(f"{what} (at most {maximum} at once)", limit=limit, maximum=maximum)
        error.status, error.slug = 503, "server-busy"
        return error


class Held:
    """What one batch holds. Nothing is counted before ``enter``."""

    __slots__ = ("_bytes", "_has_entered", "_holding", "_threads")

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._has_entered = False
        self._bytes = 0
        self._threads = 0

    def enter(self) -> None:
        """
        The batch is about to be received.

        Raises:
            LimitError: There are as many as may be.
        """
        holding = self._holding
        with holding.lock:
            if holding.batches >= holding.limits.max_batches:
                raise holding.refusal("max_batches", "too many batches are being received or run")
            holding.batches += 1
        self._has_entered = True

    def take(self, count: int) -> None:
        """
        The batch holds so many more bytes.

        Raises:
            LimitError: All batches together would hold too many.
        """
        holding = self._holding
        with holding.lock:
            if holding.bytes + count > holding.limits.max_held_bytes:
                raise holding.refusal("max_held_bytes", "all batches together hold too many bytes")
            holding.bytes += count
        self._bytes += count

    def take_threads(self) -> int:
        """Tell how many worker threads its calls may use; fewer where others have taken many."""
        holding, limits = self._holding, self._holding.limits
        with holding.lock:
            left = min(limits.max_batch_threads, limits.max_threads - holding.threads)
            self._threads = max(min(_MIN_THREADS, limits.max_batch_threads), left)
            holding.threads += self._threads
        return self._threads

    def give_back(self) -> None:
        """The batch has been answered; a second time does nothing."""
        holding = self._holding
        with holding.lock:
            holding.batches -= self._has_entered
            holding.bytes -= self._bytes
            holding.threads -= self._threads
            self._has_entered, self._bytes, self._threads = False, 0, 0
