"""Upload: the body of a request as it arrives, within its bounds."""

from __future__ import annotations

from atomicbatch.big_bytes import concatenated
from atomicbatch.errors import LimitError, TimeoutExceededError
from atomicbatch.exchange.holding import Held
from atomicbatch.limits import Limits


class Upload:
    """
    Takes a body piece by piece.

    Args:
        limits: Its ``max_body_bytes`` is the bound.
        held: Counts the bytes, for whoever bounds all batches together.

    Attributes:
        size: Bytes that have arrived.
    """

    __slots__ = ("_held", "_limits", "_pieces", "size")

    def __init__(self, limits: Limits, held: Held | None = None) -> None:
        self._limits = limits
        self._held = held
        self._pieces: list[bytes] = []
        self.size = 0

    def take(self, piece: bytes) -> None:
        """
        Take the next piece.

        Raises:
            LimitError: This is more than may arrive: stop reading.
        """
        self._pieces.append(piece)
        self.size += len(piece)
        if self.size > self._limits.max_body_bytes:
            raise body_too_long(self._limits)
        if self._held is not None:
            self._held.take(len(piece))

    def body(self) -> bytes:
        """Put the pieces together; long ones take a while."""
        return concatenated(self._pieces) if self._pieces else b""

    def take_all(self) -> bytes:
        """Put the pieces together and let go of them, for whoever keeps the upload for longer."""
        pieces, self._pieces = self._pieces, []
        return concatenated(pieces) if pieces else b""


def body_too_long(limits: Limits) -> LimitError:
    """Make the error for a body of more than ``limits.max_body_bytes``."""
    return LimitError(
        f"the body is longer than {limits.max_body_bytes} bytes",
        limit="max_body_bytes",
        maximum=limits.max_body_bytes,
    )


def body_too_slow() -> TimeoutExceededError:
    """Make the error for a body that takes longer to arrive than the batch's time limit: 408."""
    error = TimeoutExceededError("the body took too long to arrive")
    error.status = 408
    return error
