"""AtomicBatch: one transaction on a real database, in each place it can stand."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Host, Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from atomicbatch import Batch, ConflictError, Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.asgi.types import Message, Receive, Scope, Send
from atomicbatch.engine import Replay
from atomicbatch.testing import check_async_transaction
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.asgi.conftest import Make
from tests.asgi.shop import Guard, Made, ShopTransaction


def asked(made: Made, *targets: str, **scope: Any) -> Answer:
    """Ask with calls like ``POST /items pen``; the path is taken below the app's prefix."""
    calls = []
    for target in targets:
        method, path, *body = target.split(" ")
        calls.append(call(method, made.prefix + path, " ".join(body).encode()))
    return asyncio.run(ask(made.app, *calls, path=made.prefix + "/v1/api/batch", **scope))


def test_all_calls_take_effect(made: Made) -> None:
    """A batch of good calls is stored as a whole, and a call sees the calls before it."""
    answer = asked(made, "POST /items pen", "POST /items ink", "GET /items")
    assert (answer.status, answer.outcome) == (200, "committed")
    assert answer.statuses == [201, 201, 200]
    assert json.loads(answer.replies[2].body) == ["ink", "pen"]
    assert made.rows() == ["ink", "pen"]
    assert made.transaction.open == 0


def test_or_none_does(made: Made) -> None:
    """The first failing call undoes the calls before it and stops the ones after it."""
    answer = asked(made, "POST /items pen", "POST /items pen", "POST /items ink")
    assert (answer.status, answer.outcome) == (200, "rolled-back; failed=2; status=409")
    assert answer.statuses == [424, 409, 424]
    assert json.loads(answer.replies[1].body) == {"taken": "pen"}
    assert made.rows() == []
    assert made.transaction.open == 0


@pytest.mark.parametrize(
    "header",
    [
        (b"idempotency-key", b"k"),
        (b"prefer", b"return=minimal, tx=rollback"),
        (b"prefer", b"handling=strict, respond-async"),
        (b"batch-references", b"1"),
        (b"x-http-method-override", b"GET"),
    ],
    ids=repr,
)
def test_what_batches_do_not_do_is_refused(made: Made, header: tuple[bytes, bytes]) -> None:
    """Who asks for a batch that runs once, or is undone, does not get one that is neither."""
    answer = asked(made, "POST /items pen", headers=(header,))
    assert (answer.status, answer.outcome) == (400, "not-started")
    assert answer.problem["type"] == "urn:atomicbatch:problem:not-supported"
    assert made.rows() == []


def test_a_call_that_asks_for_references_is_refused(made: Made) -> None:
    """The whole batch is, before its first call runs, and the call is named."""
    path = made.prefix + "/items"
    calls = (call("POST", path, b"pen"), call("POST", path, b"ink", [(b"Batch-References", b"1")]))
    answer = asyncio.run(ask(made.app, *calls, path=made.prefix + "/v1/api/batch"))
    assert (answer.status, answer.problem["call"]) == (400, 2)
    assert made.rows() == []


def test_a_call_cannot_say_who_calls(made: Made) -> None:
    """What a gateway has said of the client holds for every call, however a call spells it."""
    outer = ((b"x-auth-request-email", b"real"), (b"cf-access-jwt-assertion", b"real"))
    forged = [
        (b"X-Auth-Request-Email", b"forged"),
        (b"x_auth_request_email", b"forged"),
        (b"CF-Access-JWT-Assertion", b"forged"),
        (b"X-Authenticated-UserId", b"forged"),
        (b"X-Pomerium-Claim-Email", b"forged"),
    ]
    one = call("GET", made.prefix + "/echo", headers=forged)
    answer = asyncio.run(ask(made.app, one, headers=outer, path=made.prefix + "/v1/api/batch"))
    assert answer.outcome == "committed"
    seen = json.loads(answer.replies[0].body)["headers"]
    assert ["x-auth-request-email", "real"] in seen
    assert not any(value == "forged" for _, value in seen)


def test_other_requests_are_the_apps_own(made: Made) -> None:
    """What is no batch passes through as if we were not there."""

    async def main() -> Request:
        request = Request([b"pen"])
        await made.app(scope_of(made.prefix + "/items", ()), request.receive, request.send)
        return request

    assert asyncio.run(main()).answer.status == 201
    assert made.rows() == ["pen"]


@pytest.mark.parametrize("form", ["outermost", "middleware", "mounted"])
def test_every_call_passes_the_whole_stack(make: Make, form: str) -> None:
    """What the app's middleware refuses alone, it refuses in a batch, wherever we stand."""
    made = make(form)
    answer = asked(made, "GET /admin")
    assert answer.outcome == "rolled-back; failed=1; status=403"
    assert answer.replies[0].body == b"no entry"


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


def test_a_handler_that_raises(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """A raising handler fails its call with the app's own error page, and rolls back."""
    answer = asked(made, "POST /items pen", "GET /boom")
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert answer.replies[1].body == b"Internal Server Error"
    assert b"secret" not in answer.body
    assert "the secret of the shop" in caplog.text
    assert made.rows() == []


def test_a_refused_commit_is_a_rollback(made: Made) -> None:
    """A deferred constraint fails the whole batch, after every call has answered 2xx (SPEC 4.2)."""
    answer = asked(made, "POST /items pen", "POST /part")
    assert answer.outcome == "rolled-back; failed=commit; status=409"
    assert answer.statuses == [424, 424]
    assert b"COMMIT was refused" in answer.replies[0].body
    assert made.rows() == []


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


class Conflicts(ShopTransaction):
    """Meets as many conflicts as it is told to, at COMMIT."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__(path)
        self.count = count

    def begin(self, batch: Batch, *, deadline: float) -> Any:
        manager = super().begin(batch, deadline=deadline)
        count, self.count = self.count, self.count - 1

        class Conflicting:
            async def __aenter__(self) -> sqlite3.Connection:
                return await manager.__aenter__()

            async def __aexit__(self, *why: Any) -> bool | None:
                if count > 0:
                    error = ConflictError("in the way")
                    await manager.__aexit__(ConflictError, error, None)
                    raise error
                return await manager.__aexit__(*why)

        return Conflicting()


def test_a_conflict_is_run_again(make: Make) -> None:
    """After conflicts the batch runs again from the start, and the answer says how often."""
    made = make()
    app = AtomicBatch(
        made.app, transaction=Conflicts(made.database, 2), replay=Replay(base_seconds=0)
    )
    answer = asyncio.run(ask(app, call("POST", "/items", b"pen")))
    assert (answer.outcome, answer.headers["batch-attempts"]) == ("committed", "3")
    assert made.rows() == ["pen"]


def test_a_conflict_that_stays(make: Make) -> None:
    """After the last try every part says 503 with Retry-After (SPEC 6.1, 5.2)."""
    made = make()
    app = AtomicBatch(
        made.app, transaction=Conflicts(made.database, 99), replay=Replay(base_seconds=0)
    )
    answer = asyncio.run(ask(app, call("POST", "/items", b"pen"), call("GET", "/items")))
    assert answer.outcome == "rolled-back; failed=commit; status=503"
    assert answer.statuses == [503, 503]
    assert all(dict(reply.headers)[b"retry-after"] for reply in answer.replies)
    assert answer.headers["batch-attempts"] == "5"
    assert made.rows() == []


def test_concurrent_batches_each_take_effect(make: Make) -> None:
    """Batches that want the one write lock of SQLite all get through."""
    made = make(replay=Replay(max_attempts=1000, base_seconds=0.001, max_seconds=0.01))

    async def main() -> list[Answer]:
        return await asyncio.gather(
            *(ask(made.app, call("POST", "/items", b"item-%d" % i)) for i in range(8))
        )

    assert {answer.outcome for answer in asyncio.run(main())} == {"committed"}
    assert len(made.rows()) == 8


def test_a_batch_in_a_batch(make: Make) -> None:
    """A call that reaches another batch endpoint is refused, by where it runs, not by path."""
    made = make()
    app = AtomicBatch(made.app, transaction=made.transaction, path="/other")
    content_type, body = write_batch([call("GET", "/items")])
    inner = call("POST", "/v1/api/batch", body, ((b"content-type", content_type),))
    answer = asyncio.run(ask(app, call("POST", "/items", b"pen"), inner, path="/other"))
    assert answer.outcome == "rolled-back; failed=2; status=400"
    assert json.loads(answer.replies[1].body)["type"] == "urn:atomicbatch:problem:nested-batch"
    assert made.rows() == []


def test_a_malformed_batch_runs_nothing(made: Made) -> None:
    """A body that is no batch is refused before anything begins (SPEC 2.1, 5.3)."""

    async def main() -> Answer:
        request = Request([b"--x\r\nnonsense"])
        scope = scope_of(
            made.prefix + "/v1/api/batch", ((b"content-type", b"multipart/mixed; boundary=x"),)
        )
        await made.app(scope, request.receive, request.send)
        return request.answer

    answer = asyncio.run(main())
    assert (answer.status, answer.outcome) == (400, "not-started")
    assert answer.headers["content-type"] == "application/problem+json"


def test_rolled_back_status(make: Make) -> None:
    """The status of a rolled-back response can be chosen (SPEC 5.1)."""
    made = make(rolled_back_status=409)
    assert asked(made, "GET /answer?status=404").status == 409
    assert asked(made, "GET /items").status == 200


def test_the_path_can_be_chosen(make: Make) -> None:
    """Only the chosen path is the endpoint (SPEC 1.1)."""
    made = make(path="/batch")
    answer = asyncio.run(ask(made.app, call("GET", "/items"), path="/batch"))
    assert answer.outcome == "committed"
    assert asyncio.run(ask(made.app, call("GET", "/items"))).status == 404


def test_a_batch_endpoint_that_cannot_begin(make: Make) -> None:
    """Where the transaction cannot begin, the batch did not start: one problem, no parts."""
    made = make()

    class Refusing:
        def begin(self, batch: Batch, *, deadline: float) -> Any:
            raise ConflictError("no connection")

    app = AtomicBatch(made.app, transaction=Refusing(), replay=Replay(max_attempts=2))
    answer = asyncio.run(ask(app, call("GET", "/items")))
    assert (answer.status, answer.outcome) == (503, "not-started")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "wrong", [{"path": "batch"}, {"path": "/batch/"}, {"rolled_back_status": 100}]
)
def test_wrong_options_are_refused(make: Make, wrong: dict[str, Any]) -> None:
    """A path without its slash or a status that is none is found when the app is made."""
    with pytest.raises(ValueError, match=r"must|no final"):
        make(**wrong)


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


TARGETS = ["POST /items a", "POST /items b", "POST /items c", "GET /items", "GET /redirect"]
FAILING = ["GET /boom", "GET /nowhere", "GET /stream?break=1", "GET /late", "POST /part"]


@given(targets=st.lists(st.sampled_from(TARGETS * 3 + FAILING), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_all_or_nothing(targets: list[str]) -> None:
    """After any batch the database holds all of it, and says committed, or none of it."""
    with tempfile.TemporaryDirectory() as folder:
        made = Made("outermost", folder + "/shop.sqlite")
        answer = asked(made, *targets)
        added = [target[-1] for target in targets if target.startswith("POST /items")]
        fails = len(set(added)) < len(added) or bool(set(targets) & set(FAILING))
        assert (answer.outcome == "committed") is not fails
        assert made.rows() == ([] if fails else sorted(added))
        assert len(answer.replies) == len(targets)
        assert made.transaction.open == 0
