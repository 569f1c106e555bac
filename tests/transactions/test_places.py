"""Acts of an async batch: each in its place, while the event loop goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

import pytest

from atomicbatch.join.acts import Act, Acts, Place
from atomicbatch.transactions.places import do_async, undo


def test_each_act_is_done_in_its_place() -> None:
    """What blocks is done in a thread for it; the rest where the event loop is."""
    done: dict[Place, str] = {}
    spawned: list[str] = []

    def note(place: Place) -> None:
        done[place] = threading.current_thread().name

    def acts() -> Acts:
        for place in Place:
            yield Act(place, partial(note, place))

    async def spawn(act: Callable[[], object]) -> None:
        spawned.append("greenlet")
        act()

    async def main() -> None:
        await do_async(acts(), spawn)

    asyncio.run(main())
    here = threading.current_thread().name
    assert done[Place.HERE] == done[Place.LOOP] == here
    assert done[Place.BEGINNING].startswith("atomicbatch-begin_")
    assert done[Place.ENDING].startswith("atomicbatch_")
    assert spawned == ["greenlet"]


@pytest.mark.parametrize("place", list(Place))
def test_an_error_comes_back_where_the_act_was(place: Place) -> None:
    """What follows may still be done, and the error gets out."""
    done: list[str] = []

    def fail() -> None:
        raise LookupError

    def acts() -> Acts:
        try:
            yield Act(place, fail)
        except LookupError:
            yield Act(place, lambda: done.append("undone"))
            raise

    async def main() -> None:
        with pytest.raises(LookupError):
            await do_async(acts())

    asyncio.run(main())
    assert done == ["undone"]


def test_the_end_of_a_batch_that_was_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it; what goes wrong in it is said in the log."""
    ended = threading.Event()

    def acts() -> Acts:
        yield Act(Place.ENDING, ended.set)
        raise LookupError

    async def main() -> None:
        undo(acts(), asyncio.get_running_loop())
        await asyncio.gather(
            *asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True
        )

    with caplog.at_level(logging.ERROR, "atomicbatch"):
        asyncio.run(main())
    assert ended.is_set()
    assert "could not be rolled back (LookupError)" in caplog.text
