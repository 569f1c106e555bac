"""
Observers: what happens to batches, told once to whoever listens: logs, traces, metrics.

``logs.py`` is the first listener. Others are told side by side with it by :class:`Observers`.
"""

from __future__ import annotations

import logging

from atomicbatch.errors import ConflictError, UnknownOutcomeError
from atomicbatch.model import Batch, Fate, Outcome, Reply

logger = logging.getLogger("atomicbatch")


class Observer:
    """
    Listens to what happens to batches. Its methods do nothing; override those you want.

    They are called in the thread or task of the batch, with its context variables, and hold it up.
    The last of them, for each batch, is exactly one of ``committed``, ``rolled_back``, ``unknown``,
    ``not_started`` and ``abandoned``.
    """

    def attempt_begun(self, batch: Batch, attempt: int) -> None:
        """Tell that a batch is about to begin its transaction; ``attempt`` is 1 for the first."""

    def call_performed(
        self, batch: Batch, index: int, reply: Reply | None, error: Exception | None
    ) -> None:
        """Tell that a call (0-based) has given a reply, or raised an error."""

    def conflict_met(self, batch: Batch, attempt: int, error: ConflictError) -> None:
        """Tell that an attempt was rolled back for another transaction's sake."""

    def replay_planned(self, batch: Batch, attempt: int, delay_seconds: float) -> None:
        """Tell that the batch runs again, as ``attempt``, after it has waited."""

    def committed(
        self, batch: Batch, outcome: Outcome, last_conflict: ConflictError | None
    ) -> None:
        """Tell that COMMIT has returned, and which conflict the attempt before has met."""

    def rolled_back(self, batch: Batch, outcome: Outcome) -> None:
        """Tell that a batch was undone, after a failure or because it was a dry run."""

    def unknown(self, batch: Batch, error: UnknownOutcomeError) -> None:
        """Tell that nobody knows what COMMIT has come to."""

    def not_started(self, batch: Batch, error: Exception) -> None:
        """Tell that a batch was given up before its first call was performed."""

    def abandoned(self, batch: Batch, fate: Fate, error: BaseException | None) -> None:
        """Tell that a batch was cancelled, or interrupted by Ctrl-C, and how it ended."""


_EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observers(Observer):
    """
    Several observers as one. What one of them raises is logged, and fails no batch.

    Attributes:
        hear_calls: One of them wants to be told of each call.
    """

    def __init__(self, *observers: Observer) -> None:
        # Only those who listen are called: a batch has up to thousands of calls.
        self._heard = {
            event: tuple(
                getattr(one, event)
                for one in observers
                if getattr(type(one), event) is not getattr(Observer, event)
            )
            for event in _EVENTS
        }
        self.hear_calls = bool(self._heard["call_performed"])

    @classmethod
    def of(cls, observer: Observer) -> Observers:
        """Return an observer as several, so that it can fail no batch."""
        return observer if isinstance(observer, Observers) else cls(observer)

    def attempt_begun(self, batch: Batch, attempt: int) -> None:
        self._tell("attempt_begun", batch, attempt)

    def call_performed(
        self, batch: Batch, index: int, reply: Reply | None, error: Exception | None
    ) -> None:
        self._tell("call_performed", batch, index, reply, error)

    def conflict_met(self, batch: Batch, attempt: int, error: ConflictError) -> None:
        self._tell("conflict_met", batch, attempt, error)

    def replay_planned(self, batch: Batch, attempt: int, delay_seconds: float) -> None:
        self._tell("replay_planned", batch, attempt, delay_seconds)

    def committed(
        self, batch: Batch, outcome: Outcome, last_conflict: ConflictError | None
    ) -> None:
        self._tell("committed", batch, outcome, last_conflict)

    def rolled_back(self, batch: Batch, outcome: Outcome) -> None:
        self._tell("rolled_back", batch, outcome)

    def unknown(self, batch: Batch, error: UnknownOutcomeError) -> None:
        self._tell("unknown", batch, error)

    def not_started(self, batch: Batch, error: Exception) -> None:
        self._tell("not_started", batch, error)

    def abandoned(self, batch: Batch, fate: Fate, error: BaseException | None) -> None:
        self._tell("abandoned", batch, fate, error)

    def _tell(self, event: str, *what: object) -> None:
        for listener in self._heard[event]:
            try:
                listener(*what)
            except Exception:
                logger.exception("an observer of batches failed at %s", event)
