"""Environ: what a call's environ has, that it is the call's own, and what it remembers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch import Call
from atomicbatch.wsgi import environ as module
from atomicbatch.wsgi.environ import CallEnvirons
from tests.wsgi.asking import environ_of

OUTER: dict[str, Any] = environ_of("/batch") | {
    "RAW_URI": "/batch",
    "HTTP_X_OUTER": "1",
    "CONTENT_TYPE": "multipart/mixed",
    "gunicorn.socket": object(),
}

names = st.sampled_from([b"host", b"x-a", b"x_a", b"cookie", b"content-type", b"content-length"])
values = st.sampled_from([b"1", b"2", b"a=1", b"\xe9"])
headers = st.lists(st.tuples(names, values), max_size=5).map(tuple)
paths = st.sampled_from([b"/a", b"/a%20b", b"/%C3%A9", b"/\xc3\xa9", b"/shop/a", b"/shop"])
queries = st.sampled_from([b"", b"q=1"])
calls = st.builds(Call, st.just("GET"), paths, queries, headers, st.just(b""))


def plain(environ: Any) -> Any:
    """An environ without what is another object each time."""
    return None if environ is None else {**environ, "wsgi.input": environ["wsgi.input"].getvalue()}


@pytest.mark.parametrize("script", ["", "/shop"])
@given(st.lists(calls, max_size=6))
def test_earlier_calls_change_nothing(script: str, batch: list[Call]) -> None:
    """The environ of a call is the one that it has as the only call of its batch."""
    outer = OUTER | {"SCRIPT_NAME": script}
    environs = CallEnvirons(outer)
    for call in batch:
        environ = environs.environ(call)
        assert plain(environ) == plain(CallEnvirons(outer).environ(call))
        if environ is not None:
            environ.clear()


def test_names_and_values() -> None:
    """Headers of one name are joined, the outer request's are not there, text is bytes."""
    call = Call(
        "PUT",
        b"/a%20b",
        b"q=%20",
        ((b"x-a", b"1"), (b"cookie", b"a=1"), (b"x_a", b"\xe9"), (b"cookie", b"b=2")),
        b"body",
    )
    environ = CallEnvirons(OUTER).environ(call)
    assert environ is not None
    assert (environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == ("1,\xe9", "a=1; b=2")
    assert (environ["PATH_INFO"], environ["RAW_URI"]) == ("/a b", "/a%20b?q=%20")
    assert (environ["REQUEST_METHOD"], environ["QUERY_STRING"]) == ("PUT", "q=%20")
    assert environ["wsgi.input"].read() == b"body"
    assert environ["wsgi.input_terminated"] is True
    assert not {"HTTP_X_OUTER", "CONTENT_TYPE", "gunicorn.socket"} & environ.keys()


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that each have other headers do not fill the memory."""
    monkeypatch.setattr(module, "_MOST_KEPT", 10)
    environs = CallEnvirons(OUTER)
    for number in range(50):
        environs.environ(Call("GET", b"/", b"", ((b"x", b"%d" % number),), b""))
    assert len(environs._known) <= 10
