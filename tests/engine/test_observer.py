"""Observers: what happens to a batch is told once, and by whom it is told fails no batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from atomicbatch import (
    Batch,
    BusyError,
    Call,
    CommitError,
    ConflictError,
    Fate,
    Outcome,
    Reply,
    UnknownOutcomeError,
)
from atomicbatch.engine import Observer, Observers, Policy, Replay, Turns, execute_async
from atomicbatch.engine.logs import Logs
from tests.engine.fakes import CONFLICT, FAILED, OK, AsyncFake, Fake, Run

BATCH = Batch(tuple(Call("POST", b"/%d" % i, b"", (), b"") for i in range(3)))


class Heard(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def attempt_begun(self, batch: Batch, attempt: int) -> None:
        self.events.append(("begun", attempt))

    def call_performed(
        self, batch: Batch, index: int, reply: Reply | None, error: Exception | None
    ) -> None:
        self.events.append(("call", index, reply, error))

    def conflict_met(self, batch: Batch, attempt: int, error: ConflictError) -> None:
        self.events.append(("conflict", attempt, error))

    def replay_planned(self, batch: Batch, attempt: int, delay_seconds: float) -> None:
        self.events.append(("replay", attempt, delay_seconds))

    def committed(
        self, batch: Batch, outcome: Outcome, last_conflict: ConflictError | None
    ) -> None:
        self.events.append(("committed", outcome, last_conflict))

    def rolled_back(self, batch: Batch, outcome: Outcome) -> None:
        self.events.append(("rolled back", outcome))

    def unknown(self, batch: Batch, error: UnknownOutcomeError) -> None:
        self.events.append(("unknown", error))

    def not_started(self, batch: Batch, error: Exception) -> None:
        self.events.append(("not started", error))

    def abandoned(self, batch: Batch, fate: Fate, error: BaseException | None) -> None:
        self.events.append(("abandoned", fate, error))


CALLS = [("call", 0, OK, None), ("call", 1, OK, None), ("call", 2, OK, None)]


def test_a_batch_that_commits(run: Run) -> None:
    """The attempt, each call with its reply, and the end."""
    heard = Heard()
    outcome = run(Fake(), [OK, OK, OK], observer=heard)
    assert heard.events == [("begun", 1), *CALLS, ("committed", outcome, None)]


def test_a_batch_that_fails(run: Run) -> None:
    """The failed call is told with its reply, or with the error it has raised."""
    heard, error = Heard(), ValueError()
    outcome = run(Fake(), [OK, FAILED], observer=heard)
    assert heard.events == [
        ("begun", 1),
        CALLS[0],
        ("call", 1, FAILED, None),
        ("rolled back", outcome),
    ]
    heard = Heard()
    outcome = run(Fake(), [OK, error], observer=heard)
    assert heard.events[2:] == [("call", 1, None, error), ("rolled back", outcome)]


def test_calls_are_counted_where_the_batch_goes_on(run: Run) -> None:
    """Each call is told under its own number, also after one that raised."""
    heard = Heard()
    run(Fake(), [ValueError(), OK, FAILED], observer=heard, policy=Policy(goes_on=True))
    assert [event[1] for event in heard.events[1:4]] == [0, 1, 2]


def test_a_batch_that_runs_again(run: Run) -> None:
    """A conflict is told, then that the batch runs again, and with the end what was met."""
    heard = Heard()
    outcome = run(Fake(commit=[CONFLICT]), [OK] * 6, observer=heard)
    assert heard.events == [
        ("begun", 1),
        *CALLS,
        ("conflict", 1, CONFLICT),
        ("replay", 2, 0.0),
        ("begun", 2),
        *CALLS,
        ("committed", outcome, CONFLICT),
    ]


def test_a_conflict_that_stays(run: Run) -> None:
    """After the last attempt the conflict is told, but no replay; the end is a rollback."""
    heard, once = Heard(), Replay(max_attempts=1)
    outcome = run(Fake(commit=[CONFLICT]), [OK] * 3, observer=heard, replay=once)
    assert heard.events[4:] == [("conflict", 1, CONFLICT), ("rolled back", outcome)]


def test_a_dry_run(run: Run) -> None:
    """A dry run is told as a rollback, whose outcome says what it was."""
    heard = Heard()
    outcome = run(Fake(), [OK, OK, OK], observer=heard, policy=Policy(keeps=False))
    assert heard.events[-1] == ("rolled back", outcome)


@pytest.mark.parametrize("error", [UnknownOutcomeError("lost"), OSError()])
def test_an_unknown_outcome(run: Run, error: Exception) -> None:
    """It is told once, as the error that the caller gets."""
    heard = Heard()
    with pytest.raises(UnknownOutcomeError) as caught:
        run(Fake(commit=[error]), [OK, OK, OK], observer=heard)
    assert heard.events[4:] == [("unknown", caught.value)]


@pytest.mark.parametrize("error", [BusyError("no connection"), OSError()])
def test_a_batch_that_did_not_start(run: Run, error: Exception) -> None:
    """Where no call was performed, there is no outcome to tell."""
    heard = Heard()
    with pytest.raises(type(error)):
        run(Fake(begin=[error]), [], observer=heard)
    assert heard.events == [("begun", 1), ("not started", error)]


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (None, Fate.COMMITTED),
        (CommitError("no"), Fate.ROLLED_BACK),
        (UnknownOutcomeError("lost"), Fate.UNKNOWN),
        (OSError(), Fate.UNKNOWN),
    ],
    ids=["committed", "refused", "unknown", "a driver's error"],
)
def test_a_cancelled_batch(error: Exception | None, fate: Fate) -> None:
    """Of a batch that was cancelled, the last thing told is how its transaction ended."""

    class Waiting(Fake):
        @contextmanager
        def begin(self, batch: Batch, *, deadline: float) -> Iterator[Fake]:
            yield self
            task.cancel()
            if error is not None:
                raise error

    class Manager:
        def __init__(self, block: Any) -> None:
            self.block = block

        async def __aenter__(self) -> Fake:
            fake: Fake = self.block.__enter__()
            return fake

        async def __aexit__(self, *how: Any) -> None:
            self.block.__exit__(*how)
            await asyncio.sleep(0.01)

    class Async:
        def begin(self, batch: Batch, *, deadline: float) -> Any:
            return Manager(Waiting().begin(batch, deadline=deadline))

    async def perform(call: Call, connection: Fake) -> Reply:
        return OK

    heard = Heard()
    task: asyncio.Task[Outcome]

    async def main() -> None:
        nonlocal task
        task = asyncio.create_task(
            execute_async(BATCH, Async(), perform, timeout_seconds=30, observer=heard)
        )
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert heard.events[4:] == [("abandoned", fate, error)]


def test_a_batch_that_is_cancelled_in_a_call() -> None:
    """It is undone, and told once."""
    heard = Heard()

    async def perform(call: Call, connection: Fake) -> Reply:
        await asyncio.Event().wait()
        return OK

    async def main() -> None:
        task = asyncio.create_task(
            execute_async(BATCH, AsyncFake(Fake()), perform, timeout_seconds=30, observer=heard)
        )
        while len(heard.events) < 1:
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert heard.events == [("begun", 1), ("abandoned", Fate.ROLLED_BACK, None)]


def test_a_batch_that_is_cancelled_in_the_line() -> None:
    """A batch whose turn has not come is given up before its first attempt."""
    turns, heard = Turns(), Heard()
    turns.ask(BATCH)

    async def perform(call: Call, connection: Fake) -> Reply:
        raise AssertionError

    async def main() -> None:
        task = asyncio.create_task(
            execute_async(
                BATCH, AsyncFake(Fake()), perform, timeout_seconds=30, turns=turns, observer=heard
            )
        )
        while len(turns) < 2:
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert heard.events == [("abandoned", Fate.ROLLED_BACK, None)]


@pytest.mark.parametrize("at", ["call", "commit"])
def test_an_interrupt(run: Run, at: str) -> None:
    """Ctrl-C ends a batch without an outcome; once COMMIT has begun nobody knows."""
    heard = Heard()
    interrupt = KeyboardInterrupt()
    fake = Fake(commit=[interrupt] if at == "commit" else [])
    with pytest.raises(KeyboardInterrupt):
        run(fake, [OK, OK, OK if at == "commit" else interrupt], observer=heard)
    fate = Fate.UNKNOWN if at == "commit" else Fate.ROLLED_BACK
    assert heard.events[-1][:2] == ("abandoned", fate)
    assert [event[0] for event in heard.events].count("abandoned") == 1


class Broken(Observer):
    """Raises whatever it is told."""

    def call_performed(self, *_: Any) -> None:
        raise RuntimeError("in call_performed")

    def committed(self, *_: Any) -> None:
        raise RuntimeError("in committed")


def test_an_observer_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What an observer raises is logged; the batch is stored, and says so, and others are told."""
    heard = Heard()
    with caplog.at_level(logging.ERROR, "atomicbatch"):
        outcome = run(Fake(), [OK, OK, OK], observer=Observers(Broken(), heard))
    assert outcome.committed
    assert heard.events[-1] == ("committed", outcome, None)
    assert "in call_performed" in caplog.text
    assert "in committed" in caplog.text


def test_whoever_does_not_listen_is_not_called() -> None:
    """Calls are told one by one only where somebody wants to be told."""

    class Ends(Observer):
        def committed(self, *_: Any) -> None:
            pass

    assert not Observers(Ends(), Observer()).hear_calls
    assert Observers(Ends(), Heard()).hear_calls


def test_several_are_several() -> None:
    """Observers are taken as they are; a single one is guarded like several."""
    several, one = Observers(Heard()), Heard()
    assert Observers.of(several) is several
    assert isinstance(Observers.of(one), Observers)


def test_every_event_is_passed_on() -> None:
    """A group of observers tells its members everything that there is to be told."""
    names = [name for name in vars(Observer) if not name.startswith("_")]
    assert all(name in vars(Observers) for name in names)
    told: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: told.append(name)

    listening = type("Listening", (Observer,), {name: note(name) for name in names})
    group = Observers(listening())
    for name in names:
        arguments = getattr(Observer, name).__code__.co_argcount - 1
        getattr(group, name)(*[None] * arguments)
    assert told == names


def test_the_log_is_one_listener_among_others(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever names an observer of its own decides whether the log is told too."""
    run(Fake(), [ValueError("x")], observer=Heard())
    assert caplog.records == []
    run(Fake(), [ValueError("x")], observer=Observers(Heard(), Logs()))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
