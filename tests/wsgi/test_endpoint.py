"""Endpoint: the body is read in bounds, and what waits for the response to be sent waits."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from atomicbatch import AtomicBatchError, EndpointLimits, LimitError, Limits
from atomicbatch.exchange import Held, Holding, Response
from atomicbatch.wsgi.endpoint import Sending, read_body, send
from tests.wsgi.asking import environ_of, serve


class Input(io.BytesIO):
    """A body as servers give it: in pieces of their choice, and counted."""

    def __init__(self, body: bytes, piece: int = 7, after_read: Callable[[], object] = int) -> None:
        super().__init__(body)
        self.piece = piece
        self.after_read = after_read
        self.asked = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size > 0, "a server may wait for ever for the end of the connection"
        self.asked += size
        self.after_read()
        return super().read(min(size, self.piece))


def environ(body: bytes, **more: Any) -> dict[str, Any]:
    return environ_of("/", (), body) | {"wsgi.input": Input(body)} | more


CHUNKED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, b"twenty bytes of body"),
        ({"CONTENT_LENGTH": "6"}, b"twenty"),
        ({"CONTENT_LENGTH": "6", "wsgi.input_terminated": True}, b"twenty"),
        # PEP 3333: without a length there is no body, and reading might wait for ever.
        ({"CONTENT_LENGTH": ""}, b""),
        ({"CONTENT_LENGTH": "0"}, b""),
        # gunicorn, waitress and werkzeug end the input where the body ends.
        ({**CHUNKED, "wsgi.input_terminated": True}, b"twenty bytes of body"),
        (
            {**CHUNKED, "CONTENT_LENGTH": "6", "wsgi.input_terminated": True},
            b"twenty bytes of body",
        ),
    ],
)
def test_where_a_body_ends(more: dict[str, Any], expected: bytes) -> None:
    """At its length, or where the server says that its input ends."""
    assert read_body(environ(b"twenty bytes of body", **more), Limits()) == expected


def test_a_length_may_be_missing_altogether() -> None:
    """CGI leaves the variable out."""
    without = environ(b"x")
    del without["CONTENT_LENGTH"]
    assert read_body(without, Limits()) == b""


@pytest.mark.parametrize(
    ("more", "status", "why"),
    [
        ({"CONTENT_LENGTH": "21"}, 400, "ended before its Content-Length"),
        ({"CONTENT_LENGTH": "-1"}, 400, "no number"),
        ({"CONTENT_LENGTH": "1_0"}, 400, "no number"),
        ({"CONTENT_LENGTH": "\u0663"}, 400, "no number"),
        (CHUNKED, 411, "needs a Content-Length"),
    ],
)
def test_bodies_whose_end_nobody_knows(more: dict[str, Any], status: int, why: str) -> None:
    """A batch that was cut off is not run, and neither is one that may have been."""
    with pytest.raises(AtomicBatchError, match=why) as caught:
        read_body(environ(b"twenty bytes of body", **more), Limits())
    assert caught.value.status == status


def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    """Reading stops with the piece that passes the limit, also where no length was told."""
    sent = environ(bytes(1000), **CHUNKED, **{"wsgi.input_terminated": True})
    with pytest.raises(LimitError):
        read_body(sent, Limits(max_body_bytes=20))
    assert sent["wsgi.input"].tell() == 21


def test_bytes_are_counted_as_they_come() -> None:
    """All batches together are bounded while they arrive."""
    holding = Holding(EndpointLimits(max_held_bytes=20))
    with pytest.raises(LimitError) as caught:
        read_body(environ(bytes(50)), Limits(), Held(holding))
    assert (caught.value.limit, caught.value.status) == ("max_held_bytes", 503)


def test_a_body_that_never_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that trickles in for longer than the time limit is refused: 408."""
    now = 0.0

    def tick() -> None:
        nonlocal now
        now += 0.02

    monkeypatch.setattr("atomicbatch.wsgi.endpoint.time.monotonic", lambda: now)
    sent = environ(bytes(1000)) | {"wsgi.input": Input(bytes(1000), 1, tick)}
    with pytest.raises(AtomicBatchError, match="too long to arrive") as caught:
        read_body(sent, Limits(timeout_seconds=0.1))
    assert caught.value.status == 408
    assert sent["wsgi.input"].tell() == 6


# Sending -----------------------------------------------------------------------------------------

OK = Response(200, ((b"content-type", b"text/plain"), (b"content-length", b"4")), b"body")


def test_a_response_as_servers_take_it() -> None:
    """Status with its reason, headers as text, the body in one piece; HEAD without it."""
    sent: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        return send(OK, environ, start_response, lambda: sent.append("sent"))

    served = serve(app, environ_of("/"))
    assert served.status == "200 OK"
    assert served.headers == [("Content-Type", "text/plain"), ("Content-Length", "4")]
    assert (served.pieces, sent) == ([b"body"], ["sent"])
    assert b"".join(serve(app, environ_of("/", method="HEAD")).pieces) == b""


def test_what_waits_for_the_response() -> None:
    """It is done once: at the end, when the server closes the response early, or drops it."""
    sent: list[str] = []

    def when_sent() -> None:
        sent.append("sent")

    sending = Sending(b"x", when_sent)
    assert next(sending) == b"x"
    assert sent == []
    assert list(sending) == []
    sending.close()
    assert sent == ["sent"]
    Sending(b"x", when_sent).close()
    assert sent == ["sent"] * 2
    sending = Sending(b"x", when_sent)
    del sending
    assert sent == ["sent"] * 3


def test_a_server_that_cannot_start_the_response() -> None:
    """What is stored is stored: what waits is done although nobody will read the response."""
    sent: list[str] = []

    def start_response(*_: Any) -> Any:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        send(OK, environ_of("/"), start_response, lambda: sent.append("sent"))
    assert sent == ["sent"]
