"""What a call writes by a library that takes no part in the batch is noticed, before it is sent."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import queue
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import Batch, Call, NotBatchableError, Reply, doors, guard
from atomicbatch.asgi import AtomicBatch
from atomicbatch.engine import execute
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call, scope_of
from tests.asgi.asking import Request as Asked
from tests.doors.strangers import STRANGERS, Insert, Stranger
from tests.stores import Store

DRIVERS = frozenset(
    [
        "sqlite3",
        "aiosqlite",
        "asyncpg",
        "psycopg",
        "psycopg2",
        "pymysql",
        "aiomysql",
        "asyncmy",
        "MySQLdb",
    ]
)
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
            assert "doors/strangers.py:" in why
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
    "stranger",
    [
        # A driver tells the place: with a library on top it is the same one.
        pytest.param(one, id=one.name, marks=() if one.library in DRIVERS else pytest.mark.prove)
        for one in STRANGERS
        if one.name != "attached"  # where that leads is in a parameter
    ],
)
def test_allowed_by_place(stranger: Stranger, store: Store, tmp_path: Path) -> None:
    """A file or a database can be allowed as well, however it is written."""
    here = store.url.replace("127.0.0.1", "localhost")

    async def go() -> None:
        async with stranger.open(store.url) as insert, opened(insert, tmp_path, (here,)) as shop:
            assert (await batch(shop.app, "/strange/a", "/own/b")).outcome == "committed"
            assert (store.rows()[-1], shop.mine()) == ("a", ["b"])

    asyncio.run(go())


# No false alarms ---------------------------------------------------------------------------------


class TableHandler(logging.Handler):
    """Writes log records into a database, as some do."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("INSERT INTO t (name) VALUES (?)", [record.getMessage()])


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """A server that answers anything with an empty response."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Exporter:
    """A thread of telemetry's that sends what it is given, from before the batch."""

    def __init__(self, port: int, path: str) -> None:
        self.queue: queue.Queue[bytes | None] = queue.Queue()
        self._port = port
        self._path = path
        self.thread = threading.Thread(target=self._export)
        self.thread.start()

    def _export(self) -> None:
        while (span := self.queue.get()) is not None:
            connection = HTTPConnection("127.0.0.1", self._port)
            connection.request("POST", "/", span)
            connection.getresponse().read()
            connection.close()
            with closing(sqlite3.connect(self._path)) as own, own:
                own.execute("INSERT INTO t (name) VALUES ('span')")

    def end(self) -> None:
        self.queue.put(None)
        self.thread.join()


def test_ordinary_handlers(sqlite_store: Store, postgresql_store: Store, tmp_path: Path) -> None:
    """Logs, caches, telemetry, HTTP, Redis, reads, scratch databases and SQLAlchemy's own pass."""
    cache = tmp_path / "cache.sqlite"
    with closing(sqlite3.connect(cache)) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")
    url = postgresql_store.url
    audit = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    plain = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    asynchronous = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    insert = sa.text("INSERT INTO t (name) VALUES ('x')")
    logger = logging.getLogger("tests.guard")
    logger.propagate = False

    async def go() -> None:
        async with listening() as port:
            handler = TableHandler(sqlite_store.url)
            logger.addHandler(handler)
            exporter = Exporter(port, sqlite_store.url)

            def logs() -> None:
                logger.warning("seen")

            def caches() -> None:
                with closing(sqlite3.connect(cache)) as connection, connection:
                    connection.execute("INSERT INTO t VALUES ('x')")

            def exports() -> None:
                exporter.queue.put(b"span")

            def calls_http() -> None:
                httpx.post(f"http://127.0.0.1:{port}/", content=b"x")

            def asks_redis() -> None:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"*3\r\n$3\r\nSET\r\n")
                    connection.recv(100)

            def reads() -> None:
                with closing(sqlite3.connect(sqlite_store.url)) as connection:
                    connection.execute("SELECT count(*) FROM t").fetchall()
                with psycopg.connect(url) as link:
                    link.execute("SELECT count(*) FROM t").fetchall()

            def computes() -> None:
                with closing(sqlite3.connect(":memory:")) as connection:
                    connection.executescript("CREATE TABLE a (n); INSERT INTO a VALUES (1)")

            def audits() -> None:
                with audit.begin() as connection:
                    connection.execute(insert)

            def touches_nothing() -> None:
                pass

            async def writes_by_asyncpg() -> None:
                async with asynchronous.begin() as connection:
                    await connection.execute(insert)

            def writes_by_psycopg() -> None:
                with plain.begin() as connection:
                    connection.execute(insert)

            ordinary: list[Callable[[], Any]] = [
                *(logs, caches, exports, calls_http, asks_redis, reads, computes, audits),
                *(touches_nothing, writes_by_asyncpg, writes_by_psycopg),
            ]

            def handler_of(act: Callable[[], Any]) -> Callable[[Request], Any]:
                if inspect.iscoroutinefunction(act):

                    async def handle(request: Request) -> Response:
                        await act()
                        return JSONResponse({}, 201)

                    return handle

                def handle_in_thread(request: Request) -> Response:
                    act()
                    return JSONResponse({}, 201)

                return handle_in_thread

            routes = [
                Route(f"/{act.__name__}", handler_of(act), methods=["POST"]) for act in ordinary
            ]
            transaction = SQLAlchemyTransaction(outside=(audit, cache))
            app = AtomicBatch(Starlette(routes=routes), transaction=transaction)
            try:
                for act in ordinary:
                    answer = await batch(app, f"/{act.__name__}")
                    assert (act.__name__, answer.outcome) == (act.__name__, "committed")
            finally:
                exporter.end()
                logger.removeHandler(handler)
                await asynchronous.dispose()
        assert sqlite_store.rows() == ["seen", "span"]
        assert postgresql_store.rows() == ["x", "x", "x"]

    asyncio.run(go())
    audit.dispose()
    plain.dispose()


# Other adapters ----------------------------------------------------------------------------------


class OwnTransaction:
    """An adapter of a user's, on sqlite3; what it opens itself takes part."""

    def __init__(self, path: str, outside: tuple[str, ...] = ()) -> None:
        self.path = path
        self.outside = outside

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")


class OwnAsyncTransaction(OwnTransaction):
    """Its async twin."""

    @asynccontextmanager
    async def begin(  # type: ignore[override]
        self, batch: Batch, *, deadline: float
    ) -> AsyncIterator[sqlite3.Connection]:
        with super().begin(batch, deadline=deadline) as connection:
            token = current.set(connection)
            try:
                yield connection
            finally:
                current.reset(token)


current: ContextVar[sqlite3.Connection] = ContextVar("current")


def test_an_adapter_of_ones_own(sqlite_store: Store, tmp_path: Path) -> None:
    """The connection that begins the transaction takes part; nothing is claimed of the rest."""
    other = str(tmp_path / "other.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")

    async def own(request: Request) -> Response:
        current.get().execute("INSERT INTO t (name) VALUES ('own')")
        return JSONResponse({}, 201)

    async def strange(request: Request) -> Response:
        with closing(sqlite3.connect(other)) as connection, connection:
            connection.execute("INSERT INTO t (name) VALUES ('strange')")
        return JSONResponse({}, 201)

    app = Starlette(
        routes=[Route(f"/{one.__name__}", one, methods=["POST"]) for one in (own, strange)]
    )

    async def go(outside: tuple[str, ...]) -> Answer:
        transaction = OwnAsyncTransaction(sqlite_store.url, outside)
        return await batch(AtomicBatch(app, transaction=transaction), "/own", "/strange")

    answer = asyncio.run(go(()))
    assert answer.statuses == [424, 501]
    assert details(answer)[0].endswith("what this call did in the batch's transaction is undone")
    assert sqlite_store.rows() == []
    assert asyncio.run(go((other,))).outcome == "committed"
    assert sqlite_store.rows() == ["own"]


class Holder:
    """What an adapter's block may give."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn


@pytest.mark.parametrize("way", ["given", "held", "set", "said", "lazy session"])
def test_a_transaction_that_begins_late(way: str, sqlite_store: Store) -> None:
    """A connection takes part also where nothing was sent on it before the first call."""
    kept = sqlite3.connect(sqlite_store.url)
    engine = sa.create_engine(f"sqlite:///{sqlite_store.url}")
    variable: ContextVar[Any] = ContextVar("variable")

    class Late:
        @asynccontextmanager
        async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Any]:
            if way == "lazy session":
                with engine.connect() as connection:
                    yield connection
                    connection.commit()
                return
            if way == "set":
                variable.set(Holder(kept))
            yield {"given": kept, "held": Holder(kept), "said": Saying()}.get(way)
            kept.commit()

    class Saying:
        def takes_part(self, connection: object) -> bool:
            return connection is kept

        def took_part(self) -> bool:
            return True

    connections: dict[str, Any] = {}

    async def write(request: Request) -> Response:
        if way == "lazy session":
            connections["it"].execute(sa.text("INSERT INTO t (name) VALUES ('own')"))
        else:
            kept.execute("INSERT INTO t (name) VALUES ('own')")
        return JSONResponse({}, 201)

    class Remembering(Late):
        @asynccontextmanager
        async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Any]:
            async with super().begin(batch, deadline=deadline) as given:
                connections["it"] = given
                yield given

    app = Starlette(routes=[Route("/write", write, methods=["POST"])])
    batches = AtomicBatch(app, transaction=Remembering())
    assert asyncio.run(batch(batches, "/write")).outcome == "committed"
    assert sqlite_store.rows() == ["own"]
    kept.close()
    engine.dispose()


def test_connections_in_proxies(sqlite_store: Store, tmp_path: Path) -> None:
    """Instrumentation wraps connections of drivers; SQLAlchemy's own take part all the same."""
    wrapt = pytest.importorskip("wrapt")
    path = sqlite_store.url

    def connect(to: str) -> Any:
        return wrapt.ObjectProxy(sqlite3.connect(to, check_same_thread=False))

    engine = sa.create_engine("sqlite://", creator=lambda: connect(path))
    other = str(tmp_path / "other.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")
    outside = sa.create_engine("sqlite://", creator=lambda: connect(other))

    def write(request: Request) -> Response:
        for each in (engine, outside):
            with each.begin() as connection:
                connection.execute(sa.text("INSERT INTO t (name) VALUES ('x')"))
        return JSONResponse({}, 201)

    app = Starlette(routes=[Route("/write", write, methods=["POST"])])
    batches = AtomicBatch(app, transaction=SQLAlchemyTransaction(engine, outside=[outside]))
    assert asyncio.run(batch(batches, "/write")).outcome == "committed"
    assert sqlite_store.rows() == ["x"]
    engine.dispose()
    outside.dispose()


def test_a_sync_adapter(sqlite_store: Store, tmp_path: Path) -> None:
    """Without asyncio, the whole block of a transaction is watched."""
    doors.install()
    other = str(tmp_path / "other.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")

    def perform(call: Call, connection: sqlite3.Connection) -> Reply:
        connection.execute("INSERT INTO t (name) VALUES ('own')")
        if call.path == b"/strange":
            with suppress(Exception), closing(sqlite3.connect(other)) as stranger, stranger:
                stranger.execute("INSERT INTO t (name) VALUES ('strange')")
        return Reply(200, (), b"")

    transaction: guard.Guarded[sqlite3.Connection] = guard.Guarded(OwnTransaction(sqlite_store.url))
    for paths, committed in ((("/own",), True), (("/own", "/strange"), False)):
        calls = Batch(tuple(call("POST", path) for path in paths))
        outcome = execute(calls, transaction, perform, timeout_seconds=30)
        assert outcome.committed is committed
        assert sqlite_store.rows() == ["own"]
    assert isinstance(outcome.error, NotBatchableError)


# Leftovers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["/fails/x", "/own/x"])
def test_what_is_left_running(ends: str, sqlite_store: Store, tmp_path: Path) -> None:
    """What outlives a batch that was rolled back stores nothing; after COMMIT it may."""
    go_on = threading.Event()
    left: list[threading.Thread] = []
    errors: list[BaseException] = []

    def insert(name: str) -> None:
        def work() -> None:
            go_on.wait()
            try:
                with closing(sqlite3.connect(sqlite_store.url)) as connection, connection:
                    connection.execute("INSERT INTO t (name) VALUES (?)", [name])
            except BaseException as error:
                errors.append(error)

        left.append(threading.Thread(target=work))
        left[0].start()

    async def go() -> str:
        async with opened(insert, tmp_path) as shop:
            return (await batch(shop.app, "/strange/later", ends)).outcome

    outcome = asyncio.run(go())
    go_on.set()
    left[0].join()
    if ends == "/own/x":
        assert (outcome, sqlite_store.rows(), errors) == ("committed", ["later"], [])
    else:
        assert (outcome, sqlite_store.rows()) == ("rolled-back; failed=2; status=409", [])
        assert "what it has left running may store nothing" in str(errors[0])
