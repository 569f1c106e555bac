"""What is to be done after COMMIT is done, whatever becomes of the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from atomicbatch import on_commit
from atomicbatch.engine.current import RunningBatch, running_batch


def after_commit(*acts: Callable[[], Any]) -> None:
    """Do things as after a COMMIT."""

    async def main() -> None:
        with running_batch() as running:
            for act in acts:
                on_commit(act)
            running.committed = True
        await running.run_deferred()

    asyncio.run(main())


async def waits_for_what_was_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def fails_as_a_group() -> None:
    raise BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError()])


def finds_nothing() -> None:
    next(iter([]))


@pytest.mark.parametrize(
    "act", [waits_for_what_was_cancelled, fails_as_a_group, finds_nothing], ids=lambda a: a.__name__
)
def test_one_that_fails_in_an_odd_way(
    act: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever one raises, also a cancellation of its own making, the others are done."""
    done: list[str] = []
    after_commit(act, lambda: done.append("next"))
    assert done == ["next"]
    assert "a function that was deferred until after COMMIT failed" in caplog.text


async def leaves_at_once() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("act", [leaves_at_once, lambda: exec("raise SystemExit(3)")])
def test_one_that_exits(act: Callable[[], Any]) -> None:
    """sys.exit() ends the process, but not before the others are done."""
    done: list[str] = []
    with pytest.raises(SystemExit) as exiting:
        after_commit(act, lambda: done.append("next"))
    assert exiting.value.code == 3
    assert done == ["next"]


def test_cancelled_from_outside() -> None:
    """When the event loop shuts down, what has not begun does not begin."""
    done: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def waits() -> None:
            begun.set()
            await asyncio.Event().wait()

        running = RunningBatch()
        with running_batch(running):
            on_commit(waits)
            on_commit(done.append, "next")
            running.committed = True
        task = asyncio.create_task(running.run_deferred())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == []


def test_an_async_function_in_a_thread_of_its_own() -> None:
    """Outside of batches, where no event loop is known, an async function runs to its end."""
    done: list[str] = []

    async def act() -> None:
        await asyncio.sleep(0)
        done.append("done")

    def run() -> None:
        on_commit(act)
        done.append("went on")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == ["done", "went on"]
