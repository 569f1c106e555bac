"""How apps hand sessions to handlers: dependencies, middleware, streams; all within the batch."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.middleware.base import BaseHTTPMiddleware

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.worlds import DRIVERS, Item, World

FAIL = call("POST", "/fail")
MAIN = ("pysqlite", "psycopg", "pymysql", "aiosqlite", "asyncpg", "asyncmy")


def app_of(world: World) -> FastAPI:
    app = FastAPI()

    def committing() -> Iterator[Session]:
        """The style of many templates: whoever gets this session need not commit."""
        with Session(world.engine) as session:
            try:
                yield session
                session.commit()
            except Exception:
                session.rollback()
                raise

    async def committing_async() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(world.async_engine) as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

    dependency = Depends(committing_async if world.is_async else committing)
    # FastAPI 0.121 and newer: the exit comes right after the handler, before the response.
    early = Depends(committing_async if world.is_async else committing, scope="function")

    def routes(session: Any, path: str) -> None:
        if world.is_async:

            @app.post(path)
            async def add_async(name: str, db: AsyncSession = session) -> str:
                db.add(Item(name=name, n=0))
                return name
        else:

            @app.post(path)
            def add(name: str, db: Session = session) -> str:
                db.add(Item(name=name, n=0))
                return name

    routes(dependency, "/exit")
    routes(early, "/early")

    class PerRequest(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            if world.is_async:
                async with AsyncSession(world.async_engine) as session:
                    request.state.db = session
                    response = await call_next(request)
                    await session.commit()
                    return response
            request.state.db = Session(world.engine)
            response = await call_next(request)
            await asyncio.to_thread(request.state.db.commit)
            await asyncio.to_thread(request.state.db.close)
            return response

    app.add_middleware(PerRequest)

    @app.post("/middleware")
    async def by_middleware(name: str, request: Request) -> str:
        request.state.db.add(Item(name=name, n=0))
        return name

    if world.is_async:

        @app.post("/stream-on")
        async def stream_on_async(name: str, db: AsyncSession = dependency) -> StreamingResponse:
            async def body() -> AsyncIterator[str]:
                for number in range(3):
                    db.add(Item(name=f"{name} {number}", n=0))
                    await db.flush()
                    yield f"{number};"

            return StreamingResponse(body())

    else:

        @app.post("/stream-on")
        def stream_on(name: str, db: Session = dependency) -> StreamingResponse:
            def body() -> Iterator[str]:
                for number in range(3):
                    db.add(Item(name=f"{name} {number}", n=0))
                    db.flush()
                    yield f"{number};"

            return StreamingResponse(body())

    if world.is_async:

        @app.post("/stream")
        async def stream_async(name: str, db: AsyncSession = dependency) -> StreamingResponse:
            async def body() -> AsyncIterator[str]:
                for number in range(3):
                    async with AsyncSession(world.async_engine) as session:
                        session.add(Item(name=f"{name} {number}", n=0))
                        await session.commit()
                    yield f"{number};"

            return StreamingResponse(body())
    else:

        @app.post("/stream")
        def stream(name: str, db: Session = dependency) -> StreamingResponse:
            def body() -> Iterator[str]:
                for number in range(3):
                    with Session(world.engine) as session:
                        session.add(Item(name=f"{name} {number}", n=0))
                        session.commit()
                    yield f"{number};"

            return StreamingResponse(body())

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    return app


@pytest.mark.parametrize("driver", MAIN)
@pytest.mark.parametrize("path", ["/exit", "/early", "/middleware", "/stream", "/stream-on"])
def test_every_style(driver: str, path: str, databases: Databases) -> None:
    """Wherever the session comes from and is committed, its work is the batch's."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    async def main() -> None:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        one, two = call("POST", f"{path}?name=a"), call("POST", f"{path}?name=b")
        assert (await ask(app, one, two, FAIL)).outcome == "rolled-back; failed=3; status=409"
        assert [name for name, n in database.rows() if n == 0] == []
        answer = await ask(app, one, two)
        assert answer.outcome == "committed", answer.body
        if path.startswith("/stream"):
            assert answer.replies[0].body == b"0;1;2;"
        assert world.checked_out() == 0
        await world.dispose()

    asyncio.run(main())
    stored = [name for name, n in database.rows() if n == 0]
    assert stored == (
        [f"{name} {number}" for name in "ab" for number in range(3)]
        if path.startswith("/stream")
        else ["a", "b"]
    )


@pytest.mark.parametrize("driver", MAIN)
def test_a_dependency_whose_commit_fails(driver: str, databases: Databases) -> None:
    """An exit that fails after a complete 200 fails the call, and with it the batch."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    async def main() -> Answer:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        try:
            return await ask(app, call("POST", "/exit?name=new"), call("POST", "/exit?name=one"))
        finally:
            await world.dispose()

    answer = asyncio.run(main())
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert ("new", 0) not in database.rows()


@pytest.mark.parametrize("is_async", [False, True])
def test_static_pool_in_memory(is_async: bool) -> None:
    """SQLite's memory on one connection for all, as tests of apps have it."""
    options: dict[str, Any] = {"poolclass": StaticPool}
    if is_async:
        engine = create_async_engine("sqlite+aiosqlite://", **options)
    else:
        plain = sa.create_engine("sqlite://", connect_args={"check_same_thread": False}, **options)
    app = FastAPI()

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    if is_async:

        @app.post("/items")
        async def add_async(name: str) -> int:
            async with AsyncSession(engine) as session:
                session.add(Item(name=name))
                await session.commit()
                return len((await session.scalars(sa.select(Item))).all())
    else:

        @app.post("/items")
        def add(name: str) -> int:
            with Session(plain) as session:
                session.add(Item(name=name))
                session.commit()
                return len(session.scalars(sa.select(Item)).all())

    async def main() -> list[bytes]:
        if is_async:
            async with engine.begin() as connection:
                await connection.run_sync(Item.metadata.create_all)
        else:
            Item.metadata.create_all(plain)
        batches = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        one, two = call("POST", "/items?name=a"), call("POST", "/items?name=b")
        assert (await ask(batches, one, two, FAIL)).outcome != "committed"
        answer = await ask(batches, one, two)
        assert answer.outcome == "committed"
        if is_async:
            await engine.dispose()
        return [reply.body for reply in answer.replies]

    assert asyncio.run(main()) == [b"1", b"2"]
    if not is_async:
        plain.dispose()


# Python 3.12 gave sqlite3 transaction modes of its own; before, there are only the old ones.
MODES = [{"isolation_level": None}, {"isolation_level": "IMMEDIATE"}]
if sys.version_info >= (3, 12):
    MODES += [{"autocommit": True}, {"autocommit": False}]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_sqlite3s_modes(mode: dict[str, Any], databases: Databases) -> None:
    """In whatever mode sqlite3 is, also where its commit() does nothing, the batch commits."""
    database = databases("sqlite")
    world = World("pysqlite", database, {"connect_args": mode})
    app = FastAPI()

    @app.post("/items")
    def add(name: str) -> None:
        with Session(world.engine) as session:
            session.add(Item(name=name, n=0))
            session.commit()

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    async def main() -> None:
        batches = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        one, two = call("POST", "/items?name=a"), call("POST", "/items?name=b")
        assert (await ask(batches, one, two, FAIL)).outcome != "committed"
        assert [name for name, n in database.rows() if n == 0] == []
        assert (await ask(batches, one, two)).outcome == "committed"

    asyncio.run(main())
    assert [name for name, n in database.rows() if n == 0] == ["a", "b"]
    with sqlite3.connect(str(database.url.database)) as other:  # the lock is free again
        other.execute("BEGIN IMMEDIATE")
    other.close()
    world.engine.dispose()
