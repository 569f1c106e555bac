"""Threads: work in the order it came, ended when its time is over, by threads that are replaced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atomicbatch.errors import (
    AtomicBatchError,
    BusyError,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.server.database.threads import Threads
from atomicbatch.server.database.tickets import AnyTicket


class Desk:
    """A session whose work hangs until it is told otherwise."""

    def __init__(self) -> None:
        self.ticket: AnyTicket | None = None
        self.stopped = threading.Event()
        self.cut = threading.Event()
        self.closed = threading.Event()

    def reserve(self, ticket: AnyTicket) -> None:
        self.ticket = ticket

    def stop(self, ticket: AnyTicket) -> None:
        self.stopped.set()

    def cut_off(self, ticket: AnyTicket) -> None:
        self.cut.set()

    def close(self) -> None:
        self.closed.set()


Make = Callable[..., Threads[Desk]]


@pytest.fixture
def threads() -> Iterator[Make]:
    made: list[Threads[Desk]] = []

    def make(size: int = 1, max_waiting: int = 10) -> Threads[Desk]:
        made.append(Threads("desk", size, Desk, max_waiting=max_waiting, limit="max_waiting"))
        return made[-1]

    yield make
    for one in made:
        one.close(0)


async def run(threads: Threads[Desk], work: Callable[[Desk], Any], seconds: float = 30) -> Any:
    return await threads.run(work, seconds=seconds, read_only=False)


def test_a_statement_is_stopped_then_its_socket_shut(threads: Make) -> None:
    """At the limit the work is stopped; half a second later it is cut off."""
    seen: list[float] = []

    def work(desk: Desk) -> None:
        start = time.monotonic()
        for event in (desk.stopped, desk.cut):
            assert event.wait(10)
            seen.append(time.monotonic() - start)
        raise TimeoutExceededError("as told")

    with pytest.raises(TimeoutExceededError, match="as told"):
        asyncio.run(run(threads(), work, 0.2))
    assert 0.1 < seen[0] < seen[1]
    assert seen[1] > 0.6


def test_a_thread_that_hangs_is_replaced(threads: Make) -> None:
    """Its caller is told, the next work is done, and the thread ends once it can, with its desk."""
    pool, let_go, desks = threads(), threading.Event(), list[Desk]()

    def hang(desk: Desk) -> None:
        desks.append(desk)
        let_go.wait(30)
        assert desk.ticket is not None
        assert not desk.ticket.may_commit(), "what was given up must not commit"

    async def both() -> Any:
        with pytest.raises(TimeoutExceededError):
            await run(pool, hang, 0.1)
        return await run(pool, lambda desk: desk is desks[0])

    assert asyncio.run(both()) is False
    let_go.set()
    assert desks[0].closed.wait(10)


def test_a_commit_that_hangs_is_unknown(threads: Make) -> None:
    """Whether it was stored nobody knows, and nobody says."""
    let_go = threading.Event()

    def hang(desk: Desk) -> None:
        assert desk.ticket is not None
        assert desk.ticket.may_commit()
        let_go.wait(30)

    with pytest.raises(UnknownOutcomeError):
        asyncio.run(run(threads(), hang, 0.1))
    let_go.set()


def test_a_commit_that_is_answered_in_the_last_moment(threads: Make) -> None:
    """It is told as it is, although its time is over."""

    def commit(desk: Desk) -> str:
        assert desk.ticket is not None
        assert desk.ticket.may_commit()
        assert desk.cut.wait(10)
        desk.ticket.committed()
        return "stored"

    assert asyncio.run(run(threads(), commit, 0.1)) == "stored"


def test_a_caller_that_is_gone_leaves_a_commit_alone(threads: Make) -> None:
    """Work is ended at once where its caller is cancelled, unless COMMIT has been sent."""
    sent, go_on = threading.Event(), threading.Event()

    def commit(desk: Desk) -> bool:
        assert desk.ticket is not None
        assert desk.ticket.may_commit()
        sent.set()
        assert go_on.wait(10)
        return desk.cut.is_set()

    ended: list[bool] = []

    async def cancel() -> None:
        pool = threads()
        task = asyncio.create_task(run(pool, lambda desk: ended.append(commit(desk))))
        assert await asyncio.to_thread(sent.wait, 10)
        task.cancel()
        await asyncio.sleep(0.8)  # in which other work would have been cut off
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert ended == [False]


def test_too_much_that_waits(threads: Make) -> None:
    """What comes beyond the bound is refused at once, 503; what waits too long is told so."""
    pool, let_go = threads(1, 2), threading.Event()

    async def crowd() -> None:
        first = asyncio.create_task(run(pool, lambda _: let_go.wait(30)))
        await asyncio.sleep(0.1)
        waiting = [asyncio.create_task(run(pool, lambda _: None, 0.5)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(AtomicBatchError, match="waiting") as refused:
            await run(pool, lambda _: None)
        assert (refused.value.status, refused.value.slug) == (503, "server-busy")
        for task in waiting:
            with pytest.raises(BusyError):
                await task
        let_go.set()
        await first
        assert await run(pool, lambda _: "again") == "again"

    asyncio.run(crowd())


def test_all_threads_are_used_and_no_more(threads: Make) -> None:
    """As many works run at once as there are threads, also where they come at one moment."""
    pool, at_once = threads(3, 100), threading.Barrier(3)

    async def crowd() -> None:
        await asyncio.gather(*(run(pool, lambda _: at_once.wait(10)) for _ in range(9)))
        assert len({id(desk) for desk in await desks()}) <= 3

    async def desks() -> list[Desk]:
        return list(await asyncio.gather(*(run(pool, lambda desk: desk) for _ in range(30))))

    asyncio.run(crowd())


def test_closing_waits_no_longer_than_told(threads: Make) -> None:
    """What hangs then is ended, and its caller told."""
    pool, let_go = threads(), threading.Event()

    async def close() -> float:
        hanging = asyncio.create_task(run(pool, lambda _: let_go.wait(30)))
        await asyncio.sleep(0.1)
        start = time.monotonic()
        await asyncio.to_thread(pool.close, 0.2)
        seconds = time.monotonic() - start
        with pytest.raises(TimeoutExceededError):
            await hanging
        return seconds

    assert 0.2 < asyncio.run(close()) < 4
    let_go.set()
