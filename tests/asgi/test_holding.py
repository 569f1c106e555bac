"""What all batches of an endpoint hold together is bounded; beyond it 503."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from atomicbatch import Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.limits import EndpointLimits
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.asgi.test_heavy import Nothing


class WaitingApp:
    """An app whose calls wait, then answer with as many bytes as their path says."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.running += 1
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = b"x" * int(scope["path"].strip("/"))
        await send({"type": "http.response.body", "body": body})


def endpoint(app: Any, **limits: int) -> AtomicBatch:
    return AtomicBatch(app, transaction=Nothing(), endpoint_limits=EndpointLimits(**limits))


def check_refused(answer: Answer, limit: str) -> None:
    assert answer.status == 503
    assert answer.outcome == "not-started"
    assert answer.headers["retry-after"] == "1"
    assert answer.problem["type"].endswith(":server-busy")
    assert answer.problem["limit"] == limit


async def wait_for(app: WaitingApp, count: int) -> None:
    while app.running < count:
        await asyncio.sleep(0)


def test_batches_at_once() -> None:
    """One more is refused; when one has been answered, or its client has gone, there is room."""

    async def main() -> None:
        app = WaitingApp()
        batches = endpoint(app, max_batches=2)
        first = asyncio.create_task(ask(batches, call("GET", "/1")))
        content_type, body = write_batch([call("GET", "/1")])
        request = Request([body])
        scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
        second = asyncio.create_task(batches(scope, request.receive, request.send))
        await wait_for(app, 2)
        check_refused(await ask(batches, call("GET", "/1")), "max_batches")
        # What is no batch is not counted.
        assert (await ask(batches, call("GET", "/1"), method="OPTIONS")).status == 200
        request.hang_up()
        await second
        third = asyncio.create_task(ask(batches, call("GET", "/1")))
        await wait_for(app, 2)
        app.go_on.set()
        assert (await first).outcome == (await third).outcome == "committed"
        assert batches._holding.batches == batches._holding.bytes == 0

    asyncio.run(main())


def test_uploads_are_counted_as_they_come() -> None:
    """A body is refused at the byte that is too much, whatever else of it is still to come."""

    async def main() -> None:
        app = WaitingApp()
        batches = endpoint(app, max_held_bytes=2000)
        content_type, body = write_batch([call("POST", "/0", b"y" * 1000)])
        first = asyncio.create_task(_send(batches, content_type, [body]))
        await wait_for(app, 1)
        held = batches._holding.bytes
        assert held == len(body)
        request = Request([body[:500], body[500:1000], body[1000:]])
        scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
        await batches(scope, request.receive, request.send)
        check_refused(request.answer, "max_held_bytes")
        assert request.unread == 1
        assert batches._holding.bytes == held
        app.go_on.set()
        assert (await first).outcome == "committed"
        assert batches._holding.bytes == 0

    asyncio.run(main())


def test_what_an_upload_becomes_is_counted() -> None:
    """A few bytes that were compressed are counted by what they are in memory; nothing runs."""

    async def main() -> None:
        app = WaitingApp()
        app.go_on.set()
        batches = endpoint(app, max_held_bytes=20_000)
        content_type, body = write_batch([call("POST", "/0", bytes(50_000))])
        request = Request([gzip.compress(body)])
        headers = ((b"content-type", content_type), (b"content-encoding", b"gzip"))
        await batches(scope_of("/v1/api/batch", headers), request.receive, request.send)
        check_refused(request.answer, "max_held_bytes")
        assert batches._holding.bytes == batches._holding.batches == 0

    asyncio.run(main())


async def _send(batches: AtomicBatch, content_type: bytes, chunks: list[bytes]) -> Answer:
    request = Request(chunks)
    scope = scope_of("/v1/api/batch", ((b"content-type", content_type),))
    await batches(scope, request.receive, request.send)
    return request.answer


@pytest.mark.parametrize(("method", "outcome"), [("GET", "rolled-back"), ("HEAD", "committed")])
def test_replies_are_counted_as_the_app_sends_them(method: str, outcome: str) -> None:
    """A reply that is too much fails its call, and all is rolled back; HEAD has no body."""

    async def main() -> None:
        app = WaitingApp()
        app.go_on.set()
        batches = endpoint(app, max_held_bytes=2000)
        answer = await ask(batches, call("GET", "/500"), Call(method, b"/1500", b"", (), b""))
        assert answer.outcome.startswith(outcome)
        if outcome == "rolled-back":
            assert answer.statuses == [503, 503]
            assert b"server-busy" in answer.body
        assert batches._holding.bytes == 0

    asyncio.run(main())
