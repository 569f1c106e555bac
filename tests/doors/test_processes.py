"""Other processes that a call starts or uses have no part in its batch, and say so."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import NotBatchableError
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call, scope_of
from tests.asgi.asking import Request as Asked
from tests.stores import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


def engine_of(store: Store) -> sa.Engine:
    url = store.url.replace("postgresql:", "postgresql+psycopg:").replace(
        "mysql:", "mysql+pymysql:"
    )
    return sa.create_engine(url if "://" in url else f"sqlite:///{url}", poolclass=sa.NullPool)


def insert(engine: sa.Engine, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t (name) VALUES (:name)"), {"name": name})


def read(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT name FROM t"))


def in_child(act: Callable[[], object]) -> str:
    """Do something in a forked process; gives what it raised, or an empty text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Of what forks beside other threads: nothing of theirs is used here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            act()
        except BaseException as error:
            os.write(writer, repr(error)[:4000].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def app_of(*handlers: Callable[[Request], Response]) -> Any:
    routes = [Route(f"/{one.__name__}", one, methods=["POST"]) for one in handlers]
    return AtomicBatch(Starlette(routes=routes), transaction=SQLAlchemyTransaction())


def batch(app: Any, *paths: str) -> Answer:
    return asyncio.run(ask(app, *(call("POST", path) for path in paths)))


def test_a_process_that_a_call_forks(store: Store) -> None:
    """It may read by connections of its own, and uses none of the batch's, whose rows it spoils."""
    engine = engine_of(store)
    said: dict[str, str] = {}

    def forks(request: Request) -> Response:
        insert(engine, "before")
        with engine.connect() as opened:
            opened.execute(sa.text("SELECT 1"))
            said["write"] = in_child(lambda: insert(engine, "child"))
            said["session"] = in_child(lambda: opened.execute(sa.text("SELECT 1")))
            if "://" in store.url:  # SQLite takes the lock for this process's own
                said["read"] = in_child(lambda: read(engine))
        insert(engine, "after")
        return JSONResponse(said)

    def fails(request: Request) -> Response:
        return JSONResponse({}, 409)

    app = app_of(forks, fails)
    assert batch(app, "/forks", "/fails").outcome == "rolled-back; failed=2; status=409"
    assert store.rows() == []
    assert batch(app, "/forks", "/forks").outcome == "committed"
    assert store.rows() == ["before", "after"] * 2
    assert "in another process: that takes no part in the batch" in said["write"]
    assert said["session"]
    assert not said.get("read")


@pytest.mark.parametrize("store", ["postgresql", "mariadb"], indirect=True)
def test_a_pool_that_a_call_starts(store: Store) -> None:
    """Its workers outlive the batch, and then work for others; for a call they may compute."""
    engine = engine_of(store)
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))

    def computes(request: Request) -> Response:
        insert(engine, "own")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return JSONResponse(pool.submit(pow, 3, 2).result(30))

    def writes(request: Request) -> Response:
        pool.submit(_insert, store.url, "pooled").result(30)
        return JSONResponse({})

    def hides(request: Request) -> Response:
        error = pool.submit(_insert, store.url, "pooled").exception(30)
        return JSONResponse({"hidden": isinstance(error, NotBatchableError)})

    app = app_of(computes, writes, hides)
    try:
        answer = batch(app, "/computes", "/hides")
        assert answer.outcome == "committed"
        assert [reply.body for reply in answer.replies] == [b"9", b'{"hidden":true}']
        answer = batch(app, "/computes", "/writes")
        assert answer.outcome == "rolled-back; failed=2; status=501"
        assert b"in another process" in answer.replies[1].body
        assert store.rows() == ["own"]
        request = Asked([b""])
        asyncio.run(app(scope_of("/writes", ()), request.receive, request.send))
        assert request.answer.status == 200
        assert store.rows() == ["own", "pooled"]
    finally:
        pool.shutdown()


def _insert(url: str, name: str) -> None:
    engine = engine_of(Store(url, list))
    insert(engine, name)
