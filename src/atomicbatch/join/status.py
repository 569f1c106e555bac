"""
Status: may the batch go on, and if not, why. Everybody in the join asks it; it asks nobody.

Each of the three has one state, and each state is a value of one enumeration::

    the attempt       RUNNING -> ENDED or UNDONE                                     Phase
    its transactions  NEW -> OPEN -> ENDING -> SEALED -> COMMITTING -> SENT          Stage
                                        `--------`-----------------> OVER
    its connections   SOUND -> INTERRUPTED -> LOST -> SEVERED, never back            Health
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import NoReturn

from atomicbatch.advice import ARGUMENTS
from atomicbatch.errors import (
    BrokenTransactionError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
)


class Phase(Enum):
    """The state of an attempt at a batch."""

    RUNNING = "running"
    ENDED = "ended"
    """It is being committed, or has been."""
    UNDONE = "undone"
    """It is being rolled back, or has been."""


class Stage(IntEnum):
    """The state of a real transaction."""

    NEW = 0
    OPEN = 1
    ENDING = 2
    """COMMIT or ROLLBACK is under way; what is sent for it is not interrupted any more."""
    SEALED = 3
    """It does not give way to others any more."""
    COMMITTING = 4
    """COMMIT is being sent."""
    SENT = 5
    """COMMIT has been sent, and the connection is given back."""
    OVER = 6
    """It was rolled back, and the connection is given back."""


class Health(IntEnum):
    """The state of a connection."""

    SOUND = 0
    INTERRUPTED = 1
    """Its server was asked to stop a statement: a late request may still hit the next one."""
    LOST = 2
    """Nothing more is sent on it."""
    SEVERED = 3
    """We have cut it off."""


# Asked for each statement; an enumeration's attribute takes longer.
_RUNNING = Phase.RUNNING


def _nowhere() -> str:
    return ""


class Status:
    """
    The status of one attempt at a batch.

    Attributes:
        phase: Whether it runs, or how it ends.
        error: Why it cannot be committed, or None.
        has_escaped: Something of it may be stored, although it cannot be committed.
        is_stopped: Time is up, or nobody waits for the batch any more.
        advice: What to do instead of what is refused.

    Args:
        place: Names the app's function that runs now, for messages; empty: nobody knows.
    """

    def __init__(self, place: Callable[[], str] = _nowhere) -> None:
        self.phase = Phase.RUNNING
        self.error: TransactionError | None = None
        self.has_escaped = False
        self.is_stopped = False
        self.advice = ARGUMENTS
        self._place = place

    @property
    def active(self) -> bool:
        """The attempt runs."""
        return self.phase is _RUNNING

    @property
    def may_go_on(self) -> bool:
        """The attempt runs, and nothing is wrong."""
        return self.phase is _RUNNING and self.error is None

    def check(self) -> None:
        """Refuse to go on after an error."""
        if self.error is not None:
            raise self.error

    def doom(self, error: TransactionError) -> None:
        """Note that the batch cannot be committed. The first reason counts."""
        if self.error is None and self.phase is _RUNNING:
            self.error = error

    def escaped(self, what: str) -> BrokenTransactionError:
        """Note that something may be stored already. That counts more than any other reason."""
        error = BrokenTransactionError(what)
        self.error, self.has_escaped = error, True
        return error

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: what a handler does cannot be made part of it."""
        raise self.refusal(what)

    def refusal(self, what: str) -> NotBatchableError:
        """Fail the batch, and make the error to raise. It names the app's function."""
        error = NotBatchableError(what)
        error.stands_at(self._place())
        self.doom(error)
        return error

    def time_is_up(self) -> TransactionError | None:
        """The error for a COMMIT that would come too late, or None."""
        if not self.is_stopped:
            return None
        return TimeoutExceededError("the time limit of the batch passed before COMMIT")
