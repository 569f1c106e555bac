"""Execution: which call is next, when to stop, what to report."""

from __future__ import annotations

import pytest

from atomicbatch import (
    AtomicBatchError,
    Batch,
    Call,
    CommitError,
    ConflictError,
    Fate,
    Reply,
    TimeoutExceededError,
)
from atomicbatch.engine import Execution


def batch_of(count: int) -> Batch:
    return Batch(tuple(Call("GET", b"/%d" % i, b"", (), b"") for i in range(count)))


def reply(status: int) -> Reply:
    return Reply(status, (), b"")


def run(*statuses: int, calls: int | None = None) -> Execution:
    execution = Execution(batch_of(calls or len(statuses)))
    for status in statuses:
        assert execution.next_call() is not None
        execution.record(reply(status))
    return execution


def test_calls_come_strictly_in_order() -> None:
    """Calls are handed out in the order sent, each once (SPEC 1.6)."""
    batch = batch_of(3)
    execution, seen = Execution(batch), []
    while (call := execution.next_call()) is not None:
        seen.append(call)
        execution.record(reply(200))
    assert tuple(seen) == batch.calls
    assert not execution.failed


def test_an_empty_batch_is_done_at_once() -> None:
    """Where there is no call, none is handed out and nothing has failed."""
    execution = Execution(Batch(()))
    assert execution.next_call() is None
    assert not execution.failed
    assert execution.running is None


@pytest.mark.parametrize("status", [400, 401, 404, 409, 499, 500, 503, 599])
def test_a_status_of_400_or_more_stops_the_batch(status: int) -> None:
    """The first reply with 400 or more is the last call that runs (SPEC 4.1)."""
    execution = run(200, status, calls=4)
    assert execution.failed
    assert execution.next_call() is None
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert (outcome.failed, outcome.error) == (1, None)
    assert [r.status for r in outcome.replies] == [200, status]


@pytest.mark.parametrize("status", [200, 204, 226, 300, 301, 304, 399])
def test_2xx_and_3xx_are_success(status: int) -> None:
    """A redirect is an answer like any other and is not followed (SPEC 4.1)."""
    execution = run(status, calls=2)
    assert not execution.failed
    assert execution.next_call() is not None


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199])
def test_a_status_below_200_is_no_answer(status: int) -> None:
    """An interim response, 101 above all, in the place of the reply is a failure (SPEC 4.1)."""
    outcome = run(200, status, calls=3).outcome(Fate.ROLLED_BACK)
    assert outcome.failed == 1
    assert outcome.error is not None
    assert outcome.error.status == 500
    assert len(outcome.replies) == 1


def test_a_handlers_exception_is_hidden() -> None:
    """A handler's exception fails its call and shows in no message; it is the error's cause."""
    execution = Execution(batch_of(2))
    execution.next_call()
    secret = ValueError("password=hunter2")
    execution.record_error(secret)
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert outcome.error is not None
    assert "hunter2" not in str(outcome.error)
    assert outcome.error.__cause__ is secret
    assert (outcome.failed, outcome.error.call_index, outcome.replies) == (0, 0, ())


def test_our_own_errors_are_kept() -> None:
    """An error of ours that a call raises says itself what is wrong, and names the call."""
    execution = Execution(batch_of(1))
    execution.next_call()
    error = CommitError("no")
    execution.record_error(error)
    assert execution.error is error
    assert error.call_index == 0


def test_a_timeout_blames_the_running_call() -> None:
    """The call during which the limit passed has failed, even where it has answered 200 since."""
    execution = run(200, 200, calls=3)
    execution.record_timeout()
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert isinstance(outcome.error, TimeoutExceededError)
    assert (outcome.failed, len(outcome.replies)) == (1, 1)


def test_a_timeout_does_not_hide_a_failure() -> None:
    """A call that has failed by itself before the limit passed keeps its own reply."""
    execution = run(200, 409, calls=3)
    execution.record_timeout()
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert (outcome.error, outcome.replies[-1].status) == (None, 409)


def test_no_call_is_to_blame_for_a_conflict() -> None:
    """After a conflict no call is named: each may be right the next time."""
    execution = run(200, 500, calls=3)
    outcome = execution.outcome(Fate.ROLLED_BACK, error=ConflictError("no"), attempts=5)
    assert (outcome.failed, outcome.attempts) == (None, 5)


def test_the_transactions_word_outranks_the_replies() -> None:
    """What the transaction says on leaving is the error of the outcome."""
    error = AtomicBatchError("lost")
    outcome = run(200, 200).outcome(Fate.ROLLED_BACK, error=error)
    assert outcome.error is error
    assert (outcome.failed, len(outcome.replies)) == (None, 2)


def test_a_committed_outcome_holds_every_reply() -> None:
    """A committed batch has as many replies as calls, in order (SPEC 1.7)."""
    outcome = run(200, 201, 302).outcome(Fate.COMMITTED, attempts=2)
    assert outcome.committed
    assert [r.status for r in outcome.replies] == [200, 201, 302]
    assert (outcome.failed, outcome.error, outcome.attempts) == (None, None, 2)


def test_calls_may_be_handed_out_ahead() -> None:
    """Several calls may be under way; replies are taken in the order of the calls."""
    batch = batch_of(3)
    execution = Execution(batch)
    assert [execution.next_call() for _ in range(4)] == [*batch.calls, None]
    assert (execution.handed_out, execution.running) == (3, 0)
    execution.record(reply(200))
    assert execution.running == 1
    execution.record(reply(201))
    execution.record(reply(204))
    assert (execution.running, execution.failed) == (2, False)
    assert [r.status for r in execution.outcome(Fate.COMMITTED).replies] == [200, 201, 204]


@pytest.mark.parametrize("how", ["error", "timeout"])
def test_the_first_call_that_is_not_recorded_is_to_blame(how: str) -> None:
    """An error, or the time limit, is the fault of the call that is waited for, not of the last."""
    execution = Execution(batch_of(4))
    for _ in range(3):
        execution.next_call()
    execution.record(reply(200))
    if how == "error":
        execution.record_error(ValueError())
    else:
        execution.record_timeout()
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert outcome.error is not None
    assert (outcome.failed, outcome.error.call_index, len(outcome.replies)) == (1, 1, 1)
    assert execution.next_call() is None


def test_after_the_last_call_no_call_is_to_blame() -> None:
    """What fails between the last call and COMMIT is the batch's failure."""
    execution = run(200, 200)
    execution.end_calls()
    execution.record_end_error(CommitError("no"))
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert (outcome.failed, outcome.error and outcome.error.message) == (None, "no")
    assert len(outcome.replies) == 2


def test_the_time_limit_after_the_last_call() -> None:
    """Where the limit passes between the last call and COMMIT, no call is to blame."""
    execution = run(200, 200)
    execution.end_calls()
    execution.record_timeout()
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert isinstance(outcome.error, TimeoutExceededError)
    assert (outcome.failed, execution.fate) == (None, Fate.ROLLED_BACK)
