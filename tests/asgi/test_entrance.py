"""Who may be inside of the app together with a batch that has to be alone, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from atomicbatch.asgi.entrance import Entrance


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


class House:
    """An entrance, and a log of who came in and who left."""

    def __init__(self, **options: float) -> None:
        self.entrance = Entrance(asyncio.get_running_loop(), **options)
        self.log: list[str] = []
        self.may_leave: dict[str, asyncio.Event] = {}

    def leave(self, name: str) -> None:
        self.may_leave[name].set()

    async def _stay(self, name: str) -> None:
        self.log.append(f"+{name}")
        try:
            await self.may_leave.setdefault(name, asyncio.Event()).wait()
        finally:
            self.log.append(f"-{name}")

    async def _request(self, name: str) -> None:
        entrance = self.entrance
        entered = await entrance.enter_later() if entrance.is_shut else entrance.enter()
        try:
            await self._stay(name)
        finally:
            entrance.leave(entered)

    async def _batch(self, name: str, alone: bool) -> None:
        async with self.entrance.alone() if alone else self.entrance.shared():
            await self._stay(name)

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        """Requests, batches (``b``) and batches that are to be alone (``a``) come."""
        tasks = []
        for name in names:
            self.may_leave.setdefault(name, asyncio.Event())
            visit = self._batch(name, name[0] == "a") if name[0] in "ab" else self._request(name)
            tasks.append(asyncio.create_task(visit))
            await settle()
        return tasks


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_requests_and_batches_share_the_app() -> None:
    """Nobody waits while nobody has to be alone."""

    async def main() -> None:
        house = House()
        tasks = await house.come("r1", "b1", "r2", "b2")
        assert house.log == ["+r1", "+b1", "+r2", "+b2"]
        assert (house.entrance.requests, house.entrance.batches) == (2, 2)
        for name in ("r1", "b1", "r2", "b2"):
            house.leave(name)
        await asyncio.gather(*tasks)
        assert (house.entrance.requests, house.entrance.batches) == (0, 0)

    run(main)


def test_a_batch_is_alone() -> None:
    """It waits for those inside; those that come meanwhile are held, and go in together."""

    async def main() -> None:
        house = House()
        tasks = await house.come("r1", "b1", "a1")
        # While other batches are inside, requests are not held for them.
        tasks += await house.come("r2", "b2")
        assert house.log == ["+r1", "+b1", "+r2"]
        house.leave("b1")
        await settle()
        tasks += await house.come("r3")
        house.leave("r1")
        house.leave("r2")
        await settle()
        assert house.log == ["+r1", "+b1", "+r2", "-b1", "-r1", "-r2", "+a1"]
        house.leave("a1")
        await settle()
        assert house.log[7] == "-a1"
        assert sorted(house.log[8:]) == ["+b2", "+r3"]
        house.leave("b2")
        house.leave("r3")
        await asyncio.gather(*tasks)
        assert (house.entrance.requests, house.entrance.batches) == (0, 0)

    run(main)


def test_held_requests_go_in_between_two_batches() -> None:
    """However many batches want to be alone, a request waits for one of them."""

    async def main() -> None:
        house = House()
        tasks = await house.come("a1", "r1", "a2", "b1", "a3")
        house.leave("a1")
        await settle()
        assert house.log[:2] == ["+a1", "-a1"]
        assert sorted(house.log[2:]) == ["+b1", "+r1"]
        house.leave("r1")
        house.leave("b1")
        await settle()
        assert house.log[-1] == "+a2"
        tasks += await house.come("r2")
        house.leave("a2")
        await settle()
        assert house.log[-1] == "+r2"
        house.leave("r2")
        house.leave("a3")
        await asyncio.gather(*tasks)

    run(main)


def test_nobody_is_held_for_ever() -> None:
    """A request goes in after a time, whatever the batch does."""

    async def main() -> None:
        house = House(hold_seconds=0.2)
        tasks = await house.come("a1")
        start = time.monotonic()
        tasks += await house.come("r1")
        while "+r1" not in house.log:
            await asyncio.sleep(0.01)
        assert 0.15 < time.monotonic() - start < 2
        assert "-a1" not in house.log
        house.leave("r1")
        house.leave("a1")
        await asyncio.gather(*tasks)
        assert house.entrance.requests == 0

    run(main)


def test_what_does_not_end_is_waited_for_once() -> None:
    """A stream, say: the first batch waits for it for a moment, the next ones do not."""

    async def main() -> None:
        house = House(grace_seconds=0.3)
        tasks = await house.come("stream", "a1")
        start = time.monotonic()
        assert "+a1" not in house.log
        while "+a1" not in house.log:
            await asyncio.sleep(0.01)
        assert time.monotonic() - start > 0.2
        house.leave("a1")
        await settle()
        tasks += await house.come("a2")
        assert house.log[-1] == "+a2"
        house.leave("a2")
        house.leave("stream")
        await asyncio.gather(*tasks)
        assert house.entrance.requests == 0

    run(main)


@pytest.mark.parametrize("names", ["r1", "b1", "a2"])
@pytest.mark.parametrize("when", ["held", "let in"])
def test_one_that_is_held_hangs_up(names: str, when: str) -> None:
    """The entrance does not count on it any more."""

    async def main() -> None:
        house = House()
        tasks = await house.come("a1", names, "r2", "a3")
        if when == "let in":
            # In the same breath: it has not noticed yet.
            house.leave("a1")
            await asyncio.sleep(0)
        tasks[1].cancel()
        house.leave("a1")
        with suppress(asyncio.CancelledError):
            await tasks[1]
        house.leave("r2")
        house.leave("a3")
        await asyncio.gather(tasks[0], *tasks[2:])
        assert (house.entrance.requests, house.entrance.batches, house.entrance.is_shut) == (
            0,
            0,
            False,
        )
        assert {"-r2", "-a3"} <= set(house.log)

    run(main)


@pytest.mark.parametrize("when", ["waiting for batches", "waiting for requests", "alone"])
def test_a_batch_that_is_to_be_alone_hangs_up(when: str) -> None:
    """The entrance opens for the others."""

    async def main() -> None:
        house = House()
        before = {"waiting for batches": "b1", "waiting for requests": "r1", "alone": "a0"}[when]
        house.may_leave["a0"] = asyncio.Event()
        house.leave("a0")
        others = await house.come(before, "a1", "r2")
        assert ("+a1" in house.log) == (when == "alone")
        others[1].cancel()
        with suppress(asyncio.CancelledError):
            await others[1]
        await settle()
        assert "+r2" in house.log
        assert not house.entrance.is_shut
        others += await house.come("b2")
        assert "+b2" in house.log
        for name in (before, "r2", "b2"):
            house.leave(name)
        await asyncio.gather(others[0], *others[2:])
        assert (house.entrance.requests, house.entrance.batches) == (0, 0)

    run(main)
