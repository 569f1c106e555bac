"""A transaction that does as it is told, and both shells with the same script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from atomicbatch import (
    Batch,
    Call,
    ConflictError,
    Outcome,
    Reply,
)
from atomicbatch.engine import (
    Observer,
    Policy,
    Replay,
    execute,
    execute_async,
)
from atomicbatch.engine.logs import LOGS
from atomicbatch.engine.policy import NORMAL

BATCH = Batch(tuple(Call("POST", b"/%d" % i, b"", (), b"") for i in range(3)))
AT_ONCE = Replay(base_seconds=0)
OK = Reply(200, (), b"")
FAILED = Reply(409, (), b"taken")
CONFLICT = ConflictError("in the way")
ONCE = ["begin", "/0", "/1", "/2", "commit"]
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
