"""BatchEndpoint: reads one batch request, watches for hang-up, sends the response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from atomicbatch import BusyError, Headers, Limits, UnknownOutcomeError
from atomicbatch.asgi import BatchEndpoint
from atomicbatch.asgi.types import Message, Scope
from atomicbatch.exchange import Head, Response
from tests.asgi.asking import Request, scope_of

TYPE = (b"content-type", b"multipart/mixed; boundary=x")
OK = Response(200, ((b"x", b"y"),), b"done")


class Answering:
    """An ``answer`` that can be held, and writes down what happens to it."""

    def __init__(self, *, error: Exception | None = None, held: bool = False) -> None:
        self.error = error
        self.body: bytes | None = None
        self.headers: Headers = ()
        self.events: list[str] = []
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        if not held:
            self.go_on.set()

    async def __call__(self, scope: Scope, head: Head, body: bytes) -> Response:
        self.headers, self.body = head.headers, body
        self.reached.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            await asyncio.sleep(0)
            self.events.append("rolled back")
            raise
        if self.error is not None:
            raise self.error
        return OK


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def checked() -> None:
        await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left behind: {left}"

    asyncio.run(checked())


def test_the_body_arrives_in_pieces() -> None:
    """The body is put together from whatever messages it comes in."""

    async def main() -> None:
        answering, request = Answering(), Request([b"ab", b"", b"cd", b""])
        await BatchEndpoint(answering)(scope_of("/", (TYPE,)), request.receive, request.send)
        assert answering.body == b"abcd"
        assert (request.answer.status, request.answer.body) == (200, b"done")

    run(main)


def test_header_names_are_lower_case() -> None:
    """A server that does not lower header names is put right."""

    async def main() -> None:
        answering, request = Answering(), Request([b""])
        scope = scope_of("/", ((b"Content-Type", TYPE[1]),))
        await BatchEndpoint(answering)(scope, request.receive, request.send)
        assert TYPE in answering.headers

    run(main)


def test_what_the_head_says_needs_no_body() -> None:
    """A request that its head disqualifies is answered before its body is asked for."""

    async def main() -> None:
        async def receive() -> Message:
            raise AssertionError("the body was asked for")

        for method, headers, status in [
            ("GET", (TYPE,), 405),
            ("OPTIONS", (), 200),
            ("POST", (), 415),
            ("POST", (TYPE, (b"content-length", b"99999999999")), 413),
        ]:
            request, answering = Request([]), Answering()
            scope = scope_of("/", headers, method=method)
            await BatchEndpoint(answering)(scope, receive, request.send)
            assert request.answer.status == status
            assert answering.body is None

    run(main)


def test_head_gets_no_body() -> None:
    """The answer to HEAD has the length of its body, but not the body."""

    async def main() -> None:
        request = Request([])
        scope = scope_of("/", (), method="HEAD")
        await BatchEndpoint(Answering())(scope, request.receive, request.send)
        assert request.answer.status == 405
        assert request.answer.body == b""
        assert int(request.answer.headers["content-length"]) > 0

    run(main)


def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    """Reading stops with the piece that passes the limit."""

    async def main() -> None:
        pieces = [bytes(60)] * 10
        answering, request = Answering(), Request(pieces)
        endpoint = BatchEndpoint(answering, limits=Limits(max_body_bytes=100))
        await endpoint(scope_of("/", (TYPE,)), request.receive, request.send)
        assert request.answer.status == 413
        assert request.answer.problem["limit"] == "max_body_bytes"
        assert request.unread == 8
        assert answering.body is None

    run(main)


def test_a_body_that_never_ends_in_time() -> None:
    """A body that trickles in for longer than the time limit is refused: 408."""

    async def main() -> None:
        async def receive() -> Message:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"", "more_body": True}

        request = Request([])
        endpoint = BatchEndpoint(Answering(), limits=Limits(timeout_seconds=0.05))
        await endpoint(scope_of("/", (TYPE,)), receive, request.send)
        answer = request.answer
        assert (answer.status, answer.outcome) == (408, "not-started")
        assert answer.problem["type"].endswith(":timeout")

    run(main)


def test_hanging_up_while_the_body_arrives() -> None:
    """Half a body is never answered, nor run."""

    async def main() -> None:
        messages: list[Message] = [
            {"type": "http.request", "body": b"half", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        answering, request = Answering(), Request([])
        await BatchEndpoint(answering)(scope_of("/", (TYPE,)), receive, request.send)
        assert (answering.body, request.sent) == (None, [])

    run(main)


def test_an_answer_that_comes_at_once_costs_one_task() -> None:
    """Nobody watches for a hang-up where there is hardly time for one."""

    async def main() -> None:
        made: list[object] = []

        def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        request = Request([b""])
        asyncio.get_running_loop().set_task_factory(make)
        await BatchEndpoint(Answering())(scope_of("/", (TYPE,)), request.receive, request.send)
        assert request.answer.status == 200
        assert len(made) == 1

    run(main)


def test_hanging_up_while_the_batch_runs() -> None:
    """The answer is cancelled and its end awaited; nothing is sent."""

    async def main() -> None:
        answering, request = Answering(held=True), Request([b""])
        endpoint = BatchEndpoint(answering)
        running = asyncio.ensure_future(
            endpoint(scope_of("/", (TYPE,)), request.receive, request.send)
        )
        await answering.reached.wait()
        request.hang_up()
        await running
        assert answering.events == ["cancelled", "rolled back"]
        assert request.sent == []

    run(main)


def test_cancelled_while_the_batch_runs() -> None:
    """However often the server cancels, the end of the batch is awaited first."""

    async def main() -> None:
        answering, request = Answering(held=True), Request([b""])
        endpoint = BatchEndpoint(answering)
        running = asyncio.ensure_future(
            endpoint(scope_of("/", (TYPE,)), request.receive, request.send)
        )
        await answering.reached.wait()
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert answering.events == ["cancelled", "rolled back"]

    run(main)


def test_a_server_that_cannot_tell_of_hang_ups() -> None:
    """Where receive() raises after the body, the batch runs to its end all the same."""

    async def main() -> None:
        answering, request = Answering(held=True), Request([])
        messages: list[Message] = [{"type": "http.request", "body": b"x"}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            asyncio.get_running_loop().call_soon(answering.go_on.set)
            raise RuntimeError("there is no more")

        await BatchEndpoint(answering)(scope_of("/", (TYPE,)), receive, request.send)
        assert request.answer.status == 200
        assert answering.events == []

    run(main)


def test_a_middleware_that_gives_the_body_again() -> None:
    """Where receive() repeats the body, it is not asked on and on: that would stop the server."""

    async def main() -> None:
        answering, asked = Answering(held=True), 0

        async def receive() -> Message:
            nonlocal asked
            asked += 1
            if asked == 2:
                asyncio.get_running_loop().call_soon(answering.go_on.set)
            if asked == 100:
                raise RuntimeError("so it does not end by itself")
            return {"type": "http.request", "body": b"x", "more_body": False}

        request = Request([])
        await BatchEndpoint(answering)(scope_of("/", (TYPE,)), receive, request.send)
        assert (request.answer.status, answering.body, answering.events) == (200, b"x", [])
        assert asked == 2

    run(main)


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [(BusyError("x"), 503, "not-started"), (UnknownOutcomeError("x"), 503, "unknown")],
)
def test_our_errors_become_refusals(error: Exception, status: int, outcome: str) -> None:
    """What ``answer`` raises of our errors is told as a problem."""

    async def main() -> None:
        request = Request([b""])
        endpoint = BatchEndpoint(Answering(error=error))
        await endpoint(scope_of("/", (TYPE,)), request.receive, request.send)
        assert (request.answer.status, request.answer.outcome) == (status, outcome)

    run(main)


def test_other_errors_are_the_servers() -> None:
    """Anything else goes to the server, which answers 500 and logs it, as for any app."""

    async def main() -> None:
        request = Request([b""])
        endpoint = BatchEndpoint(Answering(error=ZeroDivisionError()))
        with pytest.raises(ZeroDivisionError):
            await endpoint(scope_of("/", (TYPE,)), request.receive, request.send)
        assert request.sent == []

    run(main)
