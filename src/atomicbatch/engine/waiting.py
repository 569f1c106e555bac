"""Waiting for the task of an attempt to its end, or leaving it behind where it does not come."""

from __future__ import annotations

import asyncio

from atomicbatch.engine.attempts import Attempt, Attempts, Phase
from atomicbatch.engine.transaction import Rollback
from atomicbatch.errors import TransactionError, UnknownOutcomeError
from atomicbatch.model import Fate

# Attempts that nobody waits for any more; asyncio keeps tasks by weak references only.
_left_behind: set[asyncio.Task[None]] = set()


async def wait_to_the_end(task: asyncio.Task[None], attempts: Attempts) -> None:
    """
    Wait for an attempt, and raise what it raises.

    A cancellation is passed on to it, unless its transaction is being left. Where its end does
    not come in time, it is left behind, and what follows from that is raised.
    """
    attempt, deadline = attempts.current, attempts.deadline
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and attempt.left_behind_by is None:
        try:
            await asyncio.wait((task,), timeout=deadline.seconds_until_given_up)
        except asyncio.CancelledError as error:
            # Once only: anyio's cancel scopes cancel again in every round of the event loop,
            # which would cut short what handlers and adapters do to clean up.
            if cancelled is None and attempt.phase is Phase.RUNNING:
                task.cancel()
                deadline.hasten()
            cancelled = error
        else:
            if not task.done() and not deadline.seconds_until_given_up:
                _left_behind.add(task)
                task.add_done_callback(_forget)
                attempt.leave_behind()
    if cancelled is not None:
        attempts.abandon(*_end_of(task, attempt))
        raise cancelled
    if attempt.left_behind_by is not None:
        raise attempt.left_behind_by
    if task.cancelled() and attempt.is_committing:
        # Not by us: the event loop's end, or code that cancels every task it finds.
        raise UnknownOutcomeError("COMMIT was cancelled before the database had answered it")
    return task.result()


def _end_of(task: asyncio.Task[None], attempt: Attempt) -> tuple[Fate | None, BaseException | None]:
    """Tell what became of a cancelled attempt (None: see ``Attempts.abandon``), and its error."""
    error: BaseException | None = attempt.left_behind_by
    if error is None and not task.cancelled():
        error = task.exception()
        if error is None and attempt.is_committing:
            return Fate.COMMITTED, None
    if isinstance(error, TransactionError) and not isinstance(error, UnknownOutcomeError):
        return Fate.ROLLED_BACK, error
    return None, None if isinstance(error, Rollback) else error


def _forget(task: asyncio.Task[None]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not complain
