"""
Dispatch: a call reaches the app as a request of its own would (SPEC 1.5).

What holds of every dispatcher is in tests/endpoints/dispatch_contract.py.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomicbatch import AtomicBatchError, Call, ConflictError, Limits
from atomicbatch.asgi.dispatch import Dispatcher, Target
from atomicbatch.asgi.types import App, Message, Receive, Scope, Send
from tests.asgi.asking import Answer, ask, call, scope_of
from tests.asgi.conftest import Make
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


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        (Target(sending(), "", True), b"/a", b"/a"),
        (Target(sending(), "/api", True), b"/apia", b"/api/apia"),
        (Target(sending(), "/api", True), b"/api", b"/api"),
        (Target(sending(), "/api", False), b"/api", b"/"),
        (Target(sending(), "/api", False), b"/apia", b"/apia"),
        (Target(sending(), "/a b", True), b"/a%20b/c", b"/a%20b/c"),
        (Target(sending(), "/a b", True), b"/c", b"/a%20b/c"),
    ],
)
def test_path_of(target: Target, path: bytes, expected: bytes) -> None:
    """A prefix ends at a slash, and is compared as it is written in a URL."""
    assert target.path_of(Call("GET", path, b"", (), b"")) == expected


def test_mounted_below_an_app(make: Make) -> None:
    """Below a Mount calls start at the app that holds it, with the URLs that clients know."""
    made = make("mounted")
    batch = "/api/v1/api/batch"
    seen = echoed(asked(made.app, call("GET", "/api/echo/x"), path=batch))
    assert (seen["path"], seen["root_path"]) == ("/api/echo/x", "/api")
    assert asked(made.app, call("GET", "/echo/x"), path=batch).statuses == [404]


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
