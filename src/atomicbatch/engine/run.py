"""
execute and execute_async: run a batch in one transaction, again after a conflict.

Both are thin shells around :class:`~atomicbatch.engine.execution.Execution`. What they promise:

- The transaction is left cleanly (COMMIT) only when every call has succeeded.
- ``committed`` is true only when the transaction's exit has returned without an error.
- What the transaction says on leaving outranks what the calls said: a conflict that a handler
  hid, also behind a 4xx, runs the batch again.
- A batch that met a conflict stands in line before it runs again, see ``turns.py``.
- A COMMIT whose outcome is unknown is never run again; UnknownOutcomeError goes to the caller. So
  does whatever comes out of COMMIT and is no TransactionError: a driver's exception, a time limit,
  a cancellation that was not the caller's.
- An error before the first call was handed out goes to the caller: the batch did not run.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

from atomicbatch.engine.deadline import Deadline
from atomicbatch.engine.execution import Execution
from atomicbatch.engine.replay import Replay
from atomicbatch.engine.turns import Line, Turn, Turns
from atomicbatch.errors import (
    AtomicBatchError,
    BrokenTransactionError,
    BusyError,
    ConflictError,
    TimeoutExceededError,
    TransactionError,
    UnknownOutcomeError,
    kind_of,
)
from atomicbatch.model import Batch, Call, Outcome, Reply

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
M = TypeVar("M")
logger = logging.getLogger("atomicbatch")


class Rollback(Exception):
    """The block of a transaction is left with it to roll back; ``__cause__`` says why, if known."""


class Transaction(Protocol[C_co]):
    """Begins transactions; the whole contract is in ``transactions/base.py``."""

    def begin(self, batch: Batch, *, deadline: float) -> AbstractContextManager[C_co]:
        """
        Enter: BEGIN, by ``deadline`` (time.monotonic()). Leave: COMMIT, or ROLLBACK.

        What it returns may have the methods that ``engine/deadline.py`` calls when time is up.
        """


class AsyncTransaction(Protocol[C_co]):
    """The async twin of Transaction."""

    def begin(self, batch: Batch, *, deadline: float) -> AbstractAsyncContextManager[C_co]:
        """Enter: BEGIN, by ``deadline`` (time.monotonic()). Leave: COMMIT, or ROLLBACK."""


def execute(
    batch: Batch,
    transaction: Transaction[C],
    perform: Callable[[Call, C], Reply],
    *,
    timeout_seconds: float,
    replay: Replay = Replay(),  # noqa: B008  # immutable
    turns: Line | None = None,
) -> Outcome:
    """
    Run a batch in one transaction, in this thread.

    The time limit is looked at between calls. A running call is interrupted where the transaction
    can be, see ``deadline.py``.

    Args:
        batch: What to run.
        transaction: Opens the transaction, once an attempt.
        perform: Runs one call with what the transaction's block gave.
        timeout_seconds: For everything up to COMMIT, replays and waits between them included.
        replay: When to run the batch again after a conflict.
        turns: The line to stand in after a conflict: one for all batches of a database.

    Raises:
        UnknownOutcomeError: Nobody knows what COMMIT has come to.
        TransactionError: The transaction could not be begun; nothing ran.
    """
    run = _Run(batch, timeout_seconds, replay, turns)
    try:
        return _attempts(run, transaction, perform)
    finally:
        run.end()


def _attempts(
    run: _Run, transaction: Transaction[C], perform: Callable[[Call, C], Reply]
) -> Outcome:
    while True:
        if (turn := run.turn()) is not None:
            try:
                turn.result(run.deadline.seconds_left)
            except (TimeoutError, CancelledError):
                return run.given_up()
            time.sleep(min(run.delay_seconds, run.deadline.seconds_left))
        execution = run.attempt()
        problem: Exception | None = None
        try:
            with run.watched(transaction.begin(run.batch, deadline=run.deadline.at)) as connection:
                run.check_start()
                while (call := execution.next_call()) is not None:
                    try:
                        reply = perform(call, connection)
                        execution.record(reply, took_part=_took_part(connection))
                    except Exception as error:
                        execution.record_error(error)
                    if not run.deadline.seconds_left:
                        execution.record_timeout()
                run.leave()
        except Exception as error:
            problem = error
        if (outcome := run.settle(problem)) is not None:
            return outcome


async def execute_async(
    batch: Batch,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
    *,
    timeout_seconds: float,
    replay: Replay = Replay(),  # noqa: B008  # immutable
    turns: Line | None = None,
) -> Outcome:
    """
    Run a batch in one transaction; the async twin of :func:`execute`.

    The time limit interrupts BEGIN and the running call. COMMIT and ROLLBACK have a moment more.
    Then whatever still runs is left behind: it cannot commit any more, unless COMMIT has been sent;
    in that case the outcome is unknown.

    Cancelling rolls back and propagates, within the same moment; once the transaction is being
    left, its end is waited for first.
    """
    run = _Run(batch, timeout_seconds, replay, turns)
    try:
        return await _attempts_async(run, transaction, perform)
    finally:
        run.end()


async def _attempts_async(
    run: _Run,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
) -> Outcome:
    while True:
        if (turn := run.turn()) is not None:
            try:
                async with asyncio.timeout(run.deadline.seconds_left):
                    await asyncio.wrap_future(turn)
            except TimeoutError:
                return run.given_up()
            await asyncio.sleep(min(run.delay_seconds, run.deadline.seconds_left))
        run.attempt()
        problem: Exception | None = None
        # A task of its own for the whole attempt, so that BEGIN, calls and COMMIT share one task
        # and one context, and yet COMMIT can be kept from being cancelled.
        task = asyncio.create_task(_attempt(run, transaction, perform))
        try:
            await _to_the_end(task, run)
        except Exception as error:
            problem = error
        if (outcome := run.settle(problem)) is not None:
            return outcome


async def _attempt(
    run: _Run,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
) -> None:
    """Run the batch once; raise what its transaction raises."""
    execution, limit = run.execution, asyncio.timeout(run.deadline.seconds_left)
    try:
        manager = run.watched(transaction.begin(run.batch, deadline=run.deadline.at))
        async with limit, manager as connection:
            try:
                run.check_start()
                await _perform_all(run, perform, connection, limit)
                if not limit.expired():
                    limit.reschedule(None)
            finally:
                run.leaving = True
            run.leave()
    except TimeoutError:
        if not limit.expired():
            raise
        if execution.running is None:
            raise TimeoutExceededError("the time limit passed before the first call") from None
        execution.record_timeout()


async def _perform_all(
    run: _Run,
    perform: Callable[[Call, C], Awaitable[Reply]],
    connection: C,
    limit: asyncio.Timeout,
) -> None:
    execution, task = run.execution, asyncio.current_task()
    while (call := execution.next_call()) is not None:
        try:
            reply = await perform(call, connection)
            execution.record(reply, took_part=_took_part(connection))
        except Exception as error:
            execution.record_error(error)
        if limit.expired() or not run.deadline.seconds_left:
            execution.record_timeout()
        elif task is not None and task.cancelling():
            # The call has swallowed its cancellation; that must not make the batch commit.
            raise asyncio.CancelledError


def _took_part(connection: object) -> bool | None:
    """Ask what the transaction's block gave whether the last call used it; None: nobody knows."""
    told: Callable[[], bool | None] | None = getattr(connection, "took_part", None)
    return None if told is None else told()


async def _to_the_end(task: asyncio.Task[None], run: _Run) -> None:
    """
    Wait for an attempt; pass on a cancellation unless its transaction is being left.

    Where its end does not come in time, leave it behind and raise what follows from that.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and not run.is_left_behind:
        try:
            await asyncio.wait((task,), timeout=run.deadline.seconds_until_given_up)
        except asyncio.CancelledError as error:
            # Once only: anyio's cancel scopes cancel again in every round of the event loop,
            # which would cut short what handlers and adapters do to clean up.
            if cancelled is None and not run.leaving:
                task.cancel()
                run.deadline.hasten()
            cancelled = error
        else:
            if not task.done() and not run.deadline.seconds_until_given_up:
                _left_behind.add(task)
                task.add_done_callback(_forget)
                run.leave_behind()
    if cancelled is None:
        if run.is_left_behind:
            return run.result()
        if task.cancelled() and run.committing:
            # Not by us: the event loop's end, or code that cancels every task it finds.
            raise UnknownOutcomeError("COMMIT was cancelled before the database had answered it")
        return task.result()
    if not run.is_left_behind:
        ended = None if task.cancelled() else task.exception()
        if ended is not None and not isinstance(ended, Rollback):
            logger.warning("a cancelled batch ended with an error: %s", _in_short(ended))
    raise cancelled


# Attempts that nobody waits for any more; asyncio keeps tasks by weak references only.
_left_behind: set[asyncio.Task[None]] = set()


def _forget(task: asyncio.Task[None]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not complain


class _Run:
    """What both shells share: the attempts at one batch, and what follows from how each ended."""

    __slots__ = (
        "_last_conflict",
        "_last_error",
        "_left_behind_by",
        "_manager",
        "_turn",
        "attempts",
        "batch",
        "committing",
        "deadline",
        "delay_seconds",
        "execution",
        "leaving",
        "replay",
        "started",
        "turns",
    )

    execution: Execution

    def __init__(
        self, batch: Batch, timeout_seconds: float, replay: Replay, turns: Line | None
    ) -> None:
        self.batch = batch
        self.deadline = Deadline(timeout_seconds)
        self.replay = replay
        self.attempts = 0
        self.delay_seconds = 0.0
        self.started = False
        self.leaving = False
        self.committing = False
        self.turns: Line = Turns() if turns is None else turns
        self._turn: Turn | None = None
        self._last_error: TransactionError | None = None
        self._last_conflict: ConflictError | None = None
        self._manager: object = None
        self._left_behind_by: Exception | None = None

    def attempt(self) -> Execution:
        """Start the next attempt."""
        self.attempts += 1
        self.leaving = self.committing = False
        self.execution = Execution(self.batch)
        return self.execution

    def watched(self, manager: M) -> M:
        """Let the time limit stop a transaction from now on."""
        self._manager = manager
        self.deadline.watch(manager)
        return manager

    def check_start(self) -> None:
        if not self.deadline.seconds_left:
            raise TimeoutExceededError("the time limit passed before the first call")

    def leave(self) -> None:
        """Choose the way out of the transaction's block: cleanly, or by Rollback."""
        if self.execution.failed:
            raise Rollback from self.execution.error
        self.committing = True

    def leave_behind(self) -> None:
        """Stop waiting for the attempt: from now on it cannot commit, or nobody knows."""
        give_up = getattr(self._manager, "give_up", None)
        # Without it there is no telling how far an adapter has come with COMMIT.
        sent = give_up() if give_up is not None else self.committing
        if self.committing and sent:
            self._left_behind_by = UnknownOutcomeError(
                "COMMIT was sent, and no answer came within the time limit"
            )
        elif self.committing:
            self._left_behind_by = TimeoutExceededError("the time limit passed before COMMIT")
        elif self.execution.running is None:
            self._left_behind_by = TimeoutExceededError(
                "the time limit passed before the first call"
            )
        else:
            self.execution.record_timeout()
            self._left_behind_by = Rollback()

    @property
    def is_left_behind(self) -> bool:
        return self._left_behind_by is not None

    def result(self) -> None:
        """Raise what leaving the attempt behind comes to."""
        if self._left_behind_by is not None:
            raise self._left_behind_by

    def settle(self, problem: Exception | None) -> Outcome | None:
        """
        Decide what an attempt comes to.

        Args:
            problem: What left the transaction's block, or None where it was left cleanly.

        Returns:
            The outcome, or None: run the batch again after ``delay_seconds``.
        """
        execution = self.execution
        if problem is None and not execution.failed:
            if self._last_conflict is not None:
                reason = _in_short(self._last_conflict)
                logger.warning("batch committed, %d attempts: %s", self.attempts, reason)
            return execution.outcome(committed=True, attempts=self.attempts)
        error = self._last_error = self._transaction_error(problem)
        conflict = error or execution.error
        if isinstance(conflict, ConflictError):
            self._last_conflict = conflict
            if self._again():
                return None
        self.started = self.started or execution.running is not None
        return self.given_up()

    def given_up(self) -> Outcome:
        """What the last attempt came to, where the batch is not run again."""
        if not self.attempts:
            raise BusyError("the batch has waited too long for its turn")
        error = self._last_error
        if error is not None and not self.started:
            raise error
        outcome = self.execution.outcome(committed=False, error=error, attempts=self.attempts)
        _log(outcome)
        return outcome

    def turn(self) -> Future[None] | None:
        """Stand in line where that is due: done when the batch may run; None: it may at once."""
        if self._turn is not None:
            self._turn.lost = True
        elif self.attempts or self.turns.meets(self.batch):
            self._turn = self.turns.ask(self.batch)
        return None if self._turn is None else self._turn.come

    def end(self) -> None:
        """Nobody waits for the batch any more."""
        self.deadline.close()
        if self._turn is not None:
            self._turn.leave()

    def _transaction_error(self, problem: Exception | None) -> TransactionError | None:
        """Tell what the transaction itself says, or None where it only rolled back as told."""
        if problem is None:
            return None
        if isinstance(problem, UnknownOutcomeError):
            logger.error("%s", _in_short(problem))
            raise problem
        if isinstance(problem, TransactionError):
            return problem
        # An adapter must not let its driver's exceptions out. If it does, believe the worst.
        if self.committing:
            unknown = UnknownOutcomeError(
                "COMMIT ended in an error that does not say whether the batch is stored"
            )
            unknown.__cause__ = problem
            logger.error("%s", _in_short(unknown))
            raise unknown
        if isinstance(problem, Rollback):
            return None
        if self.execution.running is None:
            raise problem
        broken = BrokenTransactionError("rolling back the transaction failed")
        broken.__cause__ = problem
        return broken

    def _again(self) -> bool:
        self.started = self.started or self.execution.running is not None
        self.delay_seconds = self.replay.delay_seconds(self.attempts, random.random())
        return (
            self.attempts < self.replay.max_attempts
            and self.delay_seconds < self.deadline.seconds_left
        )


def _log(outcome: Outcome) -> None:
    """
    Log what the client is not told: the exception of a handler, or what is behind a 5xx of ours.

    Only a handler's exception is worth its traceback. What the transaction says is explained by
    the database's code; its traceback would show our own machinery, and its text rows.
    """
    error: AtomicBatchError | None = outcome.error
    if error is None or error.status < 500:
        return
    if isinstance(error, TransactionError):
        attempts = f", {outcome.attempts} attempts" if outcome.attempts > 1 else ""
        logger.warning("batch rolled back: %s%s", _in_short(error), attempts)
    elif error.__cause__ is not None:
        logger.error("batch rolled back: %s", error, exc_info=error.__cause__)


def _in_short(error: BaseException) -> str:
    """One line, of bounded length, for the log."""
    text = str(error) if isinstance(error, AtomicBatchError) else kind_of(error)
    cause = error.__cause__
    text = text if cause is None else f"{text} ({kind_of(cause)})"
    return " ".join(text.split())[:500]
