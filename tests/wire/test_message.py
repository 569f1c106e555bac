"""Where a message's body ends, and what Content-Length may say (SPEC 2.5)."""

from __future__ import annotations

import pytest

from atomicbatch.errors import MalformedError
from atomicbatch.wire.message import NOT_DECLARED, declared_length, read_body


@pytest.mark.parametrize(
    ("content", "start", "declared", "body"),
    [
        (b"abc", 1, NOT_DECLARED, b"bc"),
        (b"a", 1, NOT_DECLARED, b""),
        (b"a", -1, NOT_DECLARED, b""),
        (b"\r\n\n\r\n", 0, NOT_DECLARED, b""),
        (b"\r\n\r", 0, NOT_DECLARED, b"\r\n\r"),
        (b"\r", 0, NOT_DECLARED, b"\r"),
        (b"\n ", 0, NOT_DECLARED, b"\n "),
        (b"\nx\n", 0, NOT_DECLARED, b"\nx\n"),
        (b"abc", 1, 2, b"bc"),
        (b"abc \t\r\n", 1, 2, b"bc"),
        (b"\r\n\r\n", 0, 3, b"\r\n\r"),
        (b" \r\n", 0, 0, b""),
        (b"a", -1, 0, b""),
    ],
)
def test_read_body(content: bytes, start: int, declared: int, body: bytes) -> None:
    """Without a length all bytes are the body; line breaks alone are none; n bytes are n bytes."""
    assert read_body(content, start, declared) == body


@pytest.mark.parametrize(
    ("content", "start", "declared", "offset"),
    [
        (b"abc", 1, 3, 3),
        (b"a", -1, 1, 1),
        (b"abc", 0, 2, 2),
        (b"ab\0", 0, 2, 2),
        (b"a\n\n.", 0, 1, 1),
    ],
)
def test_wrong_lengths(content: bytes, start: int, declared: int, offset: int) -> None:
    """A length beyond the part, or one that leaves more than white space, is refused."""
    with pytest.raises(MalformedError) as caught:
        read_body(content, start, declared)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ([], -1),
        ([b"0"], 0),
        ([b"12"], 12),
        ([b"7", b"7"], 7),
        ([b"7, 7 ,07"], 7),
        ([b"9" * 18], 10**18 - 1),
    ],
)
def test_declared_length(values: list[bytes], length: int) -> None:
    """The same number may be there more than once (RFC 9110, section 8.6)."""
    assert declared_length(tuple((b"content-length", value) for value in values)) == length


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"x"],
        [b"-1"],
        [b"+1"],
        [b"1.0"],
        [b"0x1"],
        [b"1_0"],
        [b"1 0"],
        [b"\xb2"],
        [b"1,"],
        [b"1", b"2"],
        [b"1, 2"],
        [b"1" * 19],
        [b"1" * 10000],
        [b"1", b"x"],
    ],
)
def test_bad_lengths(values: list[bytes]) -> None:
    """What is no number, and different numbers, are refused."""
    with pytest.raises(MalformedError):
        declared_length(tuple((b"content-length", value) for value in values))


@pytest.mark.parametrize("name", [b"transfer-encoding", b"transfer_encoding", b"content_length"])
def test_other_framing(name: bytes) -> None:
    """Nothing but the boundary and Content-Length frames a part's body."""
    with pytest.raises(MalformedError):
        declared_length(((name, b"1"),))
