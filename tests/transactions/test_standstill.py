"""An event loop that stood still after the time limit, and one that only waited."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from atomicbatch.transactions.standstill import Standstill


async def asked(*, keeps: bool) -> str:
    """What is told in another thread, after this loop was kept or has waited."""
    standstill = Standstill(asyncio.get_running_loop(), threading.get_ident())
    told: list[str] = []
    is_kept, is_told = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        standstill.ask()
        if keeps:
            is_kept.wait(10)
        else:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
        told.append(standstill.told())
        loop.call_soon_threadsafe(is_told.set)

    thread = threading.Thread(target=tell)
    thread.start()
    if keeps:
        keep(told, is_kept)
    await is_told.wait()
    thread.join()
    return told[0]


def keep(told: list[str], is_kept: threading.Event) -> None:
    """Keep the event loop until somebody has told."""
    is_kept.set()
    while not told:
        time.sleep(0.001)


def test_a_loop_that_is_kept_is_blamed() -> None:
    """The function that keeps it is named."""
    what = asyncio.run(asked(keeps=True))
    assert "stood still, in keep (test_standstill.py:" in what


def test_a_loop_that_waits_is_not_blamed() -> None:
    """Whatever functions of the app its thread is in: those that have started the server, say."""
    assert asyncio.run(asked(keeps=False)) == ""


def test_a_loop_that_was_not_asked_is_not_blamed() -> None:
    """Nobody knows."""

    async def main() -> str:
        return Standstill(asyncio.get_running_loop(), threading.get_ident()).told()

    assert asyncio.run(main()) == ""


@pytest.mark.parametrize("again", [False, True])
def test_a_loop_that_is_closed(again: bool) -> None:
    """Nobody waits for it, and nothing is raised."""
    loop = asyncio.new_event_loop()
    loop.close()
    standstill = Standstill(loop, 0)
    standstill.ask()
    if again:
        standstill.ask()
    assert "stood still, in a library" in standstill.told()
