"""
The oracle: what a handler does alone is what it does in a batch.

Each pattern runs alone, in a batch that commits, between other calls, and in a batch that fails
afterwards. Reply and rows of the first three agree; of the last no row is left. The rows are read
through a connection of the tests' own; then the pool is clean and a plain request works.

What app and endpoint are before the database is the :class:`Front`'s to say.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable
from typing import Any, Protocol

from atomicbatch import Call
from tests.endpoints.asking import Answer, call
from tests.transactions.sqlalchemy.patterns import LEAKED, Pattern
from tests.transactions.sqlalchemy.worlds import DRIVERS, Database, World

Databases = Callable[[str], Database]
RUN = call("POST", "/run")
FAIL = call("POST", "/fail")


def add(name: str) -> Call:
    return call("POST", f"/items?name={name}")


class Front(Protocol):
    """An app with ``/items``, ``/run`` (the pattern) and ``/fail``, and an endpoint before it."""

    async def alone(self, one: Call) -> Answer:
        """Send a request to the app itself, as if there were no endpoint."""
        ...

    async def plainly(self, one: Call) -> Answer:
        """Send a request that is no batch by way of the endpoint."""
        ...

    async def batch(self, *calls: Call) -> Answer:
        """Send a batch."""
        ...


def named_in_turn(world: World, pattern: Pattern) -> list[Any]:
    """The engine for one half of the drivers, nothing for the other; which, differs by pattern."""
    number = list(DRIVERS).index(world.driver) + len(pattern.name)
    return [world.async_engine if world.is_async else world.engine] if number % 2 else []


async def check(world: World, pattern: Pattern, front: Front) -> None:
    """Compare a handler alone with the same one in batches."""
    database = world.database
    try:
        before = database.rows()
        alone = await front.alone(RUN)
        await tidy(world)
        assert alone.status == 200
        rows = database.rows()

        if world.family in pattern.refused:
            await check_refusal(world, pattern, front)
        else:
            database.reset()
            answer = await front.batch(RUN)
            await tidy(world)
            assert answer.outcome == "committed", answer.body
            assert json.loads(answer.replies[0].body) == json.loads(alone.body)
            assert database.rows() == rows

            database.reset()
            answer = await front.batch(add("a-neighbour"), RUN, add("z-neighbour"))
            await tidy(world)
            assert answer.outcome == "committed", answer.body
            assert database.rows() == sorted([*rows, ("a-neighbour", 0), ("z-neighbour", 0)])

        database.reset()
        answer = await front.batch(add("before"), RUN, add("after"), FAIL)
        await tidy(world)
        assert answer.outcome.startswith("rolled-back")
        assert database.rows() == before

        assert await comes_to_rest(world)
        assert (await front.plainly(add("plain"))).status == 201
        assert database.rows() == sorted([*before, ("plain", 0)])
    finally:
        await tidy(world)
        await world.dispose()


async def check_refusal(world: World, pattern: Pattern, front: Front) -> None:
    """The batch fails, says why, and leaves nothing."""
    database = world.database
    database.reset()
    before = database.rows()
    answer = await front.batch(add("before"), RUN)
    await tidy(world)
    assert answer.outcome.startswith("rolled-back; failed=2"), answer.body
    assert pattern.because in json.loads(answer.replies[1].body)["detail"]
    assert database.rows() == before


async def tidy(world: World) -> None:
    """Close what the patterns have left open on purpose."""
    while LEAKED:
        session = LEAKED.pop()
        if world.is_async:
            await session.close()
        else:
            session.close()
    gc.collect()


async def comes_to_rest(world: World, seconds: float = 10) -> bool:
    """Tell whether the pool has all its connections back; a thread may hold one a moment longer."""
    end = time.monotonic() + seconds
    while world.checked_out() and time.monotonic() < end:
        await asyncio.sleep(0.01)
        gc.collect()
    return world.checked_out() == 0
