"""Boundaries, delimiters and parts: RFC 2046, section 5.1."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.big_bytes import SLICE_BYTES
from atomicbatch.errors import LimitError, MalformedError, MediaTypeError
from atomicbatch.wire import multipart
from atomicbatch.wire.multipart import _split_usual, boundary_of, join_parts, split_parts
from tests.wire.strategies import patient

LEGAL = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'()+_,-./:=? "


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/mixed; boundary=b", b"b"),
        (b"multipart/mixed;boundary=b", b"b"),
        (b"multipart/mixed ; \t boundary=b \t", b"b"),
        (b" MULTIPART/Mixed; BOUNDARY=bB", b"bB"),
        (b"multipart/mixed;; ;boundary=b; ;", b"b"),
        (b"multipart/mixed; boundary = b", b"b"),
        (b'multipart/mixed; boundary="a b"', b"a b"),
        (b'multipart/mixed; boundary="a;b"; x=y', None),
        (b'multipart/mixed; type="a;boundary=x"; boundary=b', b"b"),
        (b"multipart/mixed; charset=utf-8; boundary=b; x=y", b"b"),
        (b"multipart/mixed; boundary='b'", b"'b'"),
        (b"multipart/mixed; boundary===b==", b"==b=="),
        (b"multipart/mixed; boundary=" + b"x" * 70, b"x" * 70),
    ],
)
def test_boundary_of(content_type: bytes, boundary: bytes | None) -> None:
    """A boundary is read as RFC 2046 and real clients write it; quotes protect semicolons."""
    if boundary is None:
        with pytest.raises(MalformedError):
            boundary_of(content_type)
    else:
        assert boundary_of(content_type) == boundary


@patient
@given(st.text(LEGAL, min_size=1, max_size=70).filter(lambda text: not text.endswith(" ")))
def test_any_legal_boundary(boundary: str) -> None:
    """Every boundary that RFC 2046 allows is read, quoted always, unquoted if it has no space."""
    expected = boundary.encode()
    assert boundary_of(b'multipart/mixed; boundary="%b"' % expected) == expected
    if " " not in boundary:
        assert boundary_of(b"multipart/mixed; boundary=" + expected) == expected


@pytest.mark.parametrize(
    "content_type",
    [b"", b"multipart/form-data; boundary=b", b"multipart/mixedx; boundary=b", b"multipart", b"; "],
)
def test_other_media_types(content_type: bytes) -> None:
    """Whatever is not multipart/mixed is another media type, not a malformed batch."""
    with pytest.raises(MediaTypeError) as caught:
        boundary_of(content_type)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "parameters",
    [
        b"",
        b"; boundary",
        b"; boundary=",
        b'; boundary=""',
        b"; boundary=" + b"x" * 71,
        b'; boundary="b "',
        b'; boundary="b',
        b'; boundary="b"c',
        b'; boundary="b\\c"',
        b'; boundary="b\tc"',
        b"; boundary=b c",
        b"; boundary=b\x7f",
        b"; boundary=\xe9",
        b"; boundary=b@c",
        b"; boundary=b; boundary=b",
        b"; boundary=b; Boundary=c",
        b"; boundary*=utf-8''b",
        b"; boundary*0=b; boundary*1=c",
        b"; boundary=b, multipart/mixed; boundary=c",
        b"; =b",
        b" boundary=b",
    ],
)
def test_bad_parameters(parameters: bytes) -> None:
    """A Content-Type that two readers could read in two ways is refused."""
    with pytest.raises((MalformedError, MediaTypeError)):
        boundary_of(b"multipart/mixed" + parameters)


def contents(body: bytes, boundary: bytes = b"b") -> list[bytes]:
    parts = split_parts(body, boundary)
    for content, offset in parts:
        assert body[offset : offset + len(content)] == content
    return [content for content, _ in parts]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--b\r\nx\r\n--b--\r\n", [b"x"]),
        (b"--b\nx\n--b--\n", [b"x"]),
        (b"--b\nx\r\n--b--", [b"x"]),
        (b"--b\r\nx\n--b\ny\r\n--b--\r\n", [b"x", b"y"]),
        (b"--b\r\n\r\n--b--", [b""]),
        (b"--b\r\n\r\n\r\n--b--", [b"\r\n"]),
        (b"--b\r\nx\r\r\n--b--", [b"x\r"]),
        (b"--b\r\nx\n\r\n--b--", [b"x\n"]),
        (b"--b \t\r\nx\r\n--b-- \t\r\n", [b"x"]),
        (b"pre\r\n--b\r\nx\r\n--b--\r\nepi --b", [b"x"]),
        (b"--\r\n--b\r\nx\r\n--b--\r\n--", [b"x"]),
        (b"--b\r\nx--b\r\nsee --b\r\n--b--", [b"x--b\r\nsee --b"]),
        (b"--b\r\n-- b\n-b\n---b\n--\n>--b\n--b--", [b"-- b\n-b\n---b\n--\n>--b"]),
        (b"--b--\r\n", []),
    ],
)
def test_split_parts(body: bytes, expected: list[bytes]) -> None:
    """Only ``--boundary`` at the start of a line delimits; its line break belongs to it."""
    assert contents(body) == expected


@pytest.mark.parametrize("boundary", [b"--", b"-", b"b--", b"a b", b"=_?"])
def test_boundaries_that_look_like_something_else(boundary: bytes) -> None:
    """Dashes at the end of a boundary are no closing delimiter."""
    body = b"--%b\r\nx\r\n--%b\r\ny\r\n--%b--\r\n" % (boundary, boundary, boundary)
    assert contents(body, boundary) == [b"x", b"y"]


@pytest.mark.parametrize(
    ("body", "message", "offset"),
    [
        (b"", "no delimiter", 0),
        (b"x --b--", "no delimiter", 7),
        (b"--b\r\nx\r\n--b--x", "no closing delimiter", 14),
        (b"--b", "no closing delimiter", 3),
        (b"--b\r\nx", "no closing delimiter", 6),
        (b"--b\r\nx\r\n--b", "no closing delimiter", 11),
        (b"--b\r\nx\r\n--b-", "no closing delimiter", 12),
        (b"--b\r\nx\r\n--b--\r", "no closing delimiter", 14),
        (b"--b\rx\r\n--b--", "begins like a delimiter", 0),
        (b"--bb\r\nx\r\n--b--", "begins like a delimiter", 0),
        (b"--b\r\nx\r\n--b-\r\n\r\n--b--", "begins like a delimiter", 8),
        (b"--b\r\nx\r\n--b--y\r\n--b--", "begins like a delimiter", 8),
        (b"--b\n--b--", "part without content", 0),
        (b"--b\r\nx\r\n--b--\r\n--b--", "after the closing", 15),
        (b"--b\r\nx\r\n--b--\r\nepi\n--bx", "after the closing", 19),
    ],
)
def test_malformed(body: bytes, message: str, offset: int) -> None:
    """Cut-off bodies, and lines that some reader could take for a delimiter, are refused."""
    with pytest.raises(MalformedError, match=message) as caught:
        split_parts(body, b"b")
    assert caught.value.offset == offset


INVISIBLE = [
    " ",
    "\t",
    " \t ",
    "\0",
    "\x7f",
    "\xa0",
    "\u200b",
    "\u2060",
    "\u3000",
    "\ufeff",
    "\ufeff ",
]
OTHER_BREAKS = ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
LOOK_ALIKES = [
    *(f"\n{text}--Ab" for text in INVISIBLE),
    *(f"\nx{text}--Ab" for text in OTHER_BREAKS),
    *(f"\n--{name}" for name in ("ab", "AB", '"Ab"', '"Ab')),
    "\nx\r \ufeff--aB--",
]
PLACES = [
    (b"%b\r\n--Ab\r\nx\r\n--Ab--\r\n", "preamble"),
    (b"--Ab\r\nA: b%b\r\n\r\nx\r\n--Ab--\r\n", "part headers"),
    (b"--Ab\r\n\r\nx%b\r\n--Ab\r\ny\r\n--Ab--\r\n", "a body"),
    (b"--Ab\r\n\r\nx%b\r\n", "a body without an end"),
    (b"--Ab\r\n\r\nx\r\n--Ab--\r\nz%b\r\n", "the epilogue"),
]


@pytest.mark.parametrize("place", [place for place, _ in PLACES], ids=[name for _, name in PLACES])
@pytest.mark.parametrize("look_alike", LOOK_ALIKES, ids=ascii)
@pytest.mark.parametrize("more", [b"", b"--", b"cd", b" \0"])
def test_look_alikes(look_alike: str, place: bytes, more: bytes) -> None:
    """What would be a delimiter without what nobody sees is refused, and its byte is named."""
    body = place % (look_alike.encode() + more)
    with pytest.raises(MalformedError) as caught:
        split_parts(body, b"Ab")
    assert caught.value.offset == body.index(look_alike.strip("\n").encode()) + len(
        look_alike.strip("\n").partition("--")[0].encode()
    )


def test_look_alikes_at_the_very_beginning() -> None:
    """A byte-order mark that an editor has put first, UTF-16's too, hides no first call."""
    for mark in (b"\xef\xbb\xbf", b" ", b"\xff\xfe", b"\xfe\xff", b"\0"):
        body = mark + b"--b\r\nx\r\n--b\r\ny\r\n--b--\r\n"
        with pytest.raises(MalformedError, match="looks like a delimiter") as caught:
            split_parts(body, b"b")
        assert caught.value.offset == len(mark)


@pytest.mark.parametrize(
    "text", ["x", "x ", "é", "日本 ", "-", "- ", ">", '"', "'", "x\u200b", "1)"]
)
def test_what_stands_behind_something_visible_is_content(text: str) -> None:
    """Nobody takes the middle of a line for a delimiter."""
    line = f"{text}--b".encode()
    assert contents(b"--b\r\n" + line + b"\r\n--b--\r\n" + line) == [line]


def test_too_many_parts() -> None:
    """The part beyond ``max_calls`` is refused where it starts, however many follow."""
    body = b"--b\r\nx\r\n" * 50 + b"--b--"
    assert len(split_parts(body, b"b", max_calls=50)) == 50
    for maximum in (1, 2, 49):
        with pytest.raises(LimitError) as caught:
            split_parts(body, b"b", max_calls=maximum)
        assert caught.value.offset == 8 * maximum


def test_a_full_batch_is_checked_to_its_end() -> None:
    """What is wrong behind the closing delimiter of a batch of ``max_calls`` is seen too."""
    body = b"--b\r\nx\r\n--b\r\nx\r\n--b--\r\n"
    for more in (b"--b\r\n", b"--b--\r\n", b"--b\r\nx\r\n--b\r\nx\r\n--b--"):
        with pytest.raises(MalformedError, match="after the closing"):
            split_parts(body + more, b"b", max_calls=2)
        with pytest.raises(MalformedError, match="after the closing"):
            split_parts(b"\r\n" + body + more, b"b", max_calls=2)


SHAPES = [
    *(b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--", b"\r\n--b--\r\n", b"\n--b\n", b"\r\n--B\r\n"),
    *(b'\r\n--"b\r\n', b"--b", b"x", b"\r\n", b"\r", b"\n", b" ", b"\r\n --b"),
]


@patient
@given(
    st.lists(st.sampled_from(SHAPES[:4]) | st.sampled_from(SHAPES), max_size=7),
    st.sampled_from([None, 1, 2]),
)
def test_usual_bodies(pieces: list[bytes], max_calls: int | None) -> None:
    """The short cut for usual bodies gives what cutting piece by piece gives, or nothing."""
    body = b"--b\r\n" + b"".join(pieces) + b"\r\n--b--\r\n"
    for whole in (body, body[:-2], b"".join(pieces)):
        parts = _split_usual(whole, b"b", max_calls)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(multipart, "_split_usual", lambda *_: None)
            if parts is not None:
                assert parts == split_parts(whole, b"b", max_calls=max_calls)


def test_usual_bodies_take_the_short_cut() -> None:
    """What clients write is cut without looking at each piece."""
    content_type, body = join_parts([(b"a", b"b"), (b"c", b"")], None, b"x_")
    assert _split_usual(body, boundary_of(content_type), 2) is not None
    assert _split_usual(b"--b\r\n--b--\r\n", b"b", None) is None


@patient
@given(st.lists(st.binary().filter(lambda content: b"\n--b" not in b"\n" + content), min_size=1))
def test_parts_survive(parts: list[bytes]) -> None:
    """Any contents are written, and read as the same contents."""
    content_type, body = join_parts([(b"", part) for part in parts], None, b"random_")
    assert contents(body, boundary_of(content_type)) == parts


@patient
@given(st.text("bx=/'(), :\t\\-\u00e9", max_size=8) | st.text("x ", min_size=66, max_size=74))
def test_usual_content_types(boundary: str) -> None:
    """What nearly all clients write is read as it is when it is written in an unusual way."""
    for form in ("multipart/mixed; boundary=%s", 'multipart/mixed;boundary="%s"'):
        usual = (form % boundary).encode("latin-1")
        read = []
        for content_type in (usual, usual + b"; a=b", usual.replace(b"mixed", b"Mixed")):
            try:
                read.append(boundary_of(content_type))
            except MalformedError as error:
                read.append(str(error).encode())
        assert read == read[:1] * 3


@pytest.mark.parametrize("more", [0, 2 * SLICE_BYTES])
def test_the_boundary_never_occurs_in_a_part(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """A random boundary that a part happens to hold is thrown away (SPEC 5.4)."""
    numbers = iter(["taken", "also", "free"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(numbers))
    long = b"z" * more + b"x_alsoy"
    content_type, body = join_parts([(b"x_taken", b""), (b"y", long)], None, b"x_")
    assert content_type == b"multipart/mixed; boundary=x_free"
    assert body == b"--x_free\r\nx_taken\r\n--x_free\r\ny%b\r\n--x_free--\r\n" % long


@pytest.mark.parametrize("boundary", [b"x", b"a b", b"a=b", b"", b"y" * 71, b"a\r\nb"])
def test_unusable_boundaries(boundary: bytes) -> None:
    """A boundary that occurs in a part, or would need quotes, is not written."""
    for body in (b"-x-", b"-X-"):
        with pytest.raises(ValueError, match="cannot be used"):
            join_parts([(b"", body)], boundary, b"")
