"""
The oracle: what a handler does alone is what it does in a batch, by whatever library and driver.

Each handler runs alone, in a batch that commits, between other calls, and in a batch that fails
afterwards. Reply and rows of the first three agree; of the last no row is left. The rows are read
through a connection of the tests' own; then a plain request works.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg2.extensions
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from atomicbatch import Call, doors
from atomicbatch.asgi import AtomicBatch
from atomicbatch.doors import earlier
from atomicbatch.guard.watch import unwatched
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.databases import WITH_MYSQLCLIENT
from tests.transactions.drivers.files import Store
from tests.transactions.drivers.libraries import LIBRARIES, Handler, Library

for _path in sorted(Path(__file__).parent.glob("of_*.py")):
    if _path.stem != "of_mysqlclient" or WITH_MYSQLCLIENT:
        import_module(f"tests.transactions.drivers.{_path.stem}")  # it registers what is run

# Libraries leave connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

RUN = call("POST", "/run")


def _cases() -> Iterator[Any]:
    """
    Each handler by each library, opened in each way.

    Where one way has run a handler with a driver, the others run each third, and all in ``make
    prove``. Ways with few handlers are about themselves, and run all.
    """
    have_run: set[tuple[str, str, str]] = set()
    ways: Counter[tuple[str, str]] = Counter()
    for one in LIBRARIES:
        way = ways[one.package, one.driver]
        ways[one.package, one.driver] += 1
        for number, handler in enumerate(one.handlers):
            key = one.package, one.driver, handler.name
            again = key in have_run and len(one.handlers) >= 10 and (number + way) % 3
            have_run.add(key)
            marks = pytest.mark.prove if again else ()
            yield pytest.param(one, handler, id=f"{one.name}-{handler.name}", marks=marks)


CASES = [*_cases()]


def app_of(library: Library, world: Any, handler: Handler) -> FastAPI:
    """An app whose handlers know nothing of batches."""
    app = FastAPI()

    @app.exception_handler(Exception)
    def failed(_: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 500)

    if library.is_async:

        @app.post("/items", status_code=201)
        async def add_async(name: str) -> Any:
            return await library.add(world, name)

        @app.post("/run")
        async def run_async() -> Any:
            return await handler.act(world)

    else:

        @app.post("/items", status_code=201)
        def add(name: str) -> Any:
            return library.add(world, name)

        @app.post("/run")
        def run() -> Any:
            return handler.act(world)

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    return app


async def ask_plainly(app: Any, one: Call) -> Answer:
    request = Request([one.body])
    scope = scope_of(one.path.decode(), one.headers, method=one.method, query=one.query)
    await app(scope, request.receive, request.send)
    return request.answer


def add(name: str) -> Call:
    return call("POST", f"/items?name={name}")


@pytest.fixture
def _without_doors(library: Library) -> Iterator[None]:
    doors.uninstall()
    earlier._looked.clear()
    yield
    earlier.unseen.clear()
    doors.install()
    gc.collect()
    unwatched.clear()
    for one in gc.get_objects() if library.driver == "psycopg2" else ():
        # Those that a library has kept would be found before the next batch.
        if type(one) is psycopg2.extensions.connection:
            one.close()


@pytest.mark.parametrize(("library", "handler"), CASES)
def test_alone_and_in_batches(library: Library, handler: Handler, store: Store) -> None:
    """A handler's reply and rows are the same in a batch; a batch that fails leaves no row."""

    async def go() -> None:
        async with library.open(store) as world:
            await check(library, handler, world, store)

    asyncio.run(go())


async def check(library: Library, handler: Handler, world: Any, store: Store) -> None:
    plain = app_of(library, world, handler)
    app = AtomicBatch(plain, transaction=DriverTransaction())
    before = store.rows()
    alone = await ask_plainly(plain, RUN)
    assert alone.status == 200, alone.body
    rows = store.rows()

    if handler.because:
        await check_refusal(app, handler, store)
    else:
        store.reset()
        answer = await ask(app, RUN)
        assert answer.outcome == "committed", answer.body
        assert json.loads(answer.replies[0].body) == json.loads(alone.body)
        assert store.rows() == rows

        store.reset()
        answer = await ask(app, add("a-neighbour"), RUN, add("z-neighbour"))
        assert answer.outcome == "committed", answer.body
        assert store.rows() == sorted([*rows, ("a-neighbour", 0), ("z-neighbour", 0)])

    store.reset()
    answer = await ask(app, add("before"), RUN, add("after"), call("POST", "/fail"))
    assert answer.outcome.startswith("rolled-back"), answer.body
    assert store.rows() == before
    assert (await ask_plainly(app, add("plain"))).status == 201
    assert store.rows() == sorted([*before, ("plain", 0)])
    assert await store.comes_to_rest()


async def check_refusal(app: Any, handler: Handler, store: Store) -> None:
    """The batch fails, says why, and leaves nothing."""
    store.reset()
    before = store.rows()
    answer = await ask(app, add("before"), RUN)
    assert answer.outcome.startswith("rolled-back; failed=2"), answer.body
    assert handler.because in json.loads(answer.replies[1].body)["detail"]
    assert store.rows() == before


@pytest.mark.usefixtures("_without_doors")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: one.name)
def test_opened_before_the_doors(library: Library, store: Store) -> None:
    """A library that connected before has its rows in the batch all the same, or is refused."""
    handler = library.handlers[0]

    async def go() -> None:
        async with library.open(store) as world:
            plain = app_of(library, world, handler)
            assert (await ask_plainly(plain, add("earlier"))).status == 201
            store.reset()
            doors.install()
            app = AtomicBatch(plain, transaction=DriverTransaction())
            answer = await ask(app, add("a"), add("b"), call("POST", "/fail"))
            if not library.early:
                assert answer.outcome.startswith("rolled-back")
                assert len(store.rows()) == 2
                answer = await ask(app, add("a"), add("b"))
                assert answer.outcome == "committed", answer.body
                assert len(store.rows()) == 4
            else:
                assert library.early in str(answer.body)

    asyncio.run(go())
