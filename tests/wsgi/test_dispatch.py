"""
Dispatch: a call reaches the app as a request of its own would (SPEC 1.5); PEP 3333 towards it.

What holds of every dispatcher is in tests/endpoints/dispatch_contract.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from atomicbatch import AtomicBatchError, ConflictError, Limits, Reply
from atomicbatch.wsgi.dispatch import Dispatcher
from tests.endpoints.dispatch_contract import *  # noqa: F403
from tests.wsgi.asking import call, environ_of
from tests.wsgi.conftest import Make

PLAIN = [("Content-Type", "text/plain")]


def perform(app: Any, method: str = "GET", limits: Limits | None = None) -> Reply:
    """Perform one call on a bare WSGI app."""
    return Dispatcher(app, environ_of("/"), limits or Limits()).perform(call(method, "/"))


def failure_of(app: Any, **options: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        perform(app, **options)
    return caught.value


class Pieces:
    """An iterable with a close(), which counts."""

    def __init__(self, *pieces: Any, error: BaseException | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


def answering(pieces: Iterable[Any], status: str = "200 OK", headers: Any = ()) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[Any]:
        start_response(status, list(headers))
        return pieces

    return app


# Good apps.


def test_pieces_are_put_together() -> None:
    """A response of unknown length, empty pieces among it, is what its pieces are together."""
    pieces = Pieces(b"", b"ab", b"", b"cd")
    reply = perform(answering(pieces, headers=[*PLAIN, ("X-A", "1"), ("X-A", "2")]))
    assert (reply.status, reply.body, pieces.closed) == (200, b"abcd", 1)
    assert reply.headers == ((b"content-type", b"text/plain"), (b"x-a", b"1"), (b"x-a", b"2"))


def test_what_is_written_comes_first() -> None:
    """write() is for old apps; what they return follows."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"wri")
        write(b"tten, ")
        return [b"returned"]

    assert perform(app).body == b"written, returned"


def test_a_response_that_starts_late() -> None:
    """A generator calls start_response when its first piece is asked for."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", PLAIN)
        yield b"late"

    assert perform(app) == Reply(201, ((b"content-type", b"text/plain"),), b"late")


def test_an_error_page_in_place_of_a_response() -> None:
    """With exc_info the head is replaced, as long as nothing of the body has been sent."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [("X-Own", "v")], sys.exc_info())
        return [b"page"]

    assert perform(app) == Reply(503, ((b"x-own", b"v"),), b"page")


def test_an_error_page_that_comes_too_late() -> None:
    """Once a piece was sent the exception is raised again, and fails the call."""
    happened: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"some"
        try:
            raise ValueError("torn")
        except ValueError:
            try:
                start_response("500 Oops", [], sys.exc_info())
            except ValueError:
                happened.append("raised again")
                raise
        yield b"page"

    error = failure_of(app)
    assert isinstance(error.__cause__, ValueError)
    assert happened == ["raised again"]


def test_no_body() -> None:
    """204 without a piece is complete, and so is HEAD with a length and without a body."""
    assert perform(answering([], "204 No Content")) == Reply(204, (), b"")
    head = answering([b"ignored"], headers=[("Content-Length", "500")])
    assert perform(head, "HEAD").body == b""


def test_values_are_bytes_in_disguise() -> None:
    """A header's characters are its bytes (PEP 3333)."""
    assert perform(answering([], headers=[("X-Name", "\xc3\xa9")])).headers == (
        (b"x-name", b"\xc3\xa9"),
    )


# What the app sees.


def test_the_environ_is_a_fresh_one(make: Make) -> None:
    """A call has what a request has; what belongs to the outer one or to its server is left out."""
    outer: dict[str, Any] = {
        "beaker.session": {"user": 1},
        "werkzeug.request": object(),
        "flask.x": 1,
    }
    seen = make().ask(call("GET", "/echo"), REMOTE_USER="ada", SSL_PROTOCOL="TLSv1.3", **outer)
    assert seen.outcome == "committed"
    assert set(seen.echoed["keys"]) - {"werkzeug.request"} == {
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI"),
        *("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE"),
        *("REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "SSL_PROTOCOL", "HTTP_HOST"),
        *("wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors", "wsgi.multithread"),
        *("wsgi.multiprocess", "wsgi.run_once", "wsgi.input_terminated"),
    }


def test_repeated_headers_of_a_call_are_joined(make: Make) -> None:
    """As servers do: by commas, cookies by semicolons."""
    headers = [(b"X-A", b"1"), (b"X-A", b"2"), (b"Cookie", b"a=1"), (b"Cookie", b"b=2")]
    seen = make().ask(call("GET", "/echo", headers=headers)).echoed["headers"]
    assert ["x-a", "1,2"] in seen
    assert ["cookie", "a=1; b=2"] in seen


def test_underscores_cannot_pass_for_hyphens(make: Make) -> None:
    """WSGI has one name for X_Tenant and X-Tenant: a call cannot send one for the other."""
    made = make()
    one = call("GET", "/echo", headers=[(b"X_Tenant", b"forged")])
    seen = made.ask(one, headers=((b"x-tenant", b"real"),)).echoed["headers"]
    assert [value for name, value in seen if name == "x-tenant"] == ["real"]


def test_outside_of_the_mount(make: Make) -> None:
    """A path that the app would never get is no other app's either: 404, and nothing is stored."""
    made = make("mounted")
    answer = made.ask(call("POST", "/api/items", b"pen"), call("GET", "/items"))
    assert answer.outcome == "rolled-back; failed=2; status=404"
    assert b"outside of the prefix" in answer.replies[1].body
    assert made.ask(call("GET", "/apiary/items")).statuses == [404]
    assert made.rows() == []


# Failures.


def starting_twice(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b"x"]


def never_starting(environ: Any, start_response: Any) -> list[bytes]:
    return []


def body_first(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b"x"
    start_response("200 OK", PLAIN)


def nothing(environ: Any, start_response: Any) -> None:
    start_response("200 OK", PLAIN)


@pytest.mark.parametrize(
    ("app", "detail"),
    [
        (never_starting, "gave no reply"),
        (starting_twice, "exception"),
        (body_first, "exception"),
        (nothing, "exception"),
        (answering(["text"]), "exception"),
        (answering([bytearray(b"x")]), "exception"),
        (answering([], "OK"), "exception"),
        (answering([], "2000 OK"), "exception"),
        (answering([], b"200 OK"), "exception"),  # type: ignore[arg-type]
        (answering([], headers=[("X-A", 1)]), "exception"),
        (answering([], headers=[("X-A", "\u2603")]), "exception"),
        (answering([], headers=[("X A", "1")]), "invalid header"),
        (answering([], headers=[("X-A", "1\r\nX-B: 2")]), "invalid header"),
        (answering([b"abc"], headers=[("Content-Length", "5")]), "broke off"),
        (answering([], "100 Continue"), "invalid header"),
    ],
)
def test_bad_apps_fail_their_call(app: Any, detail: str) -> None:
    """What a server would answer 500 to, or break off, fails the call: 500."""
    error = failure_of(app)
    assert detail in str(error)
    assert getattr(error, "status", None) == 500


@pytest.mark.parametrize("kind", [RuntimeError, StopIteration, GeneratorExit, SystemExit])
def test_the_iterable_is_closed_whatever_happens(kind: type[BaseException]) -> None:
    """Once, also after an exception in the middle. SystemExit and the like go on to the server."""
    pieces = Pieces(b"some", error=kind("torn"))
    expected = AtomicBatchError if issubclass(kind, Exception) else kind
    with pytest.raises(expected):
        perform(answering(pieces))
    assert pieces.closed == 1


def test_a_close_that_fails() -> None:
    """A session that commits when the response is closed may fail then: no success."""

    class Failing(Pieces):
        def close(self) -> None:
            raise RuntimeError("COMMIT failed")

    error = failure_of(answering(Failing(b"fine"), "201 Created"))
    assert getattr(error, "status", None) == 500
    # An error page that was whole is an answer all the same.
    assert perform(answering(Failing(b"sorry"), "503 Sorry")).status == 503


def test_an_error_of_the_transaction_comes_through() -> None:
    """A conflict that the app lets through outranks everything else."""
    conflict = ConflictError("in the way")
    assert failure_of(answering(Pieces(b"x", error=conflict))) is conflict


def swallowing(act: Callable[[Any], object]) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        for _ in range(3):
            try:
                act(write)
            except Exception:
                continue
        return []

    return app


def test_an_app_that_swallows_the_limit_fails_all_the_same() -> None:
    """An app that goes on after write() has raised cannot make its reply a success."""
    app = swallowing(lambda write: write(bytes(10)))
    assert getattr(failure_of(app, limits=Limits(max_reply_bytes=5)), "status", None) == 413
