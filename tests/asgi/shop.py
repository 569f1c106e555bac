"""
The app under test: a Starlette app on one SQLite file, and the adapter that its handlers join.

As a module it can be served: ``SHOP_DB=file SHOP_FORM=outermost uvicorn tests.asgi.shop:app``.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from copy import copy
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from atomicbatch import Batch, Call, ConflictError, Headers, Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.codings import encode
from atomicbatch.engine import Replay
from atomicbatch.transactions.contract import commit_error, statement_error
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Request as Sent
from tests.asgi.asking import ask, scope_of
from tests.endpoints.asking import Answer

SCHEMA = """
CREATE TABLE item (name TEXT PRIMARY KEY);
CREATE TABLE part (of TEXT REFERENCES item (name) DEFERRABLE INITIALLY DEFERRED);
"""
_joined: ContextVar[sqlite3.Connection | None] = ContextVar("shop_connection", default=None)
_word: ContextVar[str] = ContextVar("shop_word", default="none")


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


class ShopTransaction:
    """
    A small adapter: one SQLite connection for the length of a batch.

    It meets as many conflicts as it is told to, at COMMIT.
    """

    def __init__(self, path: str, conflicts: int = 0) -> None:
        self.path = path
        self.open = 0
        self.conflicts = conflicts

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[sqlite3.Connection]:
        connection = connect(self.path)
        self.open += 1
        try:
            with _joined_to(connection):
                _begin(connection)
                try:
                    yield connection
                    if self.conflicts:
                        self.conflicts -= 1
                        raise ConflictError("in the way")
                except BaseException as error:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    conflict = statement_error(error)
                    if conflict is not None:
                        raise conflict from error
                    raise
                _commit(connection)
        finally:
            self.open -= 1
            connection.close()


def _begin(connection: sqlite3.Connection) -> None:
    # To wait for the lock here would block the event loop, and with it whoever holds the lock.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise ConflictError("the database is locked") from error


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise commit_error(error) from error


@contextmanager
def _joined_to(connection: sqlite3.Connection) -> Iterator[None]:
    token = _joined.set(connection)
    try:
        yield
    finally:
        _joined.reset(token)


class Shop:
    """The handlers; ``gate`` holds /hang until a test lets it go."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.hanging = asyncio.Event()
        self.gate = asyncio.Event()
        self.log: list[str] = []

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        joined = _joined.get()
        if joined is not None:
            yield joined
            return
        connection = connect(self.path)
        try:
            yield connection
        finally:
            connection.close()

    def add(self, name: str) -> None:
        with self.database() as connection:
            connection.execute("INSERT INTO item VALUES (?)", (name,))

    def names(self) -> list[str]:
        with self.database() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM item ORDER BY name")]

    async def items(self, request: Request) -> Response:
        if request.method != "POST":
            return JSONResponse(self.names())
        name = (await request.body()).decode()
        try:
            self.add(name)
        except sqlite3.IntegrityError:
            return JSONResponse({"taken": name}, 409)
        return JSONResponse({"name": name}, 201, {"location": f"/items/{name}"})

    async def part(self, request: Request) -> Response:
        with self.database() as connection:
            connection.execute("INSERT INTO part VALUES ('nobody')")
        return Response(status_code=201)

    async def echo(self, request: Request) -> Response:
        scope = request.scope
        plain = {
            name: scope.get(name)
            for name in (
                *("method", "path", "root_path", "http_version", "scheme", "client", "server"),
                *("asgi", "extensions"),
            )
        }
        return JSONResponse(
            plain
            | {
                "raw_path": scope["raw_path"].decode("latin-1"),
                "query": scope["query_string"].decode("latin-1"),
                "headers": [(n.decode(), v.decode("latin-1")) for n, v in scope["headers"]],
                "url": str(request.url),
                "body": (await request.body()).decode("latin-1"),
                "keys": sorted(scope.get("seen_at_entry", ())),
                "gone": await request.is_disconnected(),
            }
        )

    async def word(self, request: Request) -> Response:
        before = _word.get()
        _word.set(request.query_params.get("set", "none"))
        seen = getattr(request.state, "seen", "none")
        request.state.seen = request.query_params.get("set", "none")
        return JSONResponse([before, seen])

    async def hang(self, request: Request) -> Response:
        self.add("hung")
        self.hanging.set()
        sign = Path(request.query_params.get("sign", os.devnull))
        sign.write_text("hanging")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            sign.write_text("cancelled")
            raise
        return PlainTextResponse("let go")

    async def boom(self, request: Request) -> Response:
        self.add("boom")
        raise RuntimeError("the secret of the shop")

    async def stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for number in range(3):
                self.add(f"streamed-{number}")
                await asyncio.sleep(0)
                yield b"chunk%d;" % number
            if "break" in request.query_params:
                raise RuntimeError("torn")

        return StreamingResponse(chunks())

    async def endless(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            self.add("endless")
            try:
                while True:
                    self.log.append("chunk")
                    yield bytes(1000)
            finally:
                self.log.append("stopped")

        return StreamingResponse(chunks())

    async def file(self, request: Request) -> Response:
        return FileResponse(__file__)

    async def answer(self, request: Request) -> Response:
        """Answers what the query says."""
        query = request.query_params
        response: Response = PlainTextResponse(query.get("body", ""), int(query["status"]))
        if response.status_code in (204, 304):
            response = Response(status_code=response.status_code)
        response.raw_headers += [
            (name.lower().encode(), value.encode())
            for name, value in query.multi_items()
            if name not in ("status", "body")
        ]
        return response

    async def redirect(self, request: Request) -> Response:
        return RedirectResponse("/items")

    async def late(self, request: Request) -> Response:
        """Fails after its response is complete, as a dependency that commits on exit may."""

        self.add("late")
        return _FailsLate("fine", 201)

    async def admin(self, request: Request) -> Response:
        return PlainTextResponse("the vault")

    def routes(self) -> list[Route]:
        both = ["GET", "POST"]
        return [
            Route("/items", self.items, methods=both),
            Route("/part", self.part, methods=["POST"]),
            Route("/echo", self.echo, methods=["GET", "POST", "BREW"]),
            Route("/echo/{rest:path}", self.echo, methods=both),
            Route("/word", self.word),
            Route("/hang", self.hang),
            Route("/boom", self.boom),
            Route("/stream", self.stream),
            Route("/endless", self.endless),
            Route("/file", self.file),
            Route("/answer", self.answer, methods=both),
            Route("/redirect", self.redirect),
            Route("/late", self.late),
            Route("/admin", self.admin),
        ]


class _FailsLate(PlainTextResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        raise RuntimeError("COMMIT failed in a dependency")


class Guard:
    """A middleware of the app's own that checks the path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["seen_at_entry"] = set(scope)
        if scope["type"] == "http" and scope["path"].endswith("/admin"):
            await PlainTextResponse("no entry", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


App = Callable[[Any, Any, Any], Awaitable[None]]


class Made:
    """An app in one of its forms, with what tests want to look at."""

    def __init__(self, form: str, database: str, *, conflicts: int = 0, **options: Any) -> None:
        if not Path(database).exists():
            connection = sqlite3.connect(database)
            connection.executescript("PRAGMA journal_mode=WAL;" + SCHEMA)
            connection.close()
        self.database = database
        self.shop = shop = Shop(database)
        self.transaction = ShopTransaction(database, conflicts)
        self.prefix = "/api" if form == "mounted" else ""
        batch: dict[str, Any] = {
            "transaction": self.transaction,
            "limits": Limits(timeout_seconds=20),
            "replay": Replay(base_seconds=0.001),
        } | options
        guard, routes = Middleware(Guard), shop.routes()
        if form == "outermost":
            self.app: App = AtomicBatch(Starlette(routes=routes, middleware=[guard]), **batch)
        elif form == "middleware":
            # The guard stands outside: calls must meet it all the same.
            own = Middleware(AtomicBatch, **batch)
            self.app = Starlette(routes=routes, middleware=[guard, own])
        elif form == "mounted":
            inner = AtomicBatch(Starlette(routes=routes), **batch)
            self.app = Starlette(routes=[Mount("/api", app=inner)], middleware=[guard])
        else:
            raise ValueError(form)

    @property
    def log(self) -> list[str]:
        """What handlers have written down."""
        return self.shop.log

    def ask(
        self,
        *calls: Call,
        headers: Headers = (),
        path: str | None = None,
        body: bytes | None = None,
        coding: str | None = None,
        **scope: Any,
    ) -> Answer:
        """Send a batch and wait for its answer; see tests/endpoints/asking.py."""
        if body is None:
            content_type, body = write_batch(calls)
            headers = ((b"content-type", content_type), *headers)
        if coding is not None:
            headers, body = (*headers, (b"content-encoding", coding.encode())), encode(body, coding)
        path = self.prefix + "/v1/api/batch" if path is None else path
        request = Sent([body])
        outer = scope_of(path, headers, **scope)

        async def main() -> None:
            await self.app(outer, request.receive, request.send)

        asyncio.run(main())
        return request.answer

    def ask_plainly(self, target: str) -> Answer:
        """Send one request that is no batch."""
        method, path, *body = target.split(" ")
        request = Sent([" ".join(body).encode()])
        outer = scope_of(self.prefix + path, (), method=method)

        async def main() -> None:
            await self.app(outer, request.receive, request.send)

        asyncio.run(main())
        return request.answer

    def ask_together(self, *batches: Sequence[Call]) -> list[Answer]:
        """Send batches at the same time."""

        async def main() -> list[Answer]:
            return await asyncio.gather(*(ask(self.app, *calls) for calls in batches))

        return asyncio.run(main())

    def endpoint(self, **options: Any) -> Made:
        """Put another endpoint in front of the same app."""
        made = copy(self)
        made.app = AtomicBatch(self.app, **{"transaction": self.transaction, **options})
        return made

    def rows(self) -> list[str]:
        """What a connection of its own sees."""
        connection = sqlite3.connect(self.database)
        try:
            return [row[0] for row in connection.execute("SELECT name FROM item ORDER BY name")]
        finally:
            connection.close()


if "SHOP_DB" in os.environ:
    app = Made(os.environ.get("SHOP_FORM", "outermost"), os.environ["SHOP_DB"]).app
