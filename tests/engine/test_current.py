"""Code inside a call can tell that a batch is running."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context

import pytest

from atomicbatch import on_commit
from atomicbatch.engine.current import RunningBatch, inside_batch, running_batch


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


DONE: list[str] = []


def note(text: str) -> None:
    DONE.append(text)


def left_by_attempt(running: RunningBatch) -> Context:
    """Begin an attempt; return the context of what its calls leave behind."""
    context = copy_context()
    context.run(running.attempt)
    return context


def test_wanted_after_a_rollback(caplog: pytest.LogCaptureFixture) -> None:
    """What a call has left running wants nothing done any more when the batch was rolled back."""
    DONE.clear()
    with running_batch() as running:
        left = left_by_attempt(running)
    left.run(on_commit, note, "secret")
    asyncio.run(running.run_deferred())
    assert DONE == []
    assert "note is not done after COMMIT" in caplog.text
    assert "secret" not in caplog.text


def test_wanted_by_an_earlier_attempt() -> None:
    """What a failed attempt has left running wants nothing done in the attempt that commits."""
    DONE.clear()
    with running_batch() as running:
        first = left_by_attempt(running)
        second = left_by_attempt(running)
        first.run(on_commit, note, "first")
        second.run(on_commit, note, "second")
        running.committed = True
    first.run(on_commit, note, "first, later")
    asyncio.run(running.run_deferred())
    assert DONE == ["second"]


def test_wanted_after_commit() -> None:
    """After COMMIT things are done in order, and at once when nothing waits any more."""
    DONE.clear()
    with running_batch() as running:
        left = left_by_attempt(running)
        left.run(on_commit, note, "1")
        running.committed = True
    left.run(on_commit, note, "2")
    assert DONE == []
    asyncio.run(running.run_deferred())
    assert DONE == ["1", "2"]
    left.run(on_commit, note, "3")
    assert DONE == ["1", "2", "3"]


def test_wanted_by_what_is_done_after_commit() -> None:
    """A function that on_commit calls may use on_commit, also for an async one."""
    DONE.clear()

    async def inner() -> None:
        note("inner")

    def outer() -> None:
        note("outer")
        on_commit(inner)

    async def main() -> None:
        with running_batch() as running:
            on_commit(outer)
            on_commit(note, "next")
            running.committed = True
        await running.run_deferred()

    asyncio.run(main())
    assert DONE == ["outer", "next", "inner"]


def test_nothing_waits_after_commit() -> None:
    """Then there is nothing to run, and what is deferred later runs at once, in whatever order."""
    done: list[str] = []

    async def main() -> None:
        with running_batch() as running:
            place = running.place()
            running.committed = True
        assert running.finish_if_idle()
        assert not place.defer(lambda: done.append("late"))
        await running.run_deferred()

    asyncio.run(main())
    assert done == []


def test_something_waits_after_commit() -> None:
    """Then it is run first, and what is deferred meanwhile comes after it."""
    done: list[str] = []

    async def main() -> None:
        with running_batch() as running:
            on_commit(done.append, "first")
            place = running.place()
            running.committed = True
        assert not running.finish_if_idle()
        assert place.defer(lambda: done.append("second"))
        await running.run_deferred()
        assert running.finish_if_idle()

    asyncio.run(main())
    assert done == ["first", "second"]
