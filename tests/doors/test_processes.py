"""Other processes that a call starts or uses have no part in its batch, and say so."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
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
from tests.doors.in_batches import run_batch
from tests.guard import writing
from tests.stores import Store

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # Of what forks beside other threads: nothing of theirs is used here.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


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
            said["session"] = in_child(lambda: opened.execute(sa.text("SELECT 1")))
            if "://" in store.url:  # SQLite takes the lock for this process's own
                said["read"] = in_child(lambda: read(engine))
        insert(engine, "after")
        return JSONResponse(said)

    def writes(request: Request) -> Response:
        said["write"] = in_child(lambda: insert(engine, "child"))
        return JSONResponse(said)

    def fails(request: Request) -> Response:
        return JSONResponse({}, 409)

    app = app_of(forks, writes, fails)
    assert batch(app, "/forks", "/fails").outcome == "rolled-back; failed=2; status=409"
    assert store.rows() == []
    assert batch(app, "/forks", "/forks").outcome == "committed"
    assert store.rows() == ["before", "after"] * 2
    assert said["session"]
    assert not said.get("read")
    # Its parent hears of it, also where nobody else does.
    assert batch(app, "/forks", "/writes").outcome == "rolled-back; failed=2; status=501"
    assert "in another process: that takes no part in the batch" in said["write"]
    assert store.rows() == ["before", "after"] * 2


# Pools -------------------------------------------------------------------------------------------


def executor() -> Any:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))


def pool() -> Any:
    return multiprocessing.get_context("fork").Pool(1)


def given(pool: Any, job: Callable[..., Any], *arguments: Any) -> Any:
    """What a job comes to that a pool of either kind is given."""
    if isinstance(pool, ProcessPoolExecutor):
        return pool.submit(job, *arguments).result(30)
    return pool.apply(job, arguments)


def ended(pool: Any) -> None:
    if isinstance(pool, ProcessPoolExecutor):
        pool.shutdown()
    else:
        pool.close()
        pool.join()


@pytest.mark.parametrize(
    "store", ["postgresql", pytest.param("mariadb", marks=pytest.mark.prove)], indirect=True
)
@pytest.mark.parametrize("make", [executor, pool])
def test_a_pool_that_a_call_starts(make: Callable[[], Any], store: Store) -> None:
    """Its workers outlive the batch, and then work for others; for a call they may compute."""
    engine = engine_of(store)
    pools: list[Any] = []

    def the_pool() -> Any:
        if not pools:
            pools.append(make())
        return pools[0]

    def computes(request: Request) -> Response:
        insert(engine, "own")
        return JSONResponse(given(the_pool(), pow, 3, 2))

    def writes(request: Request) -> Response:
        given(the_pool(), _insert, store.url, "pooled")
        return JSONResponse({})

    def hides(request: Request) -> Response:
        try:
            given(the_pool(), _insert, store.url, "pooled")
        except NotBatchableError:
            return JSONResponse({"hidden": True})
        return JSONResponse({})

    def worker_hides(request: Request) -> Response:
        with suppress(Exception):
            given(the_pool(), hide, store.url, "pooled")
        return JSONResponse({})

    app = app_of(computes, writes, hides, worker_hides)
    try:
        answer = batch(app, "/computes", "/computes")
        assert answer.outcome == "committed"
        assert [reply.body for reply in answer.replies] == [b"9", b"9"]
        for path in ("/writes", "/hides", "/worker_hides"):
            answer = batch(app, "/computes", path, "/computes")
            assert answer.outcome == "rolled-back; failed=2; status=501"
            assert b"in another process" in answer.replies[1].body
        assert store.rows() == ["own", "own"]
        request = Asked([b""])
        asyncio.run(app(scope_of("/writes", ()), request.receive, request.send))
        assert request.answer.status == 200
        assert store.rows() == ["own", "own", "pooled"]
    finally:
        ended(pools[0])


def _map(pool: Any, job: Any, values: list[Any]) -> list[Any]:
    return list(pool.map(job, values))


def _starmap(pool: Any, job: Any, values: list[Any]) -> list[Any]:
    return list(pool.starmap(job, [(value,) for value in values]))


def _imap(pool: Any, job: Any, values: list[Any]) -> list[Any]:
    return list(pool.imap(job, values))


def _imap_unordered(pool: Any, job: Any, values: list[Any]) -> list[Any]:
    return sorted(pool.imap_unordered(job, values))


def test_ways_to_give_work(postgresql_store: Store) -> None:
    """Each of a pool's methods: what it computes comes back, what it writes is refused."""
    url, ways = postgresql_store.url, (_map, _starmap, _imap, _imap_unordered)
    with pool() as one:

        def computes(request: Request) -> Response:
            return JSONResponse([way(one, abs, [-1, -2]) for way in ways])

        def writes(request: Request) -> Response:
            with suppress(Exception):
                ways[int(request.query_params["way"])](one, partial(_insert, url), ["a", "b"])
            return JSONResponse({})

        app = app_of(computes, writes)
        answer = batch(app, "/computes")
        assert (answer.outcome, json.loads(answer.replies[0].body)) == ("committed", [[1, 2]] * 4)
        for index in range(len(ways)):
            answer = batch(app, "/computes", f"/writes?way={index}")
            assert answer.outcome == "rolled-back; failed=2; status=501"
    assert postgresql_store.rows() == []


def test_work_that_is_refused_after_its_batch(
    postgresql_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waited for it: the batch is committed, and the log says what is missing."""
    futures: list[Any] = []
    reader, writer = os.pipe()
    with executor() as one:
        one.submit(abs, 1).result(30)  # the worker has the pipe as well

        def leaves(request: Request) -> Response:
            futures.append(one.submit(_wait_and_insert, reader, postgresql_store.url))
            return JSONResponse({})

        assert batch(app_of(leaves), "/leaves").outcome == "committed"
        os.write(writer, b"x")
        assert isinstance(futures[0].exception(30), NotBatchableError)
    os.close(reader)
    os.close(writer)
    assert postgresql_store.rows() == []
    assert "work that a call has left to a pool was refused after its batch" in caplog.text


# Processes that are started anew -----------------------------------------------------------------


def spawned(url: str) -> Any:
    return multiprocessing.get_context("spawn").Process(target=writing.hide, args=(url, "anew"))


def from_a_server(url: str) -> Any:
    context = multiprocessing.get_context("forkserver")
    return context.Process(target=writing.hide, args=(url, "anew"))


@pytest.mark.parametrize(
    ("make", "store"),
    [(spawned, "sqlite"), (writing.Writing, "postgresql"), (from_a_server, "postgresql")],
    indirect=["store"],
)
def test_a_process_that_is_started_anew(make: Callable[[str], Any], store: Store) -> None:
    """It has no doors by itself, and no context; it is refused and heard all the same."""

    def starts(request: Request) -> Response:
        process = make(store.url)
        process.start()
        assert "run" not in vars(process)
        process.join()
        return JSONResponse(process.exitcode)

    app = app_of(starts)
    answer = batch(app, "/starts")
    assert answer.outcome == "rolled-back; failed=1; status=501"
    assert b"guard/writing.py:" in answer.replies[0].body
    assert store.rows() == []
    if make is writing.Writing:
        request = Asked([b""])
        asyncio.run(app(scope_of("/starts", ()), request.receive, request.send))
        assert (request.answer.body, store.rows()) == (b"0", ["anew"])


def test_a_process_started_anew_that_computes(tmp_path: Path) -> None:
    """Nothing is refused."""
    path = tmp_path / "made"

    def starts(request: Request) -> Response:
        process = multiprocessing.get_context("spawn").Process(target=path.touch)
        process.start()
        process.join()
        return JSONResponse({})

    assert batch(app_of(starts), "/starts").outcome == "committed"
    assert path.exists()


def prepared_executor(method: str, *arguments: Any) -> Any:
    return ProcessPoolExecutor(
        1, multiprocessing.get_context(method), initializer=writing.hide, initargs=arguments
    )


def prepared_pool(method: str, *arguments: Any) -> Any:
    return multiprocessing.get_context(method).Pool(1, writing.hide, arguments)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("make", [prepared_executor, prepared_pool])
def test_what_prepares_a_worker(
    make: Callable[..., Any], method: str, postgresql_store: Store
) -> None:
    """The initializer of a pool that a call makes is as the call's own work."""
    url = postgresql_store.url

    def works() -> Any:
        with make(method, url, "prepared") as pool:
            return given(pool, abs, -1)

    answer = run_batch(lambda: writing.insert(url, "own"), works)
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"in another process" in answer.replies[1].body
    assert postgresql_store.rows() == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_start_after_the_batch_are_prepared_as_ever(
    method: str, postgresql_store: Store
) -> None:
    pools: list[Any] = []

    def makes() -> None:
        pools.append(prepared_executor(method, postgresql_store.url, "prepared"))

    assert run_batch(makes).outcome == "committed"
    with pools[0] as pool:
        assert given(pool, abs, -1) == 1
    assert postgresql_store.rows() == ["prepared"]


# Processes of processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (writing.in_child, writing.by_worker),
        (writing.in_child, writing.by_pools_worker),
        (writing.in_process, writing.by_worker),
        (writing.by_worker, writing.in_child),
        (writing.by_worker, writing.in_process),
        (writing.by_pools_worker, writing.in_child),
    ],
)
def test_what_a_process_of_a_process_hides(
    first: Callable[..., None], second: Callable[..., None], postgresql_store: Store
) -> None:
    """Whatever way it has come, its batch hears what it was refused."""
    url = postgresql_store.url

    def works() -> None:
        first(second, writing.hide, url, "of a child's")

    answer = run_batch(lambda: writing.insert(url, "own"), works)
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"in another process" in answer.replies[1].body
    assert postgresql_store.rows() == []


def _insert(url: str, name: str) -> None:
    insert(engine_of(Store(url, list)), name)


def hide(url: str, name: str) -> None:
    with suppress(Exception):
        _insert(url, name)


def _wait_and_insert(reader: int, url: str) -> None:
    os.read(reader, 1)
    _insert(url, "late")
