"""What follows from how an attempt ended: again, an outcome, or an error for the caller."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from atomicbatch import (
    AtomicBatchError,
    Batch,
    BrokenTransactionError,
    BusyError,
    CommitError,
    ConflictError,
    Fate,
    Outcome,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.engine import (
    Replay,
    Rollback,
)
from tests.engine.fakes import (
    CONFLICT,
    FAILED,
    OK,
    ONCE,
    Fake,
    Run,
    Step,
    run_async,
    run_sync,
)


@pytest.mark.parametrize("error", [CommitError("no"), BrokenTransactionError("no"), BusyError("")])
def test_a_commit_that_fails_is_a_rollback(run: Run, error: AtomicBatchError) -> None:
    """What COMMIT raises is the outcome's error; nothing says committed (SPEC 4.2)."""
    outcome = run(Fake(commit=[error]), [OK, OK, OK])
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, OK, OK), error=error)


@pytest.mark.parametrize(
    ("fake", "steps", "events"),
    [
        (Fake(begin=[CONFLICT]), [OK] * 3, ["begin"]),
        (Fake(), [OK, CONFLICT, OK, OK, OK], ["begin", "/0", "/1", "rollback"]),
        (Fake(commit=[CONFLICT]), [OK] * 6, ONCE),
        (Fake(rollback=[CONFLICT]), [FAILED, OK, OK, OK], ["begin", "/0", "rollback"]),
        (Fake(rollback=[CONFLICT]), [ValueError(), *[OK] * 3], ["begin", "/0", "rollback"]),
    ],
    ids=["at BEGIN", "in a call", "at COMMIT", "hidden behind a 409", "turned into a 500"],
)
@pytest.mark.parametrize("shell", [run_sync, run_async], ids=["sync", "async"])
def test_a_conflict_runs_the_batch_again(
    shell: Run, fake: Fake, steps: list[Step], events: list[str]
) -> None:
    """Wherever a conflict shows, the whole batch runs again in a fresh transaction (SPEC 6.1)."""
    copy = Fake()
    copy.plans = {name: list(plan) for name, plan in fake.plans.items()}
    outcome = shell(copy, steps)
    assert copy.events == events + ONCE
    assert outcome == Outcome(Fate.COMMITTED, (OK, OK, OK), attempts=2)


def test_a_conflict_that_stays(run: Run) -> None:
    """After the last attempt the conflict is the outcome; no call is to blame."""
    fake = Fake(commit=[CONFLICT] * 3)
    outcome = run(fake, [OK] * 9, replay=Replay(max_attempts=3, base_seconds=0))
    assert fake.events == ONCE * 3
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, OK, OK), error=CONFLICT, attempts=3)


def test_replay_can_be_turned_off(run: Run) -> None:
    """With one attempt a conflict is the outcome at once."""
    fake = Fake(commit=[CONFLICT])
    outcome = run(fake, [OK] * 3, replay=Replay(max_attempts=1))
    assert fake.events == ONCE
    assert (outcome.error, outcome.attempts) == (CONFLICT, 1)


class _Sleepy(Replay):
    def delay_seconds(self, attempt: int, random: float) -> float:
        return self.max_seconds


def test_no_replay_that_the_deadline_cannot_hold(run: Run) -> None:
    """A wait that would end after the time limit is not begun."""
    fake = Fake(commit=[CONFLICT] * 9)
    started = time.monotonic()
    outcome = run(fake, [OK] * 30, timeout_seconds=1, replay=_Sleepy(max_seconds=1e6))
    assert time.monotonic() - started < 1
    assert (outcome.error, outcome.attempts) == (CONFLICT, 1)


def test_an_unknown_commit_is_never_run_again(run: Run) -> None:
    """Who lost the connection during COMMIT is told so; the batch may be stored (SPEC 6.1)."""
    fake = Fake(commit=[UnknownOutcomeError("lost")])
    with pytest.raises(UnknownOutcomeError):
        run(fake, [OK] * 6)
    assert fake.events == ONCE


def test_a_driver_error_from_commit_is_unknown(run: Run) -> None:
    """An adapter that lets its driver's exception out of COMMIT leaves us not knowing."""
    with pytest.raises(UnknownOutcomeError) as caught:
        run(Fake(commit=[OSError("reset")]), [OK] * 3)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        OSError(5, "Input/output error"),
        struct.error(),
        Rollback(),
        AtomicBatchError("no transaction error"),
        ExceptionGroup("tasks", [ConflictError("one of them")]),
    ],
    ids=repr,
)
def test_whatever_comes_out_of_commit_is_unknown(
    run: Run, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what an adapter calls by one of our names is known; the rest is told, in one line."""
    fake = Fake(commit=[error])
    with pytest.raises(UnknownOutcomeError) as caught:
        run(fake, [OK] * 6)
    assert caught.value.__cause__ is error
    assert fake.events == ONCE
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "Traceback" not in caplog.text


def test_an_interrupt_during_commit_claims_nothing(run: Run) -> None:
    """Ctrl-C goes through: no outcome is told at all."""
    with pytest.raises(KeyboardInterrupt):
        run(Fake(commit=[KeyboardInterrupt()]), [OK] * 3)


def test_a_driver_error_from_rollback_is_a_broken_transaction(run: Run) -> None:
    """An adapter that lets its driver's exception out of ROLLBACK breaks the failed batch."""
    outcome = run(Fake(rollback=[OSError("reset")]), [FAILED])
    assert isinstance(outcome.error, BrokenTransactionError)
    assert (outcome.committed, outcome.failed) == (False, 0)


@pytest.mark.parametrize("error", [BusyError("no connection"), TimeoutExceededError(""), OSError()])
def test_a_batch_that_could_not_begin_did_not_run(run: Run, error: Exception) -> None:
    """What BEGIN raises goes to the caller where no call has been performed (SPEC 5.3)."""
    fake = Fake(begin=[error])
    with pytest.raises(type(error)) as caught:
        run(fake, [])
    assert caught.value is error
    assert fake.events == ["begin"]


def test_a_batch_that_cannot_begin_again_has_run(run: Run) -> None:
    """Once calls have been performed, an error from a later BEGIN is an outcome."""
    busy = BusyError("no connection")
    outcome = run(Fake(begin=[None, busy], commit=[CONFLICT]), [OK] * 3)
    assert (outcome.committed, outcome.error, outcome.attempts) == (False, busy, 2)


def test_no_time_left_before_the_first_call(run: Run) -> None:
    """Where BEGIN took all the time, nothing runs, and the batch did not start."""
    fake = Fake()
    with pytest.raises(TimeoutExceededError):
        run(fake, [OK], timeout_seconds=-1)
    assert "/0" not in fake.events
    assert fake.events in (["begin", "rollback"], [])


def test_an_adapter_that_swallows_rollback_does_not_make_it_a_commit() -> None:
    """The block left by Rollback without an error is still a rollback."""

    class Swallowing(Fake):
        @contextmanager
        def begin(self, batch: Batch, *, deadline: float) -> Iterator[Fake]:
            try:
                yield self
            except Rollback:
                self.events.append("rollback")

    fake = Swallowing()
    assert not run_sync(fake, [FAILED]).committed
    assert not run_async(fake, [FAILED]).committed


def test_a_block_that_hides_why_it_was_left() -> None:
    """An adapter that swallows whatever leaves its block has not committed, so nobody says so."""

    class Hiding(Fake):
        @contextmanager
        def begin(self, batch: Batch, *, deadline: float) -> Iterator[Fake]:
            with suppress(BaseException):
                yield self

    outcome = run_sync(Hiding(), [OK, KeyboardInterrupt()])
    assert outcome.fate is Fate.ROLLED_BACK
    assert isinstance(outcome.error, BrokenTransactionError)
