"""
AtomicBatch: one transaction on a real database, in each place it can stand.

What holds of every endpoint is in tests/endpoints/app_contract.py.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Host, Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.asgi.types import Message, Receive, Scope, Send
from atomicbatch.testing import check_async_transaction
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.asgi.conftest import Make
from tests.asgi.shop import Guard, Made
from tests.endpoints.app_contract import *  # noqa: F403
from tests.endpoints.asking import asked


def own_middleware(made: Made) -> Route | Mount:
    """An app of its own that has the endpoint as its middleware."""
    batches = Middleware(AtomicBatch, transaction=made.transaction)
    return Mount("/sub", app=Starlette(routes=made.shop.routes(), middleware=[batches]))


def own_mount(made: Made) -> Route | Mount:
    """An app of its own that has the endpoint below a Mount."""
    batches = AtomicBatch(Starlette(routes=made.shop.routes()), transaction=made.transaction)
    return Mount("/sub", app=Starlette(routes=[Mount("/deep", app=batches)]))


@pytest.mark.parametrize(
    ("mounted", "prefix"), [(own_middleware, "/sub"), (own_mount, "/sub/deep")]
)
def test_below_an_app_that_nobody_knows(make: Make, mounted: Any, prefix: str) -> None:
    """Where calls would pass by the middleware of an app further out, batches are refused."""
    made = make()
    app = Starlette(routes=[mounted(made)], middleware=[Middleware(Guard)])
    path = prefix + "/v1/api/batch"
    answer = asyncio.run(ask(app, call("GET", prefix + "/admin"), path=path))
    assert (answer.status, answer.outcome) == (501, "not-started")
    assert answer.problem["type"] == "urn:atomicbatch:problem:not-batchable"
    assert "put AtomicBatch in front of the outermost app" in answer.problem["detail"]


@pytest.mark.parametrize("kind", ["route", "host"])
def test_every_call_passes_the_whole_stack_of_routes(make: Make, kind: str) -> None:
    """Calls start at the app also where the endpoint is one of its routes, or of its hosts."""
    made = make()
    batches = AtomicBatch(Starlette(routes=made.shop.routes()), transaction=made.transaction)
    route = Route("/v1/api/batch", batches) if kind == "route" else Host("shop.example", batches)
    app = Starlette(routes=[route, *made.shop.routes()], middleware=[Middleware(Guard)])
    assert asyncio.run(ask(app, call("POST", "/items", b"pen"))).outcome == "committed"
    answer = asyncio.run(ask(app, call("GET", "/admin")))
    assert answer.outcome == "rolled-back; failed=1; status=403"


def test_nothing_is_seen_before_commit(made: Made) -> None:
    """While a batch runs, other requests neither see nor join its transaction (SPEC 4.6)."""

    async def main() -> tuple[list[str], Answer]:
        batch = asyncio.create_task(
            ask(
                made.app,
                call("POST", made.prefix + "/items", b"pen"),
                call("GET", made.prefix + "/hang"),
                path=made.prefix + "/v1/api/batch",
            )
        )
        await made.shop.hanging.wait()
        seen = Request([b""])
        await made.app(scope_of(made.prefix + "/items", (), method="GET"), seen.receive, seen.send)
        made.shop.gate.set()
        return json.loads(seen.answer.body), await batch

    seen, answer = asyncio.run(main())
    assert seen == []
    assert answer.outcome == "committed"
    assert made.rows() == ["hung", "pen"]


def test_a_client_that_hangs_up_before_commit(made: Made) -> None:
    """Hanging up cancels the running call and rolls the batch back; nothing is answered."""

    async def main() -> Request:
        content_type, body = write_batch([call("GET", made.prefix + "/hang")])
        request = Request([body])
        scope = scope_of(made.prefix + "/v1/api/batch", ((b"content-type", content_type),))
        running = asyncio.ensure_future(made.app(scope, request.receive, request.send))
        await made.shop.hanging.wait()
        request.hang_up()
        await running
        return request

    request = asyncio.run(main())
    assert request.sent == []
    assert made.shop.log == ["cancelled"]
    assert made.rows() == []
    assert made.transaction.open == 0


def test_cancelled_by_the_server(made: Made) -> None:
    """A server that cancels the request gets its cancellation, after the rollback."""

    async def main() -> int:
        running = asyncio.create_task(
            ask(
                made.app,
                call("GET", made.prefix + "/hang"),
                path=made.prefix + "/v1/api/batch",
            )
        )
        await made.shop.hanging.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        return len(left)

    assert asyncio.run(main()) == 0
    assert made.rows() == []
    assert made.transaction.open == 0


def test_the_time_limit(make: Make) -> None:
    """The call that was running when the time was over is the failing one: 504 (SPEC 2.8)."""
    made = make(limits=Limits(timeout_seconds=0.1))
    answer = asked(made, "POST /items pen", "GET /hang", "GET /items")
    assert answer.outcome == "rolled-back; failed=2; status=504"
    assert answer.statuses == [424, 504, 424]
    assert made.rows() == []
    assert made.shop.log == ["cancelled"]


def test_lifespan_and_websockets_pass_through(make: Make) -> None:
    """Start-up, shut-down and websockets, also at the batch path, are the app's."""
    happened: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        happened.append(scope["type"])
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": message["type"] + ".complete"})
            return
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    wrapped = AtomicBatch(app, transaction=make().transaction)
    with TestClient(wrapped) as client, client.websocket_connect("/v1/api/batch") as socket:
        assert socket.receive_text() == "hello"
    assert happened == ["lifespan", "websocket"]


def test_starlettes_test_client(made: Made) -> None:
    """A batch sent by Starlette's TestClient is answered like any other request."""
    content_type, body = write_batch([call("POST", made.prefix + "/items", b"pen")])
    with TestClient(made.app) as client:
        response = client.post(
            made.prefix + "/v1/api/batch",
            content=body,
            headers={"content-type": content_type.decode()},
        )
    assert response.headers["batch-outcome"] == "committed"
    assert made.rows() == ["pen"]


def test_the_adapter_of_these_tests_keeps_the_contract(make: Make) -> None:
    """What these tests stand on passes the checks for adapters."""
    made = make()

    async def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO item VALUES (hex(randomblob(8)))")

    async def count() -> int:
        return len(made.rows())

    async def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO part VALUES ('nobody')")

    asyncio.run(check_async_transaction(made.transaction, write=write, count=count, refuse=refuse))


def test_messages_are_plain(made: Made) -> None:
    """One start and one body message: nothing of a reply leaves before the transaction ended."""
    happened: list[str] = []

    async def main() -> None:
        content_type, body = write_batch([call("GET", made.prefix + "/items")])
        request = Request([body[:10], body[10:], b""])

        async def send(message: Message) -> None:
            happened.append(message["type"])
            assert made.transaction.open == 0

        scope = scope_of(made.prefix + "/v1/api/batch", ((b"content-type", content_type),))
        await made.app(scope, request.receive, send)

    asyncio.run(main())
    assert happened == ["http.response.start", "http.response.body"]
