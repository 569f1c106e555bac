"""Code inside a call can tell that a batch is running."""

from __future__ import annotations

import asyncio

from atomicbatch.engine.current import inside_batch, running_batch


def test_inside_and_outside() -> None:
    """Only code inside the block is inside a batch."""
    assert not inside_batch()
    with running_batch():
        assert inside_batch()
    assert not inside_batch()


def test_a_task_left_behind_is_outside() -> None:
    """A task that a call started is inside the batch only as long as the batch runs."""

    async def main() -> tuple[bool, bool]:
        ended = asyncio.Event()

        async def left_behind() -> tuple[bool, bool]:
            before = inside_batch()
            await ended.wait()
            return before, inside_batch()

        with running_batch():
            task = asyncio.create_task(left_behind())
            await asyncio.sleep(0)
        ended.set()
        return await task

    assert asyncio.run(main()) == (True, False)
