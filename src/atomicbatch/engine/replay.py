"""Replay: when a whole batch is run again, and how long to wait first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """
    How often a batch that met a conflict is run, and how long it waits before it runs again.

    The wait is random, up to a bound that doubles each time (full jitter), so that batches that
    have met once do not meet again in step.

    Raises:
        ValueError: Less than one attempt, or a negative time.
    """

    max_attempts: int = 5
    """Runs of one batch, the first included; 1 turns replay off."""
    base_seconds: float = 0.005
    """Longest wait after the first attempt. It doubles with each attempt."""
    max_seconds: float = 1.0
    """Longest wait after any attempt."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts!r}")
        if self.base_seconds < 0 or self.max_seconds < 0:
            raise ValueError("base_seconds and max_seconds must not be negative")

    def delay_seconds(self, attempt: int, random: float) -> float:
        """
        Return how long to wait after an attempt that met a conflict.

        Args:
            attempt: The attempt that failed, 1 for the first.
            random: A number from 0 (included) to 1 (excluded).
        """
        # The exponent is bounded, since 2.0 ** 1024 overflows; max_seconds counts long before.
        return min(self.max_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 60)) * random
