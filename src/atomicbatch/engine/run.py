"""
execute and execute_async: run a batch in one transaction, again after a conflict.

Both are thin shells around :class:`~atomicbatch.engine.execution.Execution` (which call is next)
and :class:`~atomicbatch.engine.attempts.Attempts` (what follows from an attempt's end). What they
promise:

- The transaction is left cleanly (COMMIT) only when every call has succeeded.
- An outcome is committed only when the transaction's exit has returned without an error.
- What the transaction says on leaving outranks what the calls said: a conflict that a handler
  hid, also behind a 4xx, runs the batch again.
- A batch that met a conflict stands in line before it runs again, see ``turns.py``.
- A COMMIT whose outcome is unknown is never run again; UnknownOutcomeError goes to the caller. So
  does whatever comes out of COMMIT and is no TransactionError: a driver's exception, a time limit,
  a cancellation that was not the caller's.
- An error before the first call was handed out goes to the caller: the batch did not run.

``execute`` performs one call after another. ``execute_by`` leaves that to a runner, which may take
several calls before the first is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import TypeVar

from atomicbatch.engine.attempts import Attempts, Phase
from atomicbatch.engine.calls import Calls, participation
from atomicbatch.engine.deadline import Deadline
from atomicbatch.engine.logs import LOGS
from atomicbatch.engine.observer import Observer, Observers
from atomicbatch.engine.policy import NORMAL, Policy
from atomicbatch.engine.replay import Replay
from atomicbatch.engine.transaction import AsyncTransaction, Transaction
from atomicbatch.engine.turns import Line
from atomicbatch.engine.waiting import wait_to_the_end
from atomicbatch.model import Batch, Call, Outcome, Reply

C = TypeVar("C")
Runner = Callable[[Calls, C], None]
"""Performs the calls of one attempt with what the transaction's block gave; see ``calls.py``."""


def execute(
    batch: Batch,
    transaction: Transaction[C],
    perform: Callable[[Call, C], Reply],
    *,
    timeout_seconds: float,
    replay: Replay = Replay(),  # noqa: B008  # immutable
    turns: Line | None = None,
    policy: Policy = NORMAL,
    seal: Callable[[Outcome, C], None] | None = None,
    observer: Observer = LOGS,
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
        policy: Whether to go on after a failed call, and whether to keep the work at the end.
        seal: Called inside the transaction when every call has succeeded, right before COMMIT (or
            before a dry run is undone), with the outcome there will be and what the transaction's
            block gave. What it stores is committed with the batch; what it raises undoes both.
        observer: Is told what happens; by default the log is.

    Raises:
        UnknownOutcomeError: Nobody knows what COMMIT has come to.
        TransactionError: The transaction could not be begun; nothing ran.
    """
    return execute_by(
        _one_by_one(perform),
        batch,
        transaction,
        timeout_seconds=timeout_seconds,
        replay=replay,
        turns=turns,
        policy=policy,
        seal=seal,
        observer=observer,
    )


def execute_by(
    runner: Runner[C],
    batch: Batch,
    transaction: Transaction[C],
    *,
    timeout_seconds: float,
    replay: Replay = Replay(),  # noqa: B008  # immutable
    turns: Line | None = None,
    policy: Policy = NORMAL,
    seal: Callable[[Outcome, C], None] | None = None,
    observer: Observer = LOGS,
) -> Outcome:
    """
    Run a batch as ``execute`` does, with a runner that performs all calls of an attempt.

    The runner may take calls ahead, and records them in order. It returns when there is no call
    left to take, and everything that it took is recorded or the batch has failed.
    """
    attempts = Attempts(
        batch,
        deadline=Deadline(timeout_seconds),
        replay=replay,
        turns=turns,
        policy=policy,
        observers=Observers.of(observer),
    )
    try:
        return _attempts(attempts, transaction, runner, seal)
    except Exception:
        raise
    except BaseException:
        attempts.abandon()
        raise
    finally:
        attempts.end()


def _attempts(
    attempts: Attempts,
    transaction: Transaction[C],
    runner: Runner[C],
    seal: Callable[[Outcome, C], None] | None,
) -> Outcome:
    batch, deadline = attempts.batch, attempts.deadline
    while True:
        if (turn := attempts.turn()) is not None:
            try:
                turn.result(deadline.seconds_left)
            except (TimeoutError, CancelledError):
                return attempts.give_up()
            time.sleep(min(attempts.delay_seconds, deadline.seconds_left))
        attempt = attempts.begin()
        problem: Exception | None = None
        try:
            with attempt.watched(transaction.begin(batch, deadline=deadline.at)) as connection:
                attempt.check_start()
                runner(Calls(attempts, connection), connection)
                if seal is not None and not attempt.execution.failed:
                    _seal(attempts, seal, connection)
                attempt.leave()
        except Exception as error:
            problem = error
        if (outcome := attempts.settle(problem)) is not None:
            return outcome


def _one_by_one(perform: Callable[[Call, C], Reply]) -> Runner[C]:
    """The simplest runner: it takes a call when the one before is recorded."""

    def run(calls: Calls, connection: C) -> None:
        while (call := calls.next()) is not None:
            try:
                reply = perform(call, connection)
            except Exception as error:
                calls.record_error(error)
            else:
                calls.record(reply)

    return run


def _seal(attempts: Attempts, seal: Callable[[Outcome, C], None], connection: C) -> None:
    execution, prospect = attempts.current.execution, attempts.prospect()
    execution.end_calls()
    try:
        seal(prospect, connection)
    except Exception as error:
        execution.record_end_error(error)
    if not attempts.deadline.seconds_left:
        execution.record_timeout()


async def execute_async(
    batch: Batch,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
    *,
    timeout_seconds: float,
    replay: Replay = Replay(),  # noqa: B008  # immutable
    turns: Line | None = None,
    policy: Policy = NORMAL,
    seal: Callable[[Outcome, C], Awaitable[None]] | None = None,
    observer: Observer = LOGS,
) -> Outcome:
    """
    Run a batch in one transaction; the async twin of :func:`execute`.

    The time limit interrupts BEGIN, the running call and ``seal``. COMMIT and ROLLBACK have a
    moment more. Then whatever still runs is left behind: it cannot commit any more, unless COMMIT
    has been sent; in that case the outcome is unknown.

    Cancelling rolls back and propagates, within the same moment; once the transaction is being
    left, its end is waited for first.
    """
    attempts = Attempts(
        batch,
        deadline=Deadline(timeout_seconds),
        replay=replay,
        turns=turns,
        policy=policy,
        observers=Observers.of(observer),
    )
    try:
        return await _attempts_async(attempts, transaction, perform, seal)
    except Exception:
        raise
    except BaseException:
        attempts.abandon()
        raise
    finally:
        attempts.end()


async def _attempts_async(
    attempts: Attempts,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
    seal: Callable[[Outcome, C], Awaitable[None]] | None,
) -> Outcome:
    deadline = attempts.deadline
    while True:
        if (turn := attempts.turn()) is not None:
            try:
                async with asyncio.timeout(deadline.seconds_left):
                    await asyncio.wrap_future(turn)
            except TimeoutError:
                return attempts.give_up()
            await asyncio.sleep(min(attempts.delay_seconds, deadline.seconds_left))
        attempts.begin()
        problem: Exception | None = None
        # A task of its own for the whole attempt, so that BEGIN, calls and COMMIT share one task
        # and one context, and yet COMMIT can be kept from being cancelled.
        task = asyncio.create_task(_attempt_async(attempts, transaction, perform, seal))
        try:
            await wait_to_the_end(task, attempts)
        except Exception as error:
            problem = error
        if (outcome := attempts.settle(problem)) is not None:
            return outcome


async def _attempt_async(
    attempts: Attempts,
    transaction: AsyncTransaction[C],
    perform: Callable[[Call, C], Awaitable[Reply]],
    seal: Callable[[Outcome, C], Awaitable[None]] | None,
) -> None:
    """Run the batch once; raise what its transaction raises."""
    attempt, deadline = attempts.current, attempts.deadline
    limit = asyncio.timeout(deadline.seconds_left)
    try:
        manager = attempt.watched(transaction.begin(attempts.batch, deadline=deadline.at))
        async with limit, manager as connection:
            try:
                attempt.check_start()
                await _perform_all_async(attempts, perform, connection, limit)
                if seal is not None and not attempt.execution.failed:
                    await _seal_async(attempts, seal, connection, limit)
                if not limit.expired():
                    limit.reschedule(None)
            finally:
                attempt.phase = Phase.LEAVING
            attempt.leave()
    except TimeoutError:
        if not limit.expired():
            raise
        attempt.record_timeout()


async def _perform_all_async(
    attempts: Attempts,
    perform: Callable[[Call, C], Awaitable[Reply]],
    connection: C,
    limit: asyncio.Timeout,
) -> None:
    execution, task = attempts.current.execution, asyncio.current_task()
    hear_calls, took_part = attempts.observers.hear_calls, participation(connection)
    while (call := execution.next_call()) is not None:
        try:
            reply = await perform(call, connection)
            execution.record(reply, took_part=took_part())
            if hear_calls:
                attempts.tell_call(reply, None)
        except Exception as error:
            execution.record_error(error)
            attempts.tell_call(None, error)
        if limit.expired() or not attempts.deadline.seconds_left:
            execution.record_timeout()
        elif task is not None and task.cancelling():
            # The call has swallowed its cancellation; that must not make the batch commit.
            raise asyncio.CancelledError


async def _seal_async(
    attempts: Attempts,
    seal: Callable[[Outcome, C], Awaitable[None]],
    connection: C,
    limit: asyncio.Timeout,
) -> None:
    execution, task = attempts.current.execution, asyncio.current_task()
    prospect = attempts.prospect()
    execution.end_calls()
    try:
        await seal(prospect, connection)
    except Exception as error:
        execution.record_end_error(error)
    if limit.expired() or not attempts.deadline.seconds_left:
        execution.record_timeout()
    elif task is not None and task.cancelling():
        raise asyncio.CancelledError
