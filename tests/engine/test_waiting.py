"""Cancellation and the time limit, at each step of an async attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from atomicbatch import (
    Batch,
    Call,
    CommitError,
    Outcome,
    Reply,
    UnknownOutcomeError,
)
from atomicbatch.engine import (
    execute_async,
)
from tests.engine.fakes import (
    AT_ONCE,
    BATCH,
    FAILED,
    OK,
    AsyncFake,
    Fake,
)


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
