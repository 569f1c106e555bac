"""Roles: what a refusal says of who has done it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Request, Response
from litestar import Litestar, post
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.routing import Route

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import ask, call

RUN = call("POST", "/run")


def refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("VACUUM"))


async def refused_async(engine: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text("VACUUM"))


def in_a_handler(path: Path) -> Any:
    app, engine = FastAPI(), sa.create_engine(f"sqlite:///{path}")

    @app.post("/run")
    def run() -> None:
        refused(engine)

    return app


def in_an_async_handler(path: Path) -> Any:
    app, engine = FastAPI(), create_async_engine(f"sqlite+aiosqlite:///{path}")

    @app.post("/run")
    async def run() -> None:
        await refused_async(engine)

    return app


def in_a_dependency(path: Path) -> Any:
    app, engine = FastAPI(), sa.create_engine(f"sqlite:///{path}")

    def inner() -> Iterator[None]:
        refused(engine)
        yield

    def outer(_: None = Depends(inner)) -> None:
        pass

    @app.post("/run", dependencies=[Depends(outer)])
    def run() -> None:
        pass

    return app


def in_an_async_dependency(path: Path) -> Any:
    app, engine = FastAPI(), create_async_engine(f"sqlite+aiosqlite:///{path}")

    async def inner() -> AsyncIterator[None]:
        await refused_async(engine)
        yield

    @app.post("/run", dependencies=[Depends(inner)])
    async def run() -> None:
        pass

    return app


def in_a_middleware(path: Path) -> Any:
    app, engine = FastAPI(), sa.create_engine(f"sqlite:///{path}")

    @app.middleware("http")
    async def around(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        refused(engine)
        return await call_next(request)

    return app


def in_starlette(path: Path) -> Any:
    engine = sa.create_engine(f"sqlite:///{path}")

    def run(_: Request) -> Response:
        refused(engine)
        return Response()

    return Starlette(routes=[Route("/run", run, methods=["POST"])])


def in_litestar(path: Path) -> Any:
    engine = sa.create_engine(f"sqlite:///{path}")

    @post("/run", sync_to_thread=True)
    def run() -> None:
        refused(engine)

    return Litestar([run])


WHO: dict[Callable[[Path], Any], str] = {
    in_a_handler: "handler run(), ",
    in_an_async_handler: "handler run(), ",
    in_a_dependency: "dependency inner(), ",
    in_an_async_dependency: "dependency inner(), ",
    in_a_middleware: "middleware, ",
    in_starlette: "handler run(), ",
    in_litestar: "handler run(), ",
}


@pytest.mark.parametrize("make", WHO)
def test_a_refusal_names_who_has_done_it(make: Callable[[Path], Any], sqlite_path: Path) -> None:
    """The function, its line, and whether it is a handler, a dependency or a middleware."""
    app = AtomicBatch(make(sqlite_path), transaction=SQLAlchemyTransaction())
    answer = asyncio.run(ask(app, RUN))
    assert answer.outcome == "rolled-back; failed=1; status=501"
    detail = json.loads(answer.replies[0].body)["detail"]
    assert f"({WHO[make]}asgi/test_roles.py:" in detail, detail
    # The innermost function of the app, which the other one has called.
    assert "in refused" in detail
