"""One task at a time."""

from __future__ import annotations

import asyncio

from atomicbatch.transactions.servers.inside import TaskInside


def test_tasks_are_let_in_in_the_order_of_asking() -> None:
    async def go() -> None:
        inside = TaskInside()
        order: list[int] = []

        async def work(number: int) -> None:
            async with inside:
                order.append(number)
                await asyncio.sleep(0)
                assert order[-1] == number

        await asyncio.gather(*(work(number) for number in range(5)))
        assert order == [0, 1, 2, 3, 4]
        assert not inside.is_taken()

    asyncio.run(go())


def test_whoever_gives_up_waiting_does_not_hold_up_the_next() -> None:
    async def go() -> None:
        inside = TaskInside()
        assert await inside.acquire_within(1)
        assert not await inside.acquire_within(0.01)
        waiting = asyncio.create_task(inside.acquire_within(30))
        cancelled = asyncio.create_task(inside.acquire_within(30))
        third = asyncio.create_task(inside.acquire_within(30))
        await asyncio.sleep(0)
        inside.release()
        # Its turn had come already.
        waiting.cancel()
        cancelled.cancel()
        await asyncio.gather(waiting, cancelled, return_exceptions=True)
        assert await third
        inside.release()
        assert not inside.is_taken()

    asyncio.run(go())
