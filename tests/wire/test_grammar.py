"""Header lines and the empty line that ends them."""

from __future__ import annotations

import pytest

from atomicbatch.errors import MalformedError
from atomicbatch.model import Header, Headers
from atomicbatch.wire.grammar import (
    find_empty_line,
    is_token,
    is_value,
    read_fields,
    skip_empty_lines,
    unfold,
    write_name,
)
from atomicbatch.wire.memo import Memo


@pytest.mark.parametrize(
    ("content", "block", "rest"),
    [
        (b"a: b\r\n\r\nx", b"a: b\r", b"x"),
        (b"a: b\n\nx", b"a: b", b"x"),
        (b"a: b\n\r\nx", b"a: b", b"x"),
        (b"a: b\r\n\nx", b"a: b\r", b"x"),
        (b"a: b\r\nc: d\r\n\r\nx\n\ny", b"a: b\r\nc: d\r", b"x\n\ny"),
        (b"a: b\n\nx\r\n\r\ny", b"a: b", b"x\r\n\r\ny"),
        (b"a: b\r\n\r\n", b"a: b\r", b""),
        (b"a: b\r\n", b"a: b\r", None),
        (b"a: b\n", b"a: b", None),
        (b"a: b", b"a: b", None),
        (b"a: b\r\r\n\r\nx", b"a: b\r\r", b"x"),
        (b"a: b\n\r\r\nx", b"a: b\n\r\r\nx", None),
        (b"", b"", None),
    ],
)
def test_find_empty_line(content: bytes, block: bytes, rest: bytes | None) -> None:
    """The first empty line ends the block, in CRLF or LF, wherever the block starts."""
    for before in (b"", b"z\n\nz"):
        end, start = find_empty_line(before + content, len(before))
        assert (before + content)[len(before) : end] == block
        assert (None if start < 0 else (before + content)[start:]) == rest


def test_a_bare_cr_ends_no_block() -> None:
    """A block that breaks off in a bare CR is refused: it would pass for the CR of a CRLF."""
    with pytest.raises(MalformedError) as caught:
        find_empty_line(b"a: b\r", 0)
    assert caught.value.offset == 4


@pytest.mark.parametrize(
    ("content", "end"),
    [(b"x", 0), (b"\r\nx", 2), (b"\n\r\n\nx", 4), (b"\n\n", 2), (b"", 0), (b"\n \nx", 1)],
)
def test_skip_empty_lines(content: bytes, end: int) -> None:
    """Lines of CRLF or LF are skipped; a line of spaces is not empty."""
    assert skip_empty_lines(content, 0) == end
    assert skip_empty_lines(b"x" + content, 1) == end + 1


@pytest.mark.parametrize("content", [b"\rx", b"\r\r\nx", b"\n\rx", b"\r\n\r"])
def test_a_bare_cr_is_no_empty_line(content: bytes) -> None:
    """Where a bare CR is among the line breaks, nothing is skipped, and the reader will refuse."""
    assert skip_empty_lines(content, 0) == 0


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b"", ()),
        (b"A: b", ((b"a", b"b"),)),
        (b"A:b\r\nA: \t c \t\r", ((b"a", b"b"), (b"a", b"c"))),
        (b"x_Y-1!:\nb: :c:", ((b"x_y-1!", b""), (b"b", b":c:"))),
        (b"a: \xe9\tb", ((b"a", b"\xe9\tb"),)),
    ],
)
def test_read_fields(block: bytes, fields: Headers) -> None:
    """Names become lower-case, white space around values goes, repeats and order stay."""
    known: Memo[bytes, Header] = Memo(10, 100)
    assert read_fields(block, known) == fields
    assert read_fields(block, known) == fields


@pytest.mark.parametrize(
    "line",
    [b"", b"a", b": b", b"a : b", b" a: b", b"\ta: b", b"a b: c", b"\xe9: b", b"a(): b", b"\r"]
    + [b"a: b%cc" % byte for byte in [*range(9), *range(11, 32), 127]],
)
def test_bad_lines(line: bytes) -> None:
    """What is no header, and every control character but the tab, is refused where it is."""
    with pytest.raises(MalformedError) as caught:
        read_fields(b"good: x\r\nbetter: y\n" + line + b"\r\nlast: z", Memo(10, 100))
    assert caught.value.offset == 19


def test_tokens_and_values() -> None:
    """A token is made of the characters of RFC 9110; a value of all but control characters."""
    tokens = [bytes([byte]) for byte in range(256) if is_token(bytes([byte]))]
    assert b"".join(tokens) == (
        b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"
    )
    assert not is_token(b"")
    values = {byte for byte in range(256) if is_value(bytes([byte]))}
    assert values == {9, *range(0x20, 0x7F), *range(0x80, 0x100)}


def test_unfold() -> None:
    """Unfolding removes the line break and keeps the white space (RFC 5322, section 2.2.3)."""
    assert unfold(b"a: b\r\n c\n\td\r\ne: f") == b"a: b c\td\r\ne: f"


def test_write_name() -> None:
    """Names are written the way people know them."""
    names = [b"content-type", b"etag", b"www-authenticate", b"x-1a_b"]
    assert [write_name(name) for name in names] == [
        *(b"Content-Type", b"ETag", b"WWW-Authenticate", b"X-1A_B")
    ]
