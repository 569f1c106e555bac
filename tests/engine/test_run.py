"""execute and execute_async: what both promise is tested on both, with the same scripts."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from atomicbatch import (
    BrokenTransactionError,
    Call,
    CommitError,
    Failure,
    Fate,
    Outcome,
    Reply,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.engine import (
    Policy,
    Rollback,
    execute,
    execute_async,
)
from atomicbatch.errors import LimitError
from tests.engine.fakes import (
    BATCH,
    CONFLICT,
    FAILED,
    OK,
    ONCE,
    AsyncFake,
    Fake,
    Run,
    Seal,
    Step,
    run_sync,
)


def test_all_calls_succeed(run: Run) -> None:
    """BEGIN, the calls in order, COMMIT; then the outcome is committed."""
    fake = Fake()
    outcome = run(fake, [OK, OK, OK])
    assert fake.events == ONCE
    assert outcome == Outcome(Fate.COMMITTED, (OK, OK, OK))


def test_the_first_failure_rolls_back(run: Run) -> None:
    """After a failed call none is performed, and the transaction is left by Rollback."""
    fake = Fake()
    outcome = run(fake, [OK, FAILED])
    assert fake.events == ["begin", "/0", "/1", "rollback"]
    assert isinstance(fake.left_by[0], Rollback)
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, FAILED), failures=(Failure(1),))


def test_a_handlers_exception_rolls_back(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises is a failed call; the exception is logged, and told to nobody else."""
    fake, secret = Fake(), ValueError("hunter2")
    with caplog.at_level(logging.ERROR, "atomicbatch"):
        outcome = run(fake, [OK, secret])
    assert fake.events == ["begin", "/0", "/1", "rollback"]
    assert (outcome.failed, outcome.committed) == (1, False)
    assert outcome.error is not None
    assert (outcome.error.status, outcome.error.slug) == (500, "internal-error")
    assert "hunter2" not in str(outcome.error)
    assert "hunter2" in caplog.text


def test_the_adapter_can_see_why(run: Run) -> None:
    """The way out of the block leads back to the handler's exception, which may be a conflict."""
    fake, cause = Fake(), ValueError()
    run(fake, [cause])
    link: BaseException | None = fake.left_by[0]
    links = []
    while link is not None:
        links.append(link)
        link = link.__cause__
    assert cause in links


def test_a_limit_is_the_calls_failure(run: Run) -> None:
    """An error of ours from a call, like a reply over the limit, keeps its status and members."""
    error = LimitError("too long", limit="max_reply_bytes", maximum=3)
    outcome = run(Fake(), [OK, error])
    assert (outcome.failed, outcome.error) == (1, error)


def test_interrupts_roll_back_and_propagate() -> None:
    """KeyboardInterrupt in a call rolls back and goes on its way."""
    fake = Fake()
    with pytest.raises(KeyboardInterrupt):
        run_sync(fake, [OK, KeyboardInterrupt()])
    assert fake.events == ["begin", "/0", "/1", "rollback"]


def test_sync_time_limit_is_seen_after_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call during which the limit passed is the failing one, also the last one: no COMMIT."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    fake = Fake()

    def perform(call: Call, connection: Fake) -> Reply:
        clock[0] += 4
        return OK

    outcome = execute(BATCH, fake, perform, timeout_seconds=10)
    assert fake.events == ["begin", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert (outcome.failed, len(outcome.replies)) == (2, 2)


# The seal ----------------------------------------------------------------------------------------


def sealing(outcomes: list[Outcome], *steps: Exception | None) -> Seal:
    """Make a seal that writes down what it is given, and raises what it is told to."""
    script = iter(steps)

    def seal(outcome: Outcome, connection: Fake) -> None:
        connection.events.append("seal")
        outcomes.append(outcome)
        if (error := next(script, None)) is not None:
            raise error

    return seal


def test_the_seal_is_the_last_thing_before_commit(run: Run) -> None:
    """It is given the outcome there will be, and what the transaction's block gave."""
    fake, sealed = Fake(), list[Outcome]()
    outcome = run(fake, [OK, OK, OK], seal=sealing(sealed))
    assert fake.events == ["begin", "/0", "/1", "/2", "seal", "commit"]
    assert sealed == [outcome]
    assert outcome.committed


@pytest.mark.parametrize("step", [FAILED, ValueError(), UnknownOutcomeError("odd")])
def test_a_batch_that_failed_is_not_sealed(run: Run, step: Step) -> None:
    """What will not be stored has nothing to seal."""
    fake = Fake()
    run(fake, [OK, step], seal=sealing([]))
    assert fake.events == ["begin", "/0", "/1", "rollback"]


def test_an_error_of_the_seal_rolls_back(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Its own error is told as it is, and blames no call; nothing is committed."""
    fake, error = Fake(), CommitError("another request has this key")
    outcome = run(fake, [OK, OK, OK], seal=sealing([], error))
    assert fake.events == ["begin", "/0", "/1", "/2", "seal", "rollback"]
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, OK, OK), error=error)
    assert caplog.records == []


def test_a_strange_error_of_the_seal(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Any other exception is an internal error that says nothing about it, but for the log."""
    fake, secret = Fake(), ValueError("hunter2")
    with caplog.at_level(logging.ERROR, "atomicbatch"):
        outcome = run(fake, [OK, OK, OK], seal=sealing([], secret))
    assert fake.events[-1] == "rollback"
    assert outcome.error is not None
    assert (outcome.error.status, outcome.failed) == (500, None)
    assert "hunter2" not in str(outcome.error)
    assert "hunter2" in caplog.text


@pytest.mark.parametrize("at", ["seal", "rollback"])
def test_a_conflict_of_the_seal_runs_the_batch_again(run: Run, at: str) -> None:
    """Whether the seal says that it was one, or the transaction, which has seen its error."""
    fake = Fake(rollback=[CONFLICT] if at == "rollback" else [])
    error = CONFLICT if at == "seal" else ValueError()
    sealed = list[Outcome]()
    outcome = run(fake, [OK] * 6, seal=sealing(sealed, error))
    assert fake.events == [*ONCE[:-1], "seal", "rollback", *ONCE[:-1], "seal", "commit"]
    assert outcome == Outcome(Fate.COMMITTED, (OK, OK, OK), attempts=2)
    assert [one.attempts for one in sealed] == [1, 2]


def test_a_seal_that_took_all_the_time(run: Run) -> None:
    """Where the limit passes while the batch is sealed, it is rolled back; no call is to blame."""
    fake = Fake()

    def seal(outcome: Outcome, connection: Fake) -> None:
        while time.monotonic() < started + 0.1:
            pass

    started = time.monotonic()
    outcome = run(fake, [OK, OK, OK], timeout_seconds=0.05, seal=seal)
    assert fake.events == ["begin", "/0", "/1", "/2", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert (outcome.failed, str(outcome.error)) == (None, "the time limit passed before COMMIT")


def test_the_time_limit_interrupts_the_seal() -> None:
    """A seal that waits for ever is interrupted, and the batch rolled back."""

    async def seal(outcome: Outcome, connection: Fake) -> None:
        await asyncio.Event().wait()

    async def perform(call: Call, connection: Fake) -> Reply:
        return OK

    fake = Fake()
    outcome = asyncio.run(
        execute_async(BATCH, AsyncFake(fake), perform, timeout_seconds=0.05, seal=seal)
    )
    assert fake.events == ["begin", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed is None


def test_cancelled_during_the_seal() -> None:
    """Cancelling interrupts the seal, rolls back and propagates, also where it is swallowed."""

    async def main() -> list[str]:
        sealing, fake = asyncio.Event(), Fake()

        async def seal(outcome: Outcome, connection: Fake) -> None:
            sealing.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                fake.events.append("swallowed")

        async def perform(call: Call, connection: Fake) -> Reply:
            return OK

        task = asyncio.create_task(
            execute_async(BATCH, AsyncFake(fake), perform, timeout_seconds=30, seal=seal)
        )
        await sealing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return fake.events

    assert asyncio.run(main()) == ["begin", "swallowed", "rollback"]


# The policy --------------------------------------------------------------------------------------


def test_a_dry_run_is_undone(run: Run) -> None:
    """Every call is performed and the batch is sealed, but it is left by Rollback."""
    fake, sealed = Fake(), list[Outcome]()
    outcome = run(fake, [OK, OK, OK], policy=Policy(keeps=False), seal=sealing(sealed))
    assert fake.events == ["begin", "/0", "/1", "/2", "seal", "rollback"]
    assert isinstance(fake.left_by[0], Rollback)
    assert outcome == Outcome(Fate.DRY_RUN, (OK, OK, OK))
    assert sealed == [outcome]


def test_a_dry_run_that_fails(run: Run) -> None:
    """A dry run with a failed call has found out what it was made for: it is rolled back."""
    outcome = run(Fake(), [OK, FAILED], policy=Policy(keeps=False))
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, FAILED), (Failure(1),))


def test_a_conflict_in_a_dry_run(run: Run) -> None:
    """A dry run that met a conflict runs again, as it would for real."""
    outcome = run(Fake(rollback=[CONFLICT]), [OK] * 6, policy=Policy(keeps=False))
    assert (outcome.fate, outcome.attempts) == (Fate.DRY_RUN, 2)


def test_a_transaction_that_breaks_in_a_dry_run(run: Run) -> None:
    """Where work may have escaped, nobody is told that a dry run has left nothing."""
    error = BrokenTransactionError("ended early")
    outcome = run(Fake(rollback=[error]), [OK, OK, OK], policy=Policy(keeps=False))
    assert (outcome.fate, outcome.error) == (Fate.ROLLED_BACK, error)


def test_all_errors_are_shown_and_nothing_is_kept(run: Run) -> None:
    """With a policy that goes on, every call is performed, and the batch is rolled back."""
    fake = Fake()
    outcome = run(fake, [FAILED, OK, FAILED], policy=Policy(goes_on=True))
    assert fake.events == ["begin", "/0", "/1", "/2", "rollback"]
    assert outcome == Outcome(Fate.ROLLED_BACK, (FAILED, OK, FAILED), (Failure(0), Failure(2)))


# What only the async shell has to keep: interruption.


def test_the_time_limit_interrupts_the_running_call() -> None:
    """A call that waits for ever is interrupted, blamed, and the batch rolled back."""

    async def main() -> tuple[Fake, Outcome, float]:
        fake = Fake()

        async def perform(call: Call, connection: Fake) -> Reply:
            if call is BATCH.calls[1]:
                await asyncio.Event().wait()
            return OK

        started = time.monotonic()
        outcome = await execute_async(BATCH, AsyncFake(fake), perform, timeout_seconds=0.05)
        return fake, outcome, time.monotonic() - started

    fake, outcome, seconds = asyncio.run(main())
    assert fake.events == ["begin", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed == 1
    assert 0.05 <= seconds < 5


def test_a_call_that_swallows_the_time_limit_fails_all_the_same() -> None:
    """A handler that catches its cancellation and answers 200 does not make the batch commit."""

    async def main() -> tuple[Fake, Outcome]:
        fake = Fake()

        async def perform(call: Call, connection: Fake) -> Reply:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                connection.events.append("swallowed")
            return OK

        return fake, await execute_async(BATCH, AsyncFake(fake), perform, timeout_seconds=0.05)

    fake, outcome = asyncio.run(main())
    assert fake.events == ["begin", "swallowed", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed == 0


def test_the_time_limit_and_a_call_that_never_waits() -> None:
    """A call that does not let the event loop run is found to have taken too long afterwards."""
    fake, performed = Fake(), []

    async def perform(call: Call, connection: Fake) -> Reply:
        performed.append(call)
        time.sleep(0.03)
        return OK

    outcome = asyncio.run(execute_async(BATCH, AsyncFake(fake), perform, timeout_seconds=0.05))
    assert fake.events == ["begin", "rollback"]
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed == len(performed) - 1 < 2
