"""
The contract of every dispatcher: a call reaches the app as a request of its own would (SPEC 1.5).

The test files of ``asgi/dispatch.py`` and ``wsgi/dispatch.py`` import these tests; the fixture
``make`` of their folders gives the shop behind such an endpoint.
"""

from __future__ import annotations

import json

import pytest

from atomicbatch import Limits
from atomicbatch.engine import Replay
from tests.endpoints.asking import Make, asked, call

__all__ = [
    "test_a_stream_that_breaks_off",
    "test_an_endless_stream_is_cut_off",
    "test_an_exception_after_a_success",
    "test_behind_a_prefix",
    "test_body_and_method",
    "test_connection_and_scheme_are_the_outer_ones",
    "test_files_come_with_their_bytes",
    "test_head",
    "test_one_calls_context_does_not_show_in_the_next",
    "test_paths_are_decoded",
    "test_redirects_are_answers",
    "test_repeated_headers_are_kept",
    "test_replies_without_a_body",
    "test_streams_are_not_cut_short",
    "test_switching_protocols",
    "test_the_limit_is_for_all_replies_together",
    "test_the_limit_is_for_each_attempt",
]


def test_connection_and_scheme_are_the_outer_ones(make: Make) -> None:
    """Scheme, host, client and server come from the outer request (SPEC 3.3)."""
    forged = [(b"Host", b"evil.example"), (b"X-Forwarded-Proto", b"http")]
    seen = make().ask(call("GET", "/echo?a=1&b=%20", headers=forged)).echoed
    assert seen["scheme"] == "https"
    assert seen["client"] == ["192.0.2.7", 4711]
    assert seen["server"] == ["shop.example", 443]
    assert seen["url"] == "https://shop.example/echo?a=1&b=%20"
    assert seen["query"] == "a=1&b=%20"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/echo/a%20b", "/echo/a b"),
        ("/echo/%C3%A9", "/echo/é"),
        ("/echo/a%2Fb", "/echo/a/b"),
        ("/echo/%FF", "/echo/\ufffd"),
        ("/echo/a+b;c=d", "/echo/a+b;c=d"),
    ],
)
def test_paths_are_decoded(make: Make, target: str, path: str) -> None:
    """The app sees the path decoded as servers decode it, and as it was sent."""
    seen = make().ask(call("GET", target)).echoed
    assert (seen["path"], seen["raw_path"]) == (path, target)


def test_body_and_method(make: Make) -> None:
    """Any method, any body: with its true length."""
    seen = make().ask(call("BREW", "/echo", b"tea\xff")).echoed
    assert (seen["method"], seen["body"]) == ("BREW", "tea\xff")
    assert ["content-length", "4"] in seen["headers"]


def test_one_calls_context_does_not_show_in_the_next(make: Make) -> None:
    """Context variables and the framework's request state that a call sets are gone in the next."""
    answer = asked(make(), "GET /word?set=a", "GET /word")
    assert [json.loads(reply.body) for reply in answer.replies] == [["none", "none"]] * 2


def test_streams_are_not_cut_short(make: Make) -> None:
    """A stream that writes while it is sent is part of its call, to its end."""
    made = make()
    answer = asked(made, "GET /stream")
    assert answer.replies[0].body == b"chunk0;chunk1;chunk2;"
    assert made.rows() == ["streamed-0", "streamed-1", "streamed-2"]


def test_behind_a_prefix(make: Make) -> None:
    """Where a server has set a prefix, calls are written as other requests are."""
    made = make()
    answer = made.ask(call("GET", "/api/echo/x"), path="/api/v1/api/batch", root_path="/api")
    seen = answer.echoed
    assert (seen["root_path"], seen["url"]) == ("/api", "https://shop.example/api/echo/x")


def test_repeated_headers_are_kept(make: Make) -> None:
    """Two Set-Cookie headers stay two."""
    reply = asked(make(), "GET /answer?status=200&Set-Cookie=a&Set-Cookie=b").replies[0]
    assert [value for name, value in reply.headers if name == b"set-cookie"] == [b"a", b"b"]


@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body(make: Make, status: int) -> None:
    """204 and 304 are complete without a body, and are success."""
    answer = asked(make(), f"GET /answer?status={status}")
    assert (answer.outcome, answer.statuses) == ("committed", [status])
    assert answer.replies[0].body == b""


def test_head(make: Make) -> None:
    """HEAD answers with headers alone, however long the body would have been."""
    answer = asked(make(limits=Limits(max_reply_bytes=10)), "HEAD /file")
    assert (answer.outcome, answer.replies[0].body) == ("committed", b"")


def test_redirects_are_answers(make: Make) -> None:
    """A redirect is handed on, not followed, and is success (SPEC 4.1)."""
    answer = asked(make(), "GET /redirect")
    assert (answer.outcome, answer.statuses) == ("committed", [307])
    assert dict(answer.replies[0].headers)[b"location"] == b"/items"


def test_files_come_with_their_bytes(make: Make) -> None:
    """A file is sent as bytes, since no server is there that could send it by its path."""
    assert b"class Shop:" in asked(make(), "GET /file").replies[0].body


def test_an_exception_after_a_success(make: Make) -> None:
    """A reply that was complete with 201 counts for nothing when the app raises afterwards."""
    made = make()
    assert asked(made, "GET /late").outcome == "rolled-back; failed=1; status=500"
    assert made.rows() == []


def test_a_stream_that_breaks_off(make: Make) -> None:
    """A body that breaks off fails the call, although its status was 200 (SPEC 4.1)."""
    made = make()
    answer = asked(made, "GET /stream?break=1")
    assert answer.outcome == "rolled-back; failed=1; status=500"
    assert b"torn" not in answer.body
    assert made.rows() == []


def test_switching_protocols(make: Make) -> None:
    """101 cannot be part of a batch (SPEC 4.1)."""
    answer = asked(make(), "GET /answer?status=101")
    assert answer.outcome == "rolled-back; failed=1; status=400"
    assert b"not-batchable" in answer.replies[0].body


def test_an_endless_stream_is_cut_off(make: Make) -> None:
    """A stream without end stops within one chunk of the limit, and its clean-up runs."""
    made = make(limits=Limits(max_reply_bytes=5_500))
    answer = asked(made, "GET /answer?status=200", "GET /endless")
    assert answer.outcome == "rolled-back; failed=2; status=413"
    document = json.loads(answer.replies[1].body)
    assert (document["limit"], document["maximum"]) == ("max_reply_bytes", 5_500)
    assert made.log == ["chunk"] * 6 + ["stopped"]
    assert made.rows() == []


def test_the_limit_is_for_all_replies_together(make: Make) -> None:
    """Replies that fit each by itself are refused when they do not fit together."""
    target = "GET /answer?status=200&body=" + "x" * 60
    made = make(limits=Limits(max_reply_bytes=150))
    assert asked(made, target, target).outcome == "committed"
    assert asked(made, target, target, target).outcome == "rolled-back; failed=3; status=413"


def test_the_limit_is_for_each_attempt(make: Make) -> None:
    """What an attempt that met a conflict has sent does not count in the next."""
    made = make(conflicts=2, limits=Limits(max_reply_bytes=100), replay=Replay(base_seconds=0))
    answer = asked(made, "GET /answer?status=200&body=" + "x" * 60)
    assert (answer.outcome, answer.headers["batch-attempts"]) == ("committed", "3")
