"""Reply headers: one that was seen before is read as it would be alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atomicbatch import Header
from atomicbatch.exchange import ReplyHeaders, reply_headers
from atomicbatch.model import Headers, Reply
from atomicbatch.wire.reply import is_writable


def read(name: Any, value: Any) -> Header:
    return bytes(name).lower(), bytes(value)


def alone(headers: list[Any]) -> tuple[Headers, bool]:
    """Read headers without any memory."""
    ours = tuple(read(name, value) for name, value in headers)
    return ours, is_writable(Reply(200, ours, b""))


text = st.sampled_from([b"X-A", b"x-a", b"x-b", b"a b", b"", b"v", b"v\r\nw: x", b"\xe9", b"\0"])
header = st.one_of(
    st.tuples(text, text),
    st.tuples(text, text).map(list),
    st.tuples(text.map(bytearray), text.map(lambda value: memoryview(value))),
    st.tuples(text.map(lambda value: memoryview(bytearray(value))), text),
)


@example([[(b"a b", b"v")], [(b"a b", b"v")]])
@example([[(b"x", b"v\r\nw: x")], [(b"x", b"v\r\nw: x")]])
@given(st.lists(st.lists(header, max_size=4), max_size=8))
def test_what_was_seen_before_changes_nothing(batches: list[list[Any]]) -> None:
    """The headers, and whether they can be sent, are those of reading each reply alone."""
    remembering = ReplyHeaders(read, bytes)
    for headers in batches:
        assert remembering.read(iter(headers)) == alone(headers)


def test_a_buffer_that_is_used_again() -> None:
    """What may change is not remembered by what it was."""
    remembering, buffer = ReplyHeaders(read, bytes), bytearray(b"A")
    assert remembering.read([(b"x", buffer)]) == (((b"x", b"A"),), True)
    buffer[:] = b"B"
    assert remembering.read([(b"x", buffer)]) == (((b"x", b"B"),), True)
    assert remembering.read([(b"x", memoryview(buffer))]) == (((b"x", b"B"),), True)


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that sends another header with each reply does not fill the memory."""
    monkeypatch.setattr(reply_headers, "_MOST_KEPT", 10)
    remembering = ReplyHeaders(read, bytes)
    for number in range(100):
        remembering.read([(b"x", b"%d" % number)])
    assert len(remembering._known) <= 10


def test_what_is_no_pair_is_refused() -> None:
    """As by a server."""
    with pytest.raises(ValueError, match="unpack"):
        ReplyHeaders(read, bytes).read([(b"x",)])
