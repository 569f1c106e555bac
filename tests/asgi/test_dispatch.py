"""
Dispatch: a call reaches the app as a request of its own would (SPEC 1.5).

What holds of every dispatcher is in tests/endpoints/dispatch_contract.py.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from atomicbatch import AtomicBatchError, Call, ConflictError, Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.scope import Target
from atomicbatch.asgi.types import App, Message, Receive, Scope, Send
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, Request, ask, call, scope_of
from tests.asgi.conftest import Make
from tests.asgi.test_heavy import Nothing
from tests.endpoints.dispatch_contract import *  # noqa: F403

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
END: Message = {"type": "http.response.body", "body": b""}


def asked(app: App, *calls: Call, **scope: Any) -> Answer:
    return asyncio.run(ask(app, *calls, **scope))


def echoed(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer.replies[0].body)
    return document


# What the app sees.


def test_the_scope_is_a_fresh_one(make: Make) -> None:
    """A call's scope has exactly the keys of a request; what the outer one had more is gone."""
    outer = {"session": {"user": 1}, "user": "admin", "path_params": {"x": 1}, "auth": "all"}
    seen = echoed(asked(make().app, call("GET", "/echo"), **outer))
    assert set(seen["keys"]) == {
        *("type", "asgi", "http_version", "method", "path", "raw_path", "query_string"),
        *("root_path", "headers", "scheme", "client", "server", "state", "extensions"),
        "app",  # Starlette's own
    }


def test_no_extensions_and_a_current_spec_version(make: Make) -> None:
    """Calls are offered no extension, and a version from which send() alone tells of a hang-up."""
    seen = echoed(asked(make().app, call("GET", "/echo")))
    assert seen["extensions"] == {}
    assert seen["asgi"] == {"version": "3.0", "spec_version": "2.4"}


def test_optional_keys_may_be_missing() -> None:
    """A server that leaves out every optional key of the scope is served all the same."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(START)
        await send(END)

    target = Target(app, "", True)
    asyncio.run(Dispatcher(target, {"type": "http"}, Limits()).perform(call("GET", "/%C3%A9")))
    assert seen[0]["raw_path"] == b"/%C3%A9"
    assert seen[0]["path"] == "/é"
    assert "client" not in seen[0]
    assert "state" not in seen[0]


def test_one_calls_state_does_not_show_in_the_next(make: Make) -> None:
    """Context variables and ``request.state`` that a call sets are gone in the next call."""
    state = {"seen": "none"}
    answer = asked(make().app, call("GET", "/word?set=a"), call("GET", "/word"), state=state)
    assert [json.loads(reply.body) for reply in answer.replies] == [["none", "none"]] * 2
    assert state == {"seen": "none"}


def test_the_client_is_there_until_the_reply_is_complete(make: Make) -> None:
    """An app that asks whether the client is gone hears no, and its streams are not cut short."""
    answer = asked(make().app, call("GET", "/echo"), call("GET", "/stream"))
    assert echoed(answer)["gone"] is False
    assert answer.replies[1].body == b"chunk0;chunk1;chunk2;"


def test_receive_after_the_reply_tells_of_a_disconnect() -> None:
    """The body comes once, then nothing until the reply is complete, then ``http.disconnect``."""
    happened: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            happened.append((await receive())["type"])

        await listen()
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        assert happened == ["http.request"]
        await send(START)
        await send({**END, "more_body": True})
        await asyncio.sleep(0)
        assert happened == ["http.request"]
        await send(END)
        await listening
        await listen()

    reply = perform(app)
    assert reply.status == 200
    assert happened == ["http.request", "http.disconnect", "http.disconnect"]


def perform(app: App, method: str = "GET", limits: Limits | None = None) -> Any:
    """Perform one call on a bare ASGI app."""
    dispatcher = Dispatcher(Target(app, "", True), scope_of("/", ()), limits or Limits())
    return asyncio.run(dispatcher.perform(call(method, "/")))


def sending(*messages: Message, error: Exception | None = None) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


# Prefixes.


@pytest.mark.parametrize("target", ["/echo/x", "/api/echo/x"])
def test_with_and_without_a_prefix(make: Make, target: str) -> None:
    """With uvicorn's root_path, calls are found with the prefix and without it."""
    answer = asked(make().app, call("GET", target), path="/api/v1/api/batch", root_path="/api")
    seen = echoed(answer)
    assert (seen["path"], seen["raw_path"]) == ("/api/echo/x", "/api/echo/x")
    assert seen["root_path"] == "/api"


@pytest.mark.parametrize("target", ["/echo/x", "/api/echo/x"])
def test_behind_a_prefix_that_is_cut_off(make: Make, target: str) -> None:
    """Servers and old Starlette that cut the prefix off the path get calls in the same form."""
    answer = asked(make().app, call("GET", target), root_path="/api")
    assert echoed(answer)["path"] == "/echo/x"


def test_mounted_below_an_app(make: Make) -> None:
    """Below a Mount calls start at the app that holds it, with the URLs that clients know."""
    made = make("mounted")
    batch = "/api/v1/api/batch"
    seen = echoed(asked(made.app, call("GET", "/api/echo/x"), path=batch))
    assert (seen["path"], seen["root_path"]) == ("/api/echo/x", "/api")
    assert asked(made.app, call("GET", "/echo/x"), path=batch).statuses == [404]


# Tasks, and the event loop.


def test_each_call_has_a_task_of_its_own() -> None:
    """Neither another call's nor the batch's, also where no call ever waits."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(asyncio.current_task())
        await send(START)
        await send(END)

    async def main() -> None:
        dispatcher = Dispatcher(Target(app, "", True), scope_of("/", ()), Limits())
        for _ in range(2):
            await dispatcher.perform(call("GET", "/"))
        seen.append(asyncio.current_task())

    asyncio.run(main())
    assert len({id(task) for task in seen}) == 3
    assert None not in seen


def test_cancelling_a_call_that_is_over() -> None:
    """Who has kept the task of an earlier call and cancels it late does no harm to the next."""
    kept: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for task in kept:
            task.cancel()
        kept.append(asyncio.current_task())
        await asyncio.sleep(0)
        await send(START)
        await send(END)

    answer = asked(AtomicBatch(app, transaction=Nothing()), *[call("GET", "/")] * 3)
    assert answer.outcome == "committed"


def test_a_handler_that_cancels_its_task() -> None:
    """It fails its call, also where it waits no more; the batch goes on to its rollback."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if scope["path"] == "/waits":
            await asyncio.sleep(0)
        await send(START)
        await send(END)

    batches = AtomicBatch(app, transaction=Nothing())
    for path in ("/waits", "/ends"):
        assert asked(batches, call("GET", path)).outcome == "rolled-back; failed=1; status=500"


def test_a_task_that_a_call_leaves_behind() -> None:
    """It goes on in its call's context, while later calls have theirs."""
    word: ContextVar[str] = ContextVar("word", default="none")
    seen: list[str] = []
    left_behind: list[asyncio.Task[None]] = []

    async def listen() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append(word.get())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert word.get() == "none"
        word.set(scope["path"])
        if scope["path"] == "/1":
            left_behind.append(asyncio.create_task(listen()))
        await asyncio.sleep(0)
        await send(START)
        await send(END)

    async def main() -> None:
        dispatcher = Dispatcher(Target(app, "", True), scope_of("/", ()), Limits())
        for number in (1, 2, 3):
            await dispatcher.perform(call("GET", f"/{number}"))
        await left_behind[0]

    asyncio.run(main())
    assert seen == ["/1"] * 5


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after half a millisecond's work; wait for nothing."""
    until = time.monotonic() + 0.0005
    while time.monotonic() < until:
        pass
    await send(START)
    await send(END)


def test_calls_that_never_wait_let_others_run() -> None:
    """A batch of them does not keep the event loop for itself."""
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    async def main() -> None:
        counting = asyncio.create_task(count())
        dispatcher = Dispatcher(Target(busy, "", True), scope_of("/", ()), Limits())
        for _ in range(100):
            await dispatcher.perform(call("GET", "/"))
        counting.cancel()

    asyncio.run(main())
    assert rounds >= 20


def test_a_client_that_hangs_up_on_calls_that_never_wait() -> None:
    """It is noticed between two calls, and the batch is undone."""
    performed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        performed.append(scope["path"])
        if len(performed) == 10:
            request.hang_up()
        await busy(scope, receive, send)

    async def main() -> None:
        headers = ((b"content-type", content_type),)
        batches = AtomicBatch(app, transaction=transaction)
        await batches(scope_of("/v1/api/batch", headers), request.receive, request.send)

    content_type, body = write_batch([call("GET", "/")] * 500)
    request, transaction = Request([body]), Nothing()
    asyncio.run(main())
    assert request.sent == []
    assert 10 <= len(performed) < 500


# What becomes of what the app sends.


def test_a_path_is_read_all_the_same() -> None:
    """An app that sends a path without having been offered it has its file read."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(b"content")
        message = {"type": "http.response.pathsend", "path": file.name}
        assert perform(sending(START, message)).body == b"content"
        with pytest.raises(Exception, match="at most 3 bytes"):
            perform(sending(START, message), limits=Limits(max_reply_bytes=3))


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.start", "status": 103, "headers": []},
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"type": "http.response.debug", "info": {}},
    ],
)
def test_interim_messages_are_dropped(message: Message) -> None:
    """1xx and messages of extensions before the response change nothing (SPEC 4.1)."""
    assert perform(sending(message, START, {**END, "body": b"ok"})).body == b"ok"


def test_trailers_are_dropped() -> None:
    """Trailers have no place in a part."""
    trailers = {"type": "http.response.trailers", "headers": [(b"x", b"y")]}
    reply = perform(sending({**START, "trailers": True}, {**END, "body": b"ok"}, trailers))
    assert (reply.status, reply.headers, reply.body) == (200, (), b"ok")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_buffer_that_is_used_again(kind: Callable[[bytearray], Any]) -> None:
    """A reply holds the bytes that were sent, even if the app has changed its buffer since."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        buffer = bytearray(4)
        for letter in (b"A", b"B"):
            buffer[:] = letter * 4
            chunk = buffer if kind is bytearray else kind(buffer)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send(END)

    assert perform(app).body == b"AAAABBBB"


def test_header_names_are_lower_case() -> None:
    """Names come out in lower case, whatever the app wrote, and as bytes."""
    start = {**START, "headers": [[bytearray(b"X-Own"), memoryview(b"V")]]}
    assert perform(sending(start, END)).headers == ((b"x-own", b"V"),)


# Failures.


def failure_of(app: App, **options: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        perform(app, **options)
    return caught.value


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([], "gave no reply"),
        ([START], "broke off"),
        ([START, {**END, "body": b"x", "more_body": True}], "broke off"),
        ([{**START, "headers": [(b"content-length", b"5")]}, {**END, "body": b"abc"}], "broke off"),
        ([END], "exception"),
        ([START, START], "exception"),
        ([START, END, END], "exception"),
        ([START, {"type": "http.response.zerocopysend"}], "exception"),
        ([START, {"type": "websocket.send"}], "exception"),
        ([{**START, "headers": [(b"x", b"a\r\nb: c")]}, END], "invalid header"),
        ([{**START, "headers": [(b"x y", b"a")]}, END], "invalid header"),
        ([{**START, "status": 1000, "headers": [(b"x", b"a")]}, END], "invalid header"),
    ],
)
def test_incomplete_replies_fail(messages: list[Message], detail: str) -> None:
    """No start, no final body, less than Content-Length says, or nonsense: the call fails."""
    error = failure_of(sending(*messages))
    assert detail in str(error)
    assert getattr(error, "status", None) == 500


def test_an_exception_after_an_error_page() -> None:
    """An error page that is complete is kept: the app's outermost middleware raises after it."""
    page = {**END, "body": b"sorry"}
    reply = perform(sending({**START, "status": 503}, page, error=RuntimeError("x")))
    assert (reply.status, reply.body) == (503, b"sorry")


def test_switching_protocols_fails() -> None:
    """101 cannot be part of a batch (SPEC 4.1)."""
    reply = perform(sending({**START, "status": 101}, END))
    assert reply.status == 400
    assert b"not-batchable" in reply.body


def test_an_error_of_the_transaction_comes_through() -> None:
    """A conflict that the app lets through outranks the error page it was shown with."""
    conflict = ConflictError("in the way")
    assert failure_of(sending({**START, "status": 500}, END, error=conflict)) is conflict


def test_who_listens_on_is_told_of_the_end() -> None:
    """A task left behind in receive() hears a disconnect when the call is over."""
    happened: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            happened.append((await receive())["type"])

        await listen()
        left_behind.append(asyncio.create_task(listen()))
        await asyncio.sleep(0)

    left_behind: list[asyncio.Task[None]] = []

    async def main() -> None:
        dispatcher = Dispatcher(Target(app, "", True), scope_of("/", ()), Limits())
        with pytest.raises(AtomicBatchError):
            await dispatcher.perform(call("GET", "/"))
        await left_behind[0]

    asyncio.run(asyncio.wait_for(main(), 5))
    assert happened == ["http.request", "http.disconnect"]


def test_a_handler_that_cancels_itself() -> None:
    """A handler that ends by a cancellation of its own making is a failed call, no hang-up."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    error = failure_of(app)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert getattr(error, "status", None) == 500


def test_an_app_that_swallows_the_limit_fails_all_the_same() -> None:
    """An app that goes on after send has raised cannot make its reply a success."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await send({**END, "body": bytes(10), "more_body": True})
        except Exception:
            await send(END)

    assert getattr(failure_of(app, limits=Limits(max_reply_bytes=5)), "status", None) == 413
