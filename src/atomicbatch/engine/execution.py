"""Execution: which call is next, when to stop, what to report. A plain state machine."""

from __future__ import annotations

from atomicbatch.engine.policy import NORMAL, Policy
from atomicbatch.errors import (
    AtomicBatchError,
    ConflictError,
    TimeoutExceededError,
    TransactionError,
)
from atomicbatch.model import Batch, Call, Failure, Fate, Outcome, Reply


class Execution:
    """
    One attempt at one batch. It never waits: it is told what happened and asked what is next.

    Calls are handed out in order, and recorded in order. Several may be handed out before the
    first is recorded; the call to blame is the first that is not recorded yet.

    Args:
        batch: What to run.
        policy: When to stop, and what to do at the end.

    Attributes:
        handed_out: How many calls were handed out.
        failed: Something went wrong, so the batch must be undone.
    """

    __slots__ = (
        "_calls",
        "_end_error",
        "_ending",
        "_failures",
        "_policy",
        "_replies",
        "_stopped",
        "_took_part",
        "failed",
        "handed_out",
    )

    def __init__(self, batch: Batch, policy: Policy = NORMAL) -> None:
        self._calls = batch.calls
        self._policy = policy
        # One for each recorded call; an empty one for a call that gave none.
        self._replies: list[Reply] = []
        self._took_part: list[bool | None] = []
        self._failures: list[Failure] = []
        self._end_error: AtomicBatchError | None = None
        self._stopped = False
        self._ending = False
        self.failed = False
        self.handed_out = 0

    @property
    def recorded(self) -> int:
        """How many calls are recorded."""
        return len(self._replies)

    @property
    def running(self) -> int | None:
        """The first call that was handed out and not recorded, else the last one; 0-based."""
        return min(len(self._replies), self.handed_out - 1) if self.handed_out else None

    @property
    def error(self) -> AtomicBatchError | None:
        """Why the batch must be undone, where no reply says so."""
        if self._end_error is None and self._failures:
            return self._failures[-1].error
        return self._end_error

    @property
    def fate(self) -> Fate:
        """What the batch is to come to: COMMITTED asks for COMMIT, all else for ROLLBACK."""
        if self.failed:
            return Fate.ROLLED_BACK
        return Fate.COMMITTED if self._policy.keeps else Fate.DRY_RUN

    def next_call(self) -> Call | None:
        """Hand out the next call, or None when all are handed out or the batch has stopped."""
        index = self.handed_out
        if self._stopped or index == len(self._calls):
            return None
        self.handed_out = index + 1
        return self._calls[index]

    def take_back(self) -> None:
        """Nothing of what was handed out has run, since the transaction could not be begun."""
        if self._replies:
            raise RuntimeError("a call that is recorded has run")
        self.handed_out = 0

    def begin_again(self) -> None:
        """Hand all calls out once more: what was recorded is undone, and none of it had failed."""
        if self.failed or self._ending:
            raise RuntimeError("a batch that has failed or ended does not begin again")
        self._replies.clear()
        self._took_part.clear()
        self.handed_out = 0

    def record(self, reply: Reply, *, took_part: bool | None = None) -> None:
        """
        Take the running call's reply.

        Args:
            reply: What it answered.
            took_part: Whether it used a database that takes part in the batch; None: nobody knows.

        A status of 400 or more is a failure. So is one below 200, which is no answer: an interim
        response, or 101. 3xx is success and is not followed.
        """
        status = reply.status
        if status < 200:
            self.record_error(AtomicBatchError("the call's handler gave no final response"))
            return
        self._replies.append(reply)
        self._took_part.append(took_part)
        if status >= 400:
            self._fail(len(self._replies) - 1, None)

    def record_error(self, error: Exception) -> None:
        """
        The running call raised instead of answering.

        One of our own errors is kept as it is. Any other becomes an internal error that says
        nothing about the original, which is its ``__cause__``: for the log, not for the client.
        """
        call = len(self._replies)
        problem = _as_ours(error, "the call's handler raised an exception", call)
        self._replies.append(Reply(problem.status, (), b""))
        self._took_part.append(None)
        self._fail(call, problem)

    def record_timeout(self, *, answered: bool = False) -> None:
        """
        The time limit passed while the running call ran; it is the one to blame.

        It counts as failed even if it has answered 2xx since. If it has failed already, that
        stands: its own reply tells more.

        Args:
            answered: It is the call that was recorded last, whatever was handed out since.
        """
        if self.failed:
            self._stopped = True
            return
        if self._ending:
            self.record_end_error(TimeoutExceededError("the time limit passed before COMMIT"))
            return
        error = TimeoutExceededError("the time limit of the batch passed while this call ran")
        if len(self._replies) < self.handed_out and not answered:
            self.record_error(error)
        else:
            error.call_index = len(self._replies) - 1
            self._fail(error.call_index, error)

    def end_calls(self) -> None:
        """Every call has succeeded; what fails from now on is no call's fault."""
        self._ending = self._stopped = True

    def record_end_error(self, error: Exception) -> None:
        """Something went wrong after the last call and before COMMIT; no call is to blame."""
        self._end_error = _as_ours(error, "the batch could not be completed", None)
        self.failed = self._stopped = True

    def _fail(self, call: int, error: AtomicBatchError | None) -> None:
        self._failures.append(Failure(call, error))
        self.failed = True
        # Nothing can follow once the transaction is lost (SPEC 4.3).
        if not self._policy.goes_on or isinstance(error, TransactionError):
            self._stopped = True

    def outcome(
        self, fate: Fate, *, error: AtomicBatchError | None = None, attempts: int = 1
    ) -> Outcome:
        """
        Report this attempt as the batch's outcome.

        Args:
            fate: What became of it.
            error: What the transaction said on leaving; it outranks what the calls said.
            attempts: How many times the batch was run, this one included.
        """
        if fate is not Fate.ROLLED_BACK:
            return Outcome(fate, tuple(self._replies), error=error, attempts=attempts)
        error = error or self._end_error
        is_conflict = isinstance(error or self.error, ConflictError)
        failures, replies = self._failures, self._replies
        if failures and failures[-1].call == len(replies) - 1:
            # The last call has failed; its reply is left out where it does not say why.
            outranked = error is not None and not is_conflict and len(failures) == 1
            if failures[-1].error is not None or outranked:
                replies = replies[:-1]
        if error is None and failures:
            error = (failures[-1] if is_conflict else failures[0]).error
        # After a conflict no call is to blame: each of them may be right the next time.
        blamed = () if is_conflict else tuple(failures)
        known = any(one is not None for one in self._took_part)
        took_part = tuple(self._took_part[: len(replies)]) if known else ()
        return Outcome(fate, tuple(replies), blamed, error, attempts, took_part)


def _as_ours(error: Exception, hidden: str, call: int | None) -> AtomicBatchError:
    """Keep an error of ours; hide any other behind a message that says nothing about it."""
    if not isinstance(error, AtomicBatchError):
        ours = AtomicBatchError(hidden)
        ours.__cause__ = error
        error = ours
    if error.call_index is None:
        error.call_index = call
    return error
