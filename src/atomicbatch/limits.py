"""Limits: each bound, its unit, where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds on one batch. A bound that is passed is named in the problem that refuses the batch.

    Raises:
        ValueError: A bound is not positive.
    """

    max_calls: int = 1000
    """Calls in one batch. Google and its clients stop at 1000."""
    max_body_bytes: int = 10 * 1024 * 1024
    """Bytes of the outer body, also after its Content-Encoding is undone (Google: 10 MB)."""
    max_header_bytes: int = 64 * 1024
    """Bytes of one call's request line and headers; Node's default is 16 KiB."""
    max_header_lines: int = 200
    """Header lines of one call; Apache's LimitRequestFields is 100."""
    max_reply_bytes: int = 64 * 1024 * 1024
    """Bytes of all reply bodies of one batch together: they are held until COMMIT has returned."""
    timeout_seconds: float = 30.0
    """Time for the whole batch, replays included."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"limit {name} must be positive, not {getattr(self, name)!r}")
