"""Attempts at one batch: how far the current one has come, and what follows from how it ended."""

from __future__ import annotations

import random
from concurrent.futures import Future
from enum import Enum
from typing import NoReturn, TypeVar

from atomicbatch.engine.deadline import Deadline
from atomicbatch.engine.execution import Execution
from atomicbatch.engine.observer import Observers
from atomicbatch.engine.policy import Policy
from atomicbatch.engine.replay import Replay
from atomicbatch.engine.transaction import Rollback
from atomicbatch.engine.turns import Line, Turn, Turns
from atomicbatch.errors import (
    BrokenTransactionError,
    BusyError,
    ConflictError,
    TimeoutExceededError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.model import Batch, Fate, Outcome, Reply

M = TypeVar("M")


class Phase(Enum):
    """How far an attempt has come."""

    RUNNING = "running"
    """BEGIN, the calls, and ``seal``."""
    LEAVING = "leaving"
    """The calls are over. What they have done is about to be undone, or to be committed."""
    COMMITTING = "committing"
    """The transaction is left cleanly: COMMIT is under way, or has been answered."""


class Attempt:
    """
    One run of a batch in one transaction.

    Attributes:
        execution: Which call is next, and what the calls have come to.
        phase: How far it has come.
    """

    __slots__ = ("_deadline", "_left_behind_by", "_manager", "execution", "phase")

    def __init__(self, execution: Execution, deadline: Deadline) -> None:
        self.execution = execution
        self.phase = Phase.RUNNING
        self._deadline = deadline
        self._manager: object = None
        self._left_behind_by: Exception | None = None

    def watched(self, manager: M) -> M:
        """Let the time limit stop the transaction from now on."""
        self._manager = manager
        self._deadline.watch(manager)
        return manager

    def check_start(self) -> None:
        """Raise TimeoutExceededError where BEGIN took all the time there was."""
        if not self._deadline.seconds_left:
            raise _late("the first call")

    def leave(self) -> None:
        """Choose the way out of the transaction's block: cleanly, or by Rollback."""
        if self.execution.fate is not Fate.COMMITTED:
            self.phase = Phase.LEAVING
            raise Rollback from self.execution.error
        self.phase = Phase.COMMITTING

    @property
    def is_committing(self) -> bool:
        return self.phase is Phase.COMMITTING

    def record_timeout(self) -> None:
        """The time limit has interrupted the attempt: blame the call that was running."""
        if not self.execution.handed_out:
            raise _late("the first call")
        self.execution.record_timeout()

    # When nobody waits for it any more --------------------------------------------------------

    def leave_behind(self) -> None:
        """Stop waiting for the attempt: it cannot commit any more, or its outcome is unknown."""
        give_up = getattr(self._manager, "give_up", None)
        # Without it there is no telling how far an adapter has come with COMMIT.
        sent = give_up() if give_up is not None else self.is_committing
        self._left_behind_by = self._end_of_the_wait(sent)

    def _end_of_the_wait(self, sent: bool) -> Exception:
        if self.is_committing:
            return _unanswered() if sent else _late("COMMIT")
        if not self.execution.handed_out:
            return _late("the first call")
        self.execution.record_timeout()
        return Rollback()

    @property
    def left_behind_by(self) -> Exception | None:
        """What leaving the attempt behind comes to; None: it was not left behind."""
        return self._left_behind_by


class Attempts:
    """
    The attempts at one batch. It never waits: it says what the next thing to wait for is.

    Attributes:
        current: The attempt that was begun last.
        delay_seconds: How long to wait before the next one.
    """

    __slots__ = (
        "_is_abandoned",
        "_last_conflict",
        "_last_error",
        "_number",
        "_policy",
        "_replay",
        "_started",
        "_turn",
        "_turns",
        "batch",
        "current",
        "deadline",
        "delay_seconds",
        "observers",
    )

    current: Attempt

    def __init__(
        self,
        batch: Batch,
        *,
        deadline: Deadline,
        replay: Replay,
        turns: Line | None,
        policy: Policy,
        observers: Observers,
    ) -> None:
        self.batch = batch
        self.deadline = deadline
        self.observers = observers
        self.delay_seconds = 0.0
        self._policy = policy
        self._replay = replay
        self._turns = turns
        self._turn: Turn | None = None
        self._number = 0
        self._is_abandoned = False
        # A call has been handed out, so that the batch has run.
        self._started = False
        self._last_error: TransactionError | None = None
        self._last_conflict: ConflictError | None = None

    def turn(self) -> Future[None] | None:
        """Stand in line where that is due: done when the batch may run; None: it may at once."""
        if self._turn is not None:
            self._turn.lost = True
        elif self._number or (self._turns is not None and self._turns.meets(self.batch)):
            line = Turns() if self._turns is None else self._turns
            self._turn = line.ask(self.batch)
        return None if self._turn is None else self._turn.come

    def begin(self) -> Attempt:
        """Begin the next attempt."""
        self._number += 1
        self.observers.attempt_begun(self.batch, self._number)
        self.current = Attempt(Execution(self.batch, self._policy), self.deadline)
        return self.current

    def tell_call(self, reply: Reply | None, error: Exception | None) -> None:
        """Tell the observers of the call that was recorded last."""
        index = max(0, self.current.execution.recorded - 1)
        self.observers.call_performed(self.batch, index, reply, error)

    def prospect(self) -> Outcome:
        """Return the outcome that the current attempt has if its transaction keeps its word."""
        execution = self.current.execution
        return execution.outcome(execution.fate, attempts=self._number)

    def settle(self, problem: Exception | None) -> Outcome | None:
        """
        Decide what the current attempt comes to.

        Args:
            problem: What left the transaction's block, or None where it was left cleanly.

        Returns:
            The outcome, or None: run the batch again after ``delay_seconds``.

        Raises:
            UnknownOutcomeError: Nobody knows what COMMIT has come to.
            Exception: The transaction could not be begun; no call was performed.
        """
        execution = self.current.execution
        if problem is None and self.current.is_committing:
            outcome = execution.outcome(Fate.COMMITTED, attempts=self._number)
            self.observers.committed(self.batch, outcome, self._last_conflict)
            return outcome
        self._started = self._started or execution.handed_out > 0
        error = self._last_error = self._error_behind(problem)
        conflict = error or execution.error
        if isinstance(conflict, ConflictError):
            self._last_conflict = conflict
            self.observers.conflict_met(self.batch, self._number, conflict)
            delay_seconds = self._replay.delay_seconds(self._number, random.random())
            if self._may_run_again(delay_seconds):
                self.delay_seconds = delay_seconds
                self.observers.replay_planned(self.batch, self._number + 1, delay_seconds)
                return None
        return self.give_up()

    def _may_run_again(self, delay_seconds: float) -> bool:
        """Tell whether a try is left, and time for it after the delay."""
        return (
            self._number < self._replay.max_attempts and delay_seconds < self.deadline.seconds_left
        )

    def give_up(self) -> Outcome:
        """
        Return what the last attempt came to; the batch is not run again.

        Raises:
            TransactionError: No call was performed in any attempt.
        """
        if not self._number:
            self._refuse(BusyError("the batch has waited too long for its turn"))
        error = self._last_error
        if error is not None and not self._started:
            self._refuse(error)
        execution, fate = self.current.execution, Fate.ROLLED_BACK
        if error is None and not execution.failed:
            if execution.fate is Fate.DRY_RUN:
                fate = Fate.DRY_RUN
            else:
                error = BrokenTransactionError("the transaction has hidden why its block was left")
        outcome = execution.outcome(fate, error=error, attempts=self._number)
        self.observers.rolled_back(self.batch, outcome)
        return outcome

    def abandon(self, fate: Fate | None = None, error: BaseException | None = None) -> None:
        """
        Take note that nobody waits for an outcome; a second time changes nothing.

        Args:
            fate: What became of the batch; None: unknown where COMMIT was begun, else undone.
            error: What its transaction ended with.
        """
        if self._is_abandoned:
            return
        self._is_abandoned = True
        if fate is None:
            is_committing = self._number > 0 and self.current.is_committing
            fate = Fate.UNKNOWN if is_committing else Fate.ROLLED_BACK
        self.observers.abandoned(self.batch, fate, error)

    def end(self) -> None:
        """Let go of the clock and of the place in the line."""
        self.deadline.close()
        if self._turn is not None:
            self._turn.leave()

    def _error_behind(self, problem: Exception | None) -> TransactionError | None:
        """Tell what the transaction itself says, or None where it only rolled back as told."""
        if isinstance(problem, UnknownOutcomeError):
            self._tell_unknown(problem)
        if problem is None or isinstance(problem, TransactionError):
            return problem
        # An adapter must not let its driver's exceptions out. If it does, believe the worst.
        if self.current.is_committing:
            unknown = UnknownOutcomeError(
                "COMMIT ended in an error that does not say whether the batch is stored"
            )
            unknown.__cause__ = problem
            self._tell_unknown(unknown)
        if isinstance(problem, Rollback):
            return None
        if not self.current.execution.handed_out:
            self._refuse(problem)
        broken = BrokenTransactionError("rolling back the transaction failed")
        broken.__cause__ = problem
        return broken

    def _tell_unknown(self, error: UnknownOutcomeError) -> NoReturn:
        self.observers.unknown(self.batch, error)
        raise error

    def _refuse(self, error: Exception) -> NoReturn:
        self.observers.not_started(self.batch, error)
        raise error


def _late(what: str) -> TimeoutExceededError:
    return TimeoutExceededError(f"the time limit passed before {what}")


def _unanswered() -> UnknownOutcomeError:
    return UnknownOutcomeError("COMMIT was sent, and no answer came within the time limit")
