"""Execution: which call is next, when to stop, what to report. A plain state machine."""

from __future__ import annotations

from atomicbatch.errors import AtomicBatchError, ConflictError, TimeoutExceededError
from atomicbatch.model import Batch, Call, Outcome, Reply


class Execution:
    """
    One attempt at one batch. It never waits: it is told what happened and asked what is next.

    Attributes:
        failed: A call failed, so no other is handed out and the batch must be rolled back.
        running: The call handed out last (0-based), or None before the first.
        error: Why the running call failed where it left no reply to say so, or None.
    """

    __slots__ = ("_calls", "_replies", "_took_part", "error", "failed", "running")

    def __init__(self, batch: Batch) -> None:
        self._calls = batch.calls
        self._replies: list[Reply] = []
        self._took_part: list[bool | None] = []
        self.failed = False
        self.running: int | None = None
        self.error: AtomicBatchError | None = None

    def next_call(self) -> Call | None:
        """Hand out the next call, or None when all are done or one has failed."""
        index = len(self._replies)
        if self.failed or index == len(self._calls):
            return None
        self.running = index
        return self._calls[index]

    def record(self, reply: Reply, *, took_part: bool | None = None) -> None:
        """
        Take the running call's reply.

        Args:
            reply: What it answered.
            took_part: It has used a database that takes part in the batch. None: nobody knows.

        A status of 400 or more is a failure. So is one below 200, which is no answer: an interim
        response, or 101. 3xx is success and is not followed.
        """
        if reply.status < 200:
            self.record_error(AtomicBatchError("the call's handler gave no final response"))
            return
        self._replies.append(reply)
        self._took_part.append(took_part)
        if reply.status >= 400:
            self.failed = True

    def record_error(self, error: Exception) -> None:
        """
        The running call raised instead of answering.

        One of our own errors is kept as it is. Any other becomes an internal error that says
        nothing of the original, which is its ``__cause__``: for the log, not for the client.
        """
        if not isinstance(error, AtomicBatchError):
            hidden = AtomicBatchError("the call's handler raised an exception")
            hidden.__cause__ = error
            error = hidden
        if error.call_index is None:
            error.call_index = self.running
        self.error = error
        self.failed = True

    def record_timeout(self) -> None:
        """
        The time limit passed while the running call ran; it is the one to blame.

        It counts as failed even if it has answered 2xx since. If it has failed already, that
        stands: its own reply tells more.
        """
        if not self.failed:
            self.record_error(
                TimeoutExceededError("the time limit of the batch passed while this call ran")
            )

    def outcome(
        self, *, committed: bool, error: AtomicBatchError | None = None, attempts: int = 1
    ) -> Outcome:
        """
        Report this attempt as the batch's outcome.

        Args:
            committed: COMMIT has returned.
            error: What the transaction said on leaving; it outranks what the calls said.
            attempts: How many times the batch was run, this one included.
        """
        if committed:
            return Outcome(True, tuple(self._replies), attempts=attempts)
        error = error or self.error
        # After a conflict no call is to blame: each of them may be right the next time.
        failed = self.running if self.failed and not isinstance(error, ConflictError) else None
        replies = self._replies if failed is None or error is None else self._replies[:failed]
        known = any(one is not None for one in self._took_part)
        took_part = tuple(self._took_part) if known else ()
        return Outcome(False, tuple(replies), failed, error, attempts, took_part)
