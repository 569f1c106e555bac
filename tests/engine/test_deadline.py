"""The time limit, against everything that does not end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from atomicbatch import (
    Batch,
    Call,
    Outcome,
    Reply,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.engine import execute_async
from atomicbatch.engine.deadline import Deadline, clock

BATCH = Batch(tuple(Call("POST", b"/%d" % i, b"", (), b"") for i in range(2)))
LIMIT = 0.3
# What the contract gives, and as much again for a machine that is busy with other things.
SOON = LIMIT + 2


class Stuck:
    """
    A transaction that does not end one of its steps, whatever is done to it.

    Args:
        step: Which: begin, commit or rollback; None: all of them end.
        sent: What ``give_up`` tells; None: there is no such method.
    """

    def __init__(self, step: str | None, sent: bool | None = None) -> None:
        self.step = step
        self.events: list[str] = []
        self.go_on = asyncio.Event()
        if sent is not None:
            self.give_up = lambda: sent

    def begin(self, batch: Batch, *, deadline: float) -> AbstractAsyncContextManager[Stuck]:
        return Manager(self, self._begin())

    async def _at(self, step: str) -> None:
        self.events.append(step)
        while step == self.step and not self.go_on.is_set():
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.events.append("cancelled")
        self.events.append(f"{step} ended")

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[Stuck]:
        await self._at("begin")
        try:
            yield self
        except BaseException:
            await self._at("rollback")
            raise
        await self._at("commit")


class Manager(AbstractAsyncContextManager[Stuck]):
    """What Stuck begins, with the methods that a deadline calls."""

    def __init__(self, stuck: Stuck, manager: AbstractAsyncContextManager[Stuck]) -> None:
        self._stuck, self._manager = stuck, manager
        if hasattr(stuck, "give_up"):
            self.give_up = stuck.give_up

    def interrupt(self) -> None:
        self._stuck.events.append("interrupt")

    def sever(self) -> None:
        self._stuck.events.append("sever")

    async def __aenter__(self) -> Stuck:
        return await self._manager.__aenter__()

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._manager.__aexit__(*error)  # type: ignore[arg-type]


async def fine(call: Call, stuck: Stuck) -> Reply:
    return Reply(200, (), b"")


async def failing(call: Call, stuck: Stuck) -> Reply:
    return Reply(400, (), b"no")


async def endless(call: Call, stuck: Stuck) -> Reply:
    """A call that ends when it likes: a worker thread, say."""
    await stuck._at("call")
    return Reply(200, (), b"")


Perform = Callable[[Call, Stuck], Awaitable[Reply]]


def run(
    stuck: Callable[[], Stuck], perform: Perform = fine
) -> tuple[list[str], Outcome | Exception]:
    """Run the batch; give what happened by its answer, what followed, and the outcome."""

    async def main() -> tuple[list[str], Outcome | Exception]:
        one, began = stuck(), time.monotonic()
        result: Outcome | Exception
        try:
            result = await execute_async(BATCH, one, perform, timeout_seconds=LIMIT)
        except Exception as error:
            result = error
        assert LIMIT <= time.monotonic() - began < SOON
        one.events.append("answered")
        one.go_on.set()
        for _ in range(20):
            await asyncio.sleep(0)
        return one.events, result

    return asyncio.run(main())


def test_a_call_that_does_not_end() -> None:
    """It is interrupted, its connection cut off, and left behind; it does not commit later."""
    events, outcome = run(lambda: Stuck("call"), endless)
    assert isinstance(outcome, Outcome)
    assert not outcome.committed
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed == 0
    assert events.index("interrupt") < events.index("sever") < events.index("answered")
    assert "rollback ended" in events
    assert "commit" not in events


def test_a_begin_that_does_not_end() -> None:
    """Nothing has run, and nothing runs when it ends."""
    events, error = run(lambda: Stuck("begin"))
    assert isinstance(error, TimeoutExceededError)
    assert "commit" not in events


@pytest.mark.parametrize("sent", [True, None])
def test_a_commit_that_does_not_end(sent: bool | None) -> None:
    """Nobody knows what becomes of a COMMIT that was sent, or may have been."""
    events, error = run(lambda: Stuck("commit", sent))
    assert isinstance(error, UnknownOutcomeError)
    assert events.index("sever") < events.index("answered") < events.index("commit ended")


def test_a_commit_that_is_never_sent() -> None:
    """The adapter stands for it that it will not be: rolled back."""
    _, outcome = run(lambda: Stuck("commit", False))
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.error, TimeoutExceededError)
    assert outcome.failed is None


def test_a_rollback_that_does_not_end() -> None:
    """The batch has failed by then, and its own answer stands."""
    _, outcome = run(lambda: Stuck("rollback"), failing)
    assert isinstance(outcome, Outcome)
    assert outcome.error is None
    assert outcome.failed == 0


@pytest.mark.parametrize("step", ["call", "begin"])
def test_a_client_that_is_gone_is_not_waited_for(step: str) -> None:
    """Cancelling interrupts at once, and leaves behind what does not end."""

    async def main() -> list[str]:
        stuck = Stuck(step)
        task = asyncio.create_task(execute_async(BATCH, stuck, endless, timeout_seconds=60))
        while step not in stuck.events:
            await asyncio.sleep(0)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < SOON
        stuck.go_on.set()
        await asyncio.sleep(0)
        return stuck.events

    events = asyncio.run(main())
    assert events.index("interrupt") < events.index("sever")


def test_an_event_loop_that_stands_still() -> None:
    """A call that computes on the loop: the database is free all the same, in time."""
    severed = threading.Event()

    async def computing(call: Call, stuck: Stuck) -> Reply:
        # As a loop that computes: nothing else runs until the connection was cut off.
        deadline = time.monotonic() + SOON
        while "sever" not in stuck.events and time.monotonic() < deadline:
            time.sleep(0.01)
        if "sever" in stuck.events:
            severed.set()
        return Reply(200, (), b"")

    _, outcome = run(lambda: Stuck(None), computing)
    assert severed.is_set()
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.error, TimeoutExceededError)


class Noted:
    """Writes down when it was interrupted."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        self.interrupted.set()


def test_what_has_ended_in_time_is_left_alone() -> None:
    """A deadline that was closed, and many of them, interrupt nobody."""
    ended = Noted()
    deadline = Deadline(0.05)
    deadline.watch(ended)
    deadline.close()
    for _ in range(3000):
        closed = Deadline(60)
        closed.watch(ended)
        closed.close()
    running = Noted()
    other = Deadline(0.1)
    other.watch(running)
    assert running.interrupted.wait(10)
    other.close()
    assert not ended.interrupted.is_set()


def test_the_clock_is_told_of_what_can_be_stopped_only() -> None:
    """Once for a transaction that can be stopped, never for one whose limit others keep."""
    told: list[object] = []
    deadline, other = Deadline(60), Deadline(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "remind", lambda at, one: told.append(one))
        for _ in range(3):
            deadline.watch(Noted())
            other.watch(object())
        other.hasten()
    assert told == [deadline]
    assert not other.seconds_left
    deadline.close()
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_deadlines_in_a_forked_process() -> None:
    """A server that forks workers after it was imported: each has a thread of its own."""
    code = """
import os, sys, threading
from atomicbatch.engine.deadline import Deadline
class Noted:
    called = threading.Event()
    def interrupt(self):
        self.called.set()
before = Deadline(60)
before.watch(Noted())  # the thread is there
if not (child := os.fork()):
    deadline = Deadline(0.05)
    deadline.watch(Noted())
    os._exit(0 if Noted.called.wait(10) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
