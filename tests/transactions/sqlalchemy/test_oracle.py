"""
The oracle: what a handler does alone is what it does in a batch.

Each pattern runs alone, in a batch that commits, between other calls, and in a batch that fails
afterwards. Reply and rows of the first three agree; of the last no row is left. The rows are read
through a connection of the tests' own; then the pool is clean and a plain request works.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.transactions.sqlalchemy import async_patterns, patterns
from tests.transactions.sqlalchemy.patterns import LEAKED, Pattern
from tests.transactions.sqlalchemy.worlds import DRIVERS, SYNC, Database, Item, World

Databases = Callable[[str], Database]
_UNAWAITED = (
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore:.*coroutine:pytest.PytestUnraisableExceptionWarning",
)


def app_of(world: World, pattern: Pattern | None = None) -> FastAPI:
    """An app whose handlers know nothing of batches."""
    app = FastAPI()

    @app.exception_handler(Exception)
    def failed(_: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__}, 500)

    if world.is_async:

        @app.post("/items", status_code=201)
        async def add_async(name: str) -> str:
            async with AsyncSession(world.async_engine) as session:
                session.add(Item(name=name, n=0))
                await session.commit()
            return name

        if pattern is not None:

            @app.post("/run")
            async def run_async() -> Any:
                return await pattern.act(world)

    else:

        @app.post("/items", status_code=201)
        def add(name: str) -> str:
            with Session(world.engine) as session:
                session.add(Item(name=name, n=0))
                session.commit()
            return name

        if pattern is not None:

            @app.post("/run")
            def run() -> Any:
                return pattern.act(world)

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    return app


async def ask_plainly(app: Any, one: Call) -> Answer:
    request = Request([one.body])
    scope = scope_of(one.path.decode(), one.headers, method=one.method, query=one.query)
    await app(scope, request.receive, request.send)
    return request.answer


RUN = call("POST", "/run")


def add(name: str) -> Call:
    return call("POST", f"/items?name={name}")


def cases() -> list[Any]:
    return [
        pytest.param(
            driver,
            pattern,
            id=f"{driver}-{pattern.name}",
            marks=pytest.mark.filterwarnings(*_UNAWAITED) if pattern.unawaited else (),
        )
        for driver, family in DRIVERS.items()
        for pattern in (patterns if driver in SYNC else async_patterns).PATTERNS
        if family in pattern.families
        # Its dialect knows fewer isolation levels, and takes two-phase for ordinary transactions.
        and not (
            driver.startswith("cockroachdb") and pattern.name in ("weaker_isolation", "two_phase")
        )
    ]


@pytest.mark.parametrize(("driver", "pattern"), cases())
def test_alone_and_in_batches(driver: str, pattern: Pattern, databases: Databases) -> None:
    """A handler's reply and rows are the same in a batch; a batch that fails leaves no row."""
    world = World(driver, databases(DRIVERS[driver]))
    asyncio.run(check(world, pattern, SQLAlchemyTransaction(*named_in_turn(world, pattern))))


def named_in_turn(world: World, pattern: Pattern) -> list[Any]:
    """The engine for one half of the drivers, nothing for the other; which, differs by pattern."""
    number = list(DRIVERS).index(world.driver) + len(pattern.name)
    return [world.async_engine if world.is_async else world.engine] if number % 2 else []


async def check(world: World, pattern: Pattern, transaction: SQLAlchemyTransaction) -> None:
    plain = app_of(world, pattern)
    app = AtomicBatch(plain, transaction=transaction)
    database = world.database
    try:
        before = database.rows()
        alone = await ask_plainly(plain, RUN)
        await tidy(world)
        assert alone.status == 200
        rows = database.rows()

        if world.family in pattern.refused:
            await check_refusal(app, world, pattern)
        else:
            database.reset()
            answer = await ask(app, RUN)
            await tidy(world)
            assert answer.outcome == "committed", answer.body
            assert json.loads(answer.replies[0].body) == json.loads(alone.body)
            assert database.rows() == rows

            database.reset()
            answer = await ask(app, add("a-neighbour"), RUN, add("z-neighbour"))
            await tidy(world)
            assert answer.outcome == "committed", answer.body
            assert database.rows() == sorted([*rows, ("a-neighbour", 0), ("z-neighbour", 0)])

        database.reset()
        answer = await ask(app, add("before"), RUN, add("after"), call("POST", "/fail"))
        await tidy(world)
        assert answer.outcome.startswith("rolled-back")
        assert database.rows() == before

        assert world.checked_out() == 0
        assert (await ask_plainly(app, add("plain"))).status == 201
        assert database.rows() == sorted([*before, ("plain", 0)])
    finally:
        await tidy(world)
        await world.dispose()


async def check_refusal(app: Any, world: World, pattern: Pattern) -> None:
    """The batch fails, says why, and leaves nothing."""
    database = world.database
    database.reset()
    before = database.rows()
    answer = await ask(app, add("before"), RUN)
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
