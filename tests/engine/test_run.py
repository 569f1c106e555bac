"""execute and execute_async: what both promise is tested on both, with the same scripts."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from atomicbatch import (
    AtomicBatchError,
    Batch,
    BrokenTransactionError,
    BusyError,
    Call,
    CommitError,
    ConflictError,
    Failure,
    Fate,
    Outcome,
    Reply,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.engine import (
    Observer,
    Policy,
    Replay,
    Rollback,
    execute,
    execute_async,
)
from atomicbatch.engine.logs import LOGS
from atomicbatch.engine.policy import NORMAL
from atomicbatch.errors import LimitError

BATCH = Batch(tuple(Call("POST", b"/%d" % i, b"", (), b"") for i in range(3)))
AT_ONCE = Replay(base_seconds=0)
OK = Reply(200, (), b"")
Step = Reply | BaseException


class Fake:
    """A transaction that writes down what happens to it and raises what it is told to."""

    def __init__(
        self,
        *,
        begin: Sequence[Exception | None] = (),
        commit: Sequence[BaseException | None] = (),
        rollback: Sequence[Exception | None] = (),
    ) -> None:
        self.plans: dict[str, list[BaseException | None]] = {
            "begin": list(begin),
            "commit": list(commit),
            "rollback": list(rollback),
        }
        self.events: list[str] = []
        self.left_by: list[BaseException] = []

    def happen(self, event: str) -> None:
        self.events.append(event)
        plan = self.plans[event]
        error = plan.pop(0) if plan else None
        if error is not None:
            raise error

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[Fake]:
        self.happen("begin")
        try:
            yield self
        except BaseException as error:
            self.left_by.append(error)
            self.happen("rollback")
            raise
        self.happen("commit")


class AsyncFake:
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Fake]:
        with self.fake.begin(batch, deadline=deadline) as connection:
            await asyncio.sleep(0)
            yield connection
            await asyncio.sleep(0)


Run = Callable[..., Outcome]


Seal = Callable[[Outcome, Fake], None]


def run_sync(
    fake: Fake,
    steps: Sequence[Step],
    *,
    timeout_seconds: float = 30,
    replay: Replay = AT_ONCE,
    policy: Policy = NORMAL,
    seal: Seal | None = None,
    observer: Observer = LOGS,
) -> Outcome:
    script = iter(steps)

    def perform(call: Call, connection: Fake) -> Reply:
        assert connection is fake
        connection.events.append(call.path.decode())
        step = next(script)
        if isinstance(step, BaseException):
            raise step
        return step

    return execute(
        BATCH,
        fake,
        perform,
        timeout_seconds=timeout_seconds,
        replay=replay,
        policy=policy,
        seal=seal,
        observer=observer,
    )


def run_async(
    fake: Fake,
    steps: Sequence[Step],
    *,
    timeout_seconds: float = 30,
    replay: Replay = AT_ONCE,
    policy: Policy = NORMAL,
    seal: Seal | None = None,
    observer: Observer = LOGS,
) -> Outcome:
    script = iter(steps)

    async def perform(call: Call, connection: Fake) -> Reply:
        assert connection is fake
        connection.events.append(call.path.decode())
        await asyncio.sleep(0)
        step = next(script)
        if isinstance(step, BaseException):
            raise step
        return step

    async def seal_async(outcome: Outcome, connection: Fake) -> None:
        await asyncio.sleep(0)
        if seal is not None:
            seal(outcome, connection)

    return asyncio.run(
        execute_async(
            BATCH,
            AsyncFake(fake),
            perform,
            timeout_seconds=timeout_seconds,
            replay=replay,
            policy=policy,
            seal=None if seal is None else seal_async,
            observer=observer,
        )
    )


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    shell: Run = request.param
    return shell


ONCE = ["begin", "/0", "/1", "/2", "commit"]
FAILED = Reply(409, (), b"taken")


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


@pytest.mark.parametrize("error", [CommitError("no"), BrokenTransactionError("no"), BusyError("")])
def test_a_commit_that_fails_is_a_rollback(run: Run, error: AtomicBatchError) -> None:
    """What COMMIT raises is the outcome's error; nothing says committed (SPEC 4.2)."""
    outcome = run(Fake(commit=[error]), [OK, OK, OK])
    assert outcome == Outcome(Fate.ROLLED_BACK, (OK, OK, OK), error=error)


CONFLICT = ConflictError("in the way")


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


def test_no_replay_that_the_deadline_cannot_hold(run: Run) -> None:
    """A wait that would end after the time limit is not begun."""
    fake = Fake(commit=[CONFLICT] * 9)
    started = time.monotonic()
    outcome = run(fake, [OK] * 30, timeout_seconds=1, replay=_Sleepy(max_seconds=1e6))
    assert time.monotonic() - started < 1
    assert (outcome.error, outcome.attempts) == (CONFLICT, 1)


class _Sleepy(Replay):
    def delay_seconds(self, attempt: int, random: float) -> float:
        return self.max_seconds


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


def test_commit_cancelled_by_others_is_unknown() -> None:
    """Code that cancels all tasks it finds hits COMMIT as well, which nobody asked us to cancel."""

    class Cancelled(AsyncFake):
        @asynccontextmanager
        async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Fake]:
            yield self.fake
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(10)

    async def perform(call: Call, connection: Fake) -> Reply:
        return OK

    with pytest.raises(UnknownOutcomeError, match="cancelled"):
        asyncio.run(
            execute_async(BATCH, Cancelled(Fake()), perform, timeout_seconds=30, replay=AT_ONCE)
        )


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


class Gates:
    """A transaction that can be held at each of its steps."""

    def __init__(self, hold: str) -> None:
        self.hold = hold
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.events: list[str] = []

    async def step(self, event: str) -> None:
        self.events.append(event)
        if event == self.hold:
            self.reached.set()
            await self.go_on.wait()
        self.events.append(event + "ed")

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Gates]:
        await self.step("begin")
        try:
            yield self
        except BaseException:
            await self.step("rollback")
            raise
        await self.step("commit")


async def perform_on_gates(call: Call, gates: Gates) -> Reply:
    await gates.step(call.path.decode())
    return OK


async def cancel_at(
    hold: str, perform: Callable[[Call, Gates], Awaitable[Reply]] = perform_on_gates
) -> tuple[Gates, asyncio.Task[Outcome]]:
    gates = Gates(hold)
    task = asyncio.create_task(execute_async(BATCH, gates, perform, timeout_seconds=30))
    await gates.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    return gates, task


def test_cancelled_during_begin() -> None:
    """Cancelling reaches a BEGIN that waits for a connection."""

    async def main() -> list[str]:
        gates, task = await cancel_at("begin")
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main()) == ["begin"]


def test_cancelled_during_a_call() -> None:
    """Cancelling interrupts the running call, rolls back and propagates (SPEC 4.6)."""

    async def main() -> list[str]:
        gates, task = await cancel_at("/1")
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main()) == ["begin", "begined", "/0", "/0ed", "/1", "rollback", "rollbacked"]


def test_cancelling_again_does_not_cut_clean_up_short() -> None:
    """A handler's own clean-up is left alone by the second cancellation, and the third."""

    async def tidy(call: Call, gates: Gates) -> Reply:
        try:
            await gates.step(call.path.decode())
        except asyncio.CancelledError:
            for _ in range(10):
                await asyncio.sleep(0)
            gates.events.append("tidied")
            raise
        return OK

    async def main() -> list[str]:
        gates, task = await cancel_at("/0", tidy)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main())[2:] == ["/0", "tidied", "rollback", "rollbacked"]


def test_a_call_that_swallows_cancellation_does_not_commit() -> None:
    """A handler that catches its cancellation and answers 200: rolled back and propagated."""

    async def swallow(call: Call, gates: Gates) -> Reply:
        try:
            await gates.step(call.path.decode())
        except asyncio.CancelledError:
            gates.events.append("swallowed")
        return OK

    async def main() -> list[str]:
        gates, task = await cancel_at("/0", swallow)
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main())[2:] == ["/0", "swallowed", "rollback", "rollbacked"]


@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_during_commit(times: int) -> None:
    """Once COMMIT has begun it is awaited to its end, however often the caller is cancelled."""

    async def main() -> list[str]:
        gates, task = await cancel_at("commit")
        for _ in range(times - 1):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        assert gates.events[-1] == "commit"
        gates.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main())[-2:] == ["commit", "commited"]


def test_cancelled_during_rollback() -> None:
    """ROLLBACK is awaited to its end as well: a second cancellation does not cut it short."""

    async def fail(call: Call, gates: Gates) -> Reply:
        return FAILED

    async def main() -> list[str]:
        gates, task = await cancel_at("rollback", fail)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        gates.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return gates.events

    assert asyncio.run(main())[-2:] == ["rollback", "rollbacked"]


def test_the_time_limit_does_not_interrupt_commit() -> None:
    """A COMMIT that takes longer than the limit is awaited, and the batch is committed."""

    async def main() -> tuple[list[str], Outcome]:
        gates = Gates("commit")
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            execute_async(BATCH, gates, perform_on_gates, timeout_seconds=0.05)
        )
        await gates.reached.wait()
        loop.call_later(0.1, gates.go_on.set)
        return gates.events, await task

    events, outcome = asyncio.run(main())
    assert events[-1] == "commited"
    assert outcome.committed


def test_an_error_of_a_cancelled_batch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody is left to be told that a COMMIT failed, the log is."""

    async def main() -> None:
        class Refused(Gates):
            async def step(self, event: str) -> None:
                await super().step(event)
                if event == "commit":
                    raise CommitError("no")

        gates = Refused("commit")
        task = asyncio.create_task(
            execute_async(BATCH, gates, perform_on_gates, timeout_seconds=30)
        )
        await gates.reached.wait()
        task.cancel()
        gates.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert "a cancelled batch ended with an error" in caplog.text
