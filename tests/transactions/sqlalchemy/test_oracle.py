"""The oracle (see oracle.py) over FastAPI, with every driver of SQLAlchemy's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch import Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, Request, ask, scope_of
from tests.transactions.sqlalchemy import async_patterns, patterns
from tests.transactions.sqlalchemy.oracle import Databases, check, named_in_turn
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.worlds import DRIVERS, SYNC, Item, World

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


class FastAPIFront:
    """A FastAPI app, and AtomicBatch before it."""

    def __init__(self, world: World, pattern: Pattern, transaction: SQLAlchemyTransaction) -> None:
        self._plain = app_of(world, pattern)
        self._app = AtomicBatch(self._plain, transaction=transaction)

    async def alone(self, one: Call) -> Answer:
        return await ask_plainly(self._plain, one)

    async def plainly(self, one: Call) -> Answer:
        return await ask_plainly(self._app, one)

    async def batch(self, *calls: Call) -> Answer:
        return await ask(self._app, *calls)


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
    transaction = SQLAlchemyTransaction(*named_in_turn(world, pattern))
    asyncio.run(check(world, pattern, FastAPIFront(world, pattern, transaction)))
