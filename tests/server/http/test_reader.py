"""Requests are read alike however their bytes are cut, and bounded before they are complete."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.server.http.reader import Head, Reader

HOST = b"Host: localhost\r\n"
# One of each kind in one stream: a target that is a URL, bodies with a length, in chunks and
# with trailers, a wish for another protocol, HTTP/1.0.
STREAM = (
    b"GET http://shop.example/a?b=1 HTTP/1.1\r\n" + HOST + b"X-Blank:  kept apart \t\r\n\r\n"
    b"POST /b HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    b"PUT /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"3;extension=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n"
    b"POST /d HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: x\r\nContent-Length: 4\r\n\r\nbody"
    b"DELETE /e HTTP/1.0\r\n" + HOST + b"\r\n"
)


class Told:
    """Takes down what a reader tells; bytes of one body are put together."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.bodies: list[bytes] = []

    def take_head(self, head: Head) -> None:
        self.events.append(head)
        self.bodies.append(b"")

    def take_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def take_end(self) -> None:
        self.events.append(self.bodies[-1])

    def wait_for_head(self) -> None:
        pass

    def refuse_head(self) -> None:
        self.events.append("too long")
        self.reader.end()

    def refuse_malformed(self, why: str) -> None:
        self.events.append(why)
        self.reader.end()

    reader: Reader


def read(*pieces: bytes, max_head_bytes: int = 1000) -> list[object]:
    """What a reader tells of these bytes."""
    told = Told()
    told.reader = Reader(told, max_head_bytes=max_head_bytes)
    for piece in pieces:
        told.reader.feed(piece)
    return told.events


def test_requests_of_each_kind() -> None:
    """Heads with their blanks cut off, bodies without their framing, ends; in order."""
    host = (b"host", b"localhost")
    heads = [event for event in read(STREAM) if isinstance(event, Head)]
    assert [event for event in read(STREAM) if isinstance(event, bytes)] == [
        *(b"", b"hello", b"abcdefg", b"body", b"")
    ]
    blank = [host, (b"x-blank", b"kept apart"), (b"host", b"shop.example")]
    assert heads[0] == Head("GET", b"/a?b=1", blank, "1.1", keep_alive=True)
    assert heads[1].expects_continue
    assert [(head.method, head.target) for head in heads[1:]] == [
        *(("POST", b"/b"), ("PUT", b"/c"), ("POST", b"/d"), ("DELETE", b"/e"))
    ]
    assert heads[-1].keep_alive is False, "HTTP/1.0"


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cut_gives_the_same_requests(cuts: list[int]) -> None:
    """Bytes may be cut anywhere, also in the middle of a name or of a chunk's size."""
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert read(*pieces) == read(STREAM)


def test_byte_by_byte() -> None:
    """The finest cut of all."""
    assert read(*[STREAM[n : n + 1] for n in range(len(STREAM))]) == read(STREAM)


@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nA: "])
def test_a_head_without_an_end_is_refused_once(start: bytes, size: int) -> None:
    """Before it is complete, and nothing is read after that."""
    data = start + b"a" * 2000
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    assert read(*pieces) == ["too long"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /#x HTTP/1.1\r\n",
        b"GET ftp://x/ HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n",
    ],
)
def test_what_others_could_read_otherwise_is_refused(head: bytes) -> None:
    """A fragment, another scheme, codings that only a proxy undoes, a line that is no header."""
    (told,) = read(head + HOST + b"\r\n" + STREAM)
    assert isinstance(told, str)
