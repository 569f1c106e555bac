"""Calls that are taken ahead: the one to blame is the first that is not recorded."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from atomicbatch import BusyError, Failure, Fate, Outcome, Reply, TimeoutExceededError
from atomicbatch.engine import Calls, Observer, execute_by
from atomicbatch.engine.logs import LOGS
from atomicbatch.errors import AtomicBatchError
from tests.engine.fakes import AT_ONCE, BATCH, CONFLICT, FAILED, OK, Fake


def run_by(
    runner: Callable[[Calls, Fake], None],
    fake: Fake | None = None,
    *,
    timeout_seconds: float = 30,
    observer: Observer = LOGS,
) -> Outcome:
    return execute_by(
        runner,
        BATCH,
        fake or Fake(),
        timeout_seconds=timeout_seconds,
        replay=AT_ONCE,
        observer=observer,
    )


def take_all(calls: Calls) -> None:
    assert [call.path for call in iter(calls.next, None)] == [b"/0", b"/1", b"/2"]


def test_all_are_taken_before_the_first_is_recorded() -> None:
    """Replies belong to calls in the order in which these were taken."""
    replies = [Reply(200, (), b"%d" % number) for number in range(3)]

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        for reply in replies:
            calls.record(reply)

    assert run_by(runner) == Outcome(Fate.COMMITTED, tuple(replies))


def test_the_first_that_is_not_recorded_is_to_blame() -> None:
    """However many were taken since; those behind it have no reply."""

    def refused(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        calls.record(FAILED)
        assert calls.failed
        assert calls.recorded == 2

    def raised(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        calls.record_error(ValueError())

    assert run_by(refused) == Outcome(Fate.ROLLED_BACK, (OK, FAILED), failures=(Failure(1),))
    outcome = run_by(raised)
    assert (outcome.fate, outcome.failed, outcome.replies) == (Fate.ROLLED_BACK, 1, (OK,))
    assert isinstance(outcome.error, AtomicBatchError)
    assert outcome.error.call_index == 1


def test_no_call_is_handed_out_after_a_failure() -> None:
    """The batch has stopped."""

    def runner(calls: Calls, _: Fake) -> None:
        assert calls.next() is not None
        calls.record(FAILED)
        assert calls.next() is None

    assert run_by(runner).failed == 0


def test_a_late_answer_is_its_own_call_s_fault() -> None:
    """The time limit is looked at when a call is recorded, and blames that one, not the next."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        time.sleep(0.05)  # the time limit that is tested
        calls.record(OK)
        assert calls.failed

    outcome = run_by(runner, timeout_seconds=0.03)
    assert (outcome.fate, outcome.failed, outcome.replies) == (Fate.ROLLED_BACK, 1, (OK,))
    assert isinstance(outcome.error, TimeoutExceededError)


def test_of_answers_that_came_together_the_failing_one_is_to_blame() -> None:
    """A time limit interrupts one of several statements; those before it were in time."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        time.sleep(0.05)  # the time limit that is tested
        calls.record(OK, more=True)
        assert not calls.failed
        calls.record_error(TimeoutExceededError("interrupted"))

    outcome = run_by(runner, timeout_seconds=0.03)
    assert (outcome.fate, outcome.failed, outcome.replies) == (Fate.ROLLED_BACK, 1, (OK,))


def test_a_conflict_runs_all_of_it_again() -> None:
    """In a transaction of its own."""
    fake, attempts = Fake(), iter([CONFLICT, None])

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        if (error := next(attempts)) is not None:
            calls.record_error(error)
            return
        calls.record(OK)
        calls.record(OK)

    outcome = run_by(runner, fake)
    assert outcome == Outcome(Fate.COMMITTED, (OK, OK, OK), attempts=2)
    assert fake.events == ["begin", "rollback", "begin", "commit"]


def test_a_transaction_that_did_not_begin_has_run_no_call() -> None:
    """BEGIN may travel with the first calls; if it fails, the batch was not started."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.take_back()
        raise BusyError("the database cannot be reached")

    with pytest.raises(BusyError):
        run_by(runner)


def test_what_is_recorded_cannot_be_taken_back() -> None:
    """It has run."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        with pytest.raises(RuntimeError):
            calls.take_back()
        calls.record(OK)
        calls.record(OK)

    assert run_by(runner).committed


def test_what_is_recorded_anew_is_what_counts() -> None:
    """The replies of a transaction that was undone are no replies."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(OK)
        calls.begin_again()
        assert calls.recorded == 0
        take_all(calls)
        for number in range(3):
            calls.record(Reply(200, (), b"%d" % number))

    assert [reply.body for reply in run_by(runner).replies] == [b"0", b"1", b"2"]


def test_a_batch_that_has_failed_does_not_begin_again() -> None:
    """Its failure would be forgotten."""

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        calls.record(FAILED)
        with pytest.raises(RuntimeError):
            calls.begin_again()

    assert not run_by(runner).committed


def test_observers_are_told_of_the_call_that_is_recorded() -> None:
    """By its own number, not by that of the call that was taken last."""
    told: list[int] = []

    class Listener(Observer):
        def call_performed(self, batch: object, index: int, *_: object) -> None:
            told.append(index)

    def runner(calls: Calls, _: Fake) -> None:
        take_all(calls)
        for _number in range(3):
            calls.record(OK)

    run_by(runner, observer=Listener())
    assert told == [0, 1, 2]
