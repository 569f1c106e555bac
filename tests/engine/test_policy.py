"""Policy: what follows a failed call, and what becomes of a batch without one."""

from __future__ import annotations

import pytest

from atomicbatch import Batch, Call, ConflictError, Failure, Fate, Reply
from atomicbatch.engine import Execution, Policy
from atomicbatch.engine.policy import NORMAL

BATCH = Batch(tuple(Call("POST", b"/%d" % i, b"", (), b"") for i in range(4)))
ALL_ERRORS = Policy(goes_on=True)
DRY_RUN = Policy(keeps=False)


def run(policy: Policy, *answers: int | Exception) -> Execution:
    """Give each call its answer, a status or an error, until no call is handed out."""
    execution = Execution(BATCH, policy)
    for answer in answers:
        if execution.next_call() is None:
            break
        if isinstance(answer, int):
            execution.record(Reply(answer, (), b"%d" % answer))
        else:
            execution.record_error(answer)
    return execution


def test_normal() -> None:
    """The first failed call is the last one; a batch without one asks for COMMIT."""
    assert run(NORMAL, 200, 409, 200, 200).handed_out == 2
    assert run(NORMAL, 200, 409).fate is Fate.ROLLED_BACK
    assert run(NORMAL, 200, 200, 200, 200).fate is Fate.COMMITTED


def test_a_dry_run_asks_for_no_commit() -> None:
    """A batch that is only tried is undone, whether its calls succeed or not."""
    assert run(DRY_RUN, 200, 200, 200, 200).fate is Fate.DRY_RUN
    failed = run(DRY_RUN, 200, 409, 200)
    assert (failed.fate, failed.handed_out) == (Fate.ROLLED_BACK, 2)


def test_all_errors() -> None:
    """Every call is performed; each that failed is named, with its reply or its error."""
    execution = run(ALL_ERRORS, 200, 409, ValueError("secret"), 404)
    outcome = execution.outcome(execution.fate)
    assert execution.handed_out == 4
    assert [failure.call for failure in outcome.failures] == [1, 2, 3]
    assert [reply.status for reply in outcome.replies] == [200, 409, 500, 404]
    assert outcome.failures[0] == Failure(1)
    error = outcome.failures[1].error
    assert error is not None
    assert (error.call_index, "secret" in str(error)) == (2, False)
    assert (outcome.failed, outcome.error, outcome.fate) == (1, None, Fate.ROLLED_BACK)


def test_all_errors_of_a_batch_without_any() -> None:
    """Going on after failures is no dry run: a batch that has none is committed."""
    assert run(ALL_ERRORS, 200, 200, 200, 200).fate is Fate.COMMITTED


def test_a_first_call_without_a_reply() -> None:
    """The error of the first failed call stands for the batch, whatever follows it."""
    execution = run(ALL_ERRORS, ValueError(), 409, 200, 200)
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert outcome.error is outcome.failures[0].error
    assert [reply.status for reply in outcome.replies] == [500, 409, 200, 200]


def test_a_lost_transaction_stops_every_batch() -> None:
    """After an error of the transaction no call can follow, and no call is to blame (SPEC 4.3)."""
    conflict = ConflictError("in the way")
    execution = run(ALL_ERRORS, 409, conflict, 200, 200)
    outcome = execution.outcome(Fate.ROLLED_BACK)
    assert execution.handed_out == 2
    assert (outcome.error, outcome.failures) == (conflict, ())
    assert [reply.status for reply in outcome.replies] == [409]


def test_the_time_limit_stops_every_batch() -> None:
    """Going on after failures ends at the time limit."""
    execution = run(ALL_ERRORS, 409)
    execution.record_timeout()
    assert execution.next_call() is None


@pytest.mark.parametrize("policy", [NORMAL, DRY_RUN, ALL_ERRORS])
def test_a_failed_batch_is_never_kept(policy: Policy) -> None:
    """Whatever the policy: COMMIT is asked for only where no call has failed (SPEC 4.1)."""
    assert run(policy, 200, 200, 200, 400).fate is Fate.ROLLED_BACK
