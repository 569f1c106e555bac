"""What a call writes by a library that takes no part in the batch is noticed, before it is sent."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call, scope_of
from tests.asgi.asking import Request as Asked
from tests.transactions.guard.conftest import Store
from tests.transactions.guard.strangers import STRANGERS, Insert, Stranger

ALL = pytest.mark.parametrize("stranger", STRANGERS, ids=lambda one: one.name)


@pytest.fixture
def store(stranger: Stranger, request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{stranger.database}_store")
    return found


class Shop(NamedTuple):
    """An app with a handler of a stranger's and some of SQLAlchemy's."""

    app: Any
    mine: Callable[[], list[str]]
    """What SQLAlchemy's database holds."""


@asynccontextmanager
async def opened(
    insert: Insert, folder: Path, outside: tuple[Any, ...] = ()
) -> AsyncIterator[Shop]:
    engine = sa.create_engine(f"sqlite:///{folder / 'mine.sqlite'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE mine (name TEXT)"))

    def add(name: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO mine VALUES (:name)"), {"name": name})

    def mine() -> list[str]:
        with engine.connect() as connection:
            return [name for (name,) in connection.execute(sa.text("SELECT name FROM mine"))]

    def own(request: Request) -> Response:
        add(request.path_params["name"])
        return JSONResponse({}, 201)

    def fails(request: Request) -> Response:
        return JSONResponse({"why": "sold out"}, 409)

    async def strange(request: Request) -> Response:
        await run(insert, request.path_params["name"])
        return JSONResponse({}, 201)

    async def swallowed(request: Request) -> Response:
        try:
            await run(insert, request.path_params["name"])
        except Exception:
            return JSONResponse({"fine": True}, 201)
        return JSONResponse({}, 201)

    async def mixed(request: Request) -> Response:
        await run(add, request.path_params["name"])
        await run(insert, request.path_params["name"])
        return JSONResponse({}, 201)

    handlers = (own, fails, strange, swallowed, mixed)
    routes = [Route(f"/{one.__name__}/{{name}}", one, methods=["POST"]) for one in handlers]
    transaction = SQLAlchemyTransaction(outside=outside)
    try:
        yield Shop(AtomicBatch(Starlette(routes=routes), transaction=transaction), mine)
    finally:
        engine.dispose()


async def run(function: Any, name: str) -> None:
    """Call what a handler would be, 'def' in a thread."""
    if inspect.iscoroutinefunction(function):
        await function(name)
    else:
        await asyncio.to_thread(function, name)


async def alone(app: Any, path: str) -> int:
    """One request that is no batch."""
    request = Asked([b""])
    await app(scope_of(path, ()), request.receive, request.send)
    return request.answer.status


async def batch(app: Any, *paths: str) -> Answer:
    return await ask(app, *(call("POST", path) for path in paths))


def details(answer: Answer) -> list[str]:
    return [json.loads(reply.body).get("detail", "") for reply in answer.replies]


@ALL
def test_strangers(stranger: Stranger, store: Store, tmp_path: Path) -> None:
    """Alone it stores; in a batch it stores nothing and the batch fails, saying who and where."""

    async def go() -> None:
        async with stranger.open(store.url) as insert, opened(insert, tmp_path) as shop:
            assert await alone(shop.app, "/strange/alone") == 201
            assert store.rows() == ["alone"]

            answer = await batch(shop.app, "/own/a", "/strange/b", "/own/c")
            assert answer.statuses == [424, 501, 424]
            assert answer.outcome == "rolled-back; failed=2; status=501"
            before, why, after = details(answer)
            assert before.endswith("what this call did is undone")
            assert after.endswith("this call was not attempted")
            assert json.loads(answer.replies[1].body)["type"].endswith(":not-batchable")
            assert f"by {stranger.library}" in why
            assert "guard/strangers.py:" in why
            assert "insert" in why.partition(" in ")[2]
            assert f'outside=("{stranger.library}",)' in why
            assert "on_commit" in why

            for path in ("/swallowed/d", "/mixed/e"):
                answer = await batch(shop.app, path, "/own/f")
                assert answer.statuses == [501, 424]
            assert (store.rows(), shop.mine()) == (["alone"], [])
            # Outside of batches it goes on as before.
            assert await alone(shop.app, "/strange/after") == 201
            assert store.rows()[-1] == "after"

    asyncio.run(go())


@ALL
def test_allowed_by_name(stranger: Stranger, store: Store, tmp_path: Path) -> None:
    """What is allowed by name stays, and nobody says that it was undone."""

    async def go(outside: tuple[Any, ...]) -> None:
        async with stranger.open(store.url) as insert, opened(insert, tmp_path, outside) as shop:
            answer = await batch(shop.app, "/strange/a", "/mixed/b", "/own/c", "/fails/d")
            assert answer.statuses == [424, 424, 424, 409]
            elsewhere, both, own, _ = details(answer)
            assert elsewhere.endswith(
                "this call used no database that takes part; what it did elsewhere stays"
            )
            assert both.endswith("what this call did in the batch's transaction is undone")
            assert own.endswith("what this call did is undone")
            assert store.rows()[-1] == "b"
            assert (await batch(shop.app, "/strange/c", "/own/d")).outcome == "committed"
            assert (store.rows()[-1], shop.mine()) == ("c", ["d"])

    asyncio.run(go((stranger.library,)))


@pytest.mark.parametrize(
    # Where an attached file leads is in a parameter.
    "stranger",
    [one for one in STRANGERS if one.name != "attached"],
    ids=lambda one: one.name,
)
def test_allowed_by_place(stranger: Stranger, store: Store, tmp_path: Path) -> None:
    """A file or a database can be allowed as well, however it is written."""
    here = store.url.replace("127.0.0.1", "localhost")

    async def go() -> None:
        async with stranger.open(store.url) as insert, opened(insert, tmp_path, (here,)) as shop:
            assert (await batch(shop.app, "/strange/a", "/own/b")).outcome == "committed"
            assert (store.rows()[-1], shop.mine()) == ("a", ["b"])

    asyncio.run(go())
