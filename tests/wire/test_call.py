"""Calls, their request lines included; the corpus has the refusals with their offsets."""

from __future__ import annotations

import pytest

from atomicbatch.errors import MalformedError
from atomicbatch.model import Call
from atomicbatch.wire.call import CallReader, write_call
from atomicbatch.wire.inherit import Inheritance


def read(message: bytes) -> Call:
    return CallReader(Inheritance(())).read(b"\r\n" + message)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b"GET / HTTP/1.1", ("GET", b"/", b"")),
        (b"GET /", ("GET", b"/", b"")),
        (b"get /a HTTP/2", ("get", b"/a", b"")),
        (b"M-SEARCH /a?b HTTP/1.0", ("M-SEARCH", b"/a", b"b")),
        (b"!#$%&'*+-.^_`|~09 /a", ("!#$%&'*+-.^_`|~09", b"/a", b"")),
        (b"GET /a? HTTP/0.9", ("GET", b"/a", b"")),
        (b"GET /?a?b=/../c&d=\\", ("GET", b"/", b"a?b=/../c&d=\\")),
        (b"GET /!$&'()*+,;=:@[]^`{|}~%00\"<>", ("GET", b"/!$&'()*+,;=:@[]^`{|}~%00\"<>", b"")),
        (b"GET /..a/...", ("GET", b"/..a/...", b"")),
        (b"GET /a/%2e%2e/b", ("GET", b"/a/%2e%2e/b", b"")),
        (b"CONNECTED /", ("CONNECTED", b"/", b"")),
    ],
)
def test_request_lines(line: bytes, request_: tuple[str, bytes, bytes]) -> None:
    """Any token is a method; path and query stay as sent; the version is optional and ignored."""
    for end in (b"", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n"):
        assert read(line + end)[:3] == request_


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET",
        b"GET ",
        b" GET /",
        b"GET / ",
        b"GET / HTTP/1.1 ",
        b"GET /  HTTP/1.1",
        b"/ HTTP/1.1",
    ]
    + [b"GET / HTTP/", b"GET / HTTP/1.", b"GET / HTTP/11", b"GET / XHTTP/1.1", b"GET / HTTP/1.1x"]
    + [b"CONNECT /", b"Connect /", b"GET ?a", b"GET http:/a", b"GET \\\\a", b"GET /..", b"GET /a?#"]
    + [b"GET /a%c" % byte for byte in [*range(10), *range(11, 33), *range(127, 256)]]
    + [b"GET /a?%c" % byte for byte in [*range(10), *range(11, 33), *range(127, 256)]],
)
def test_bad_request_lines(line: bytes) -> None:
    """What is not exactly a method, a path and a version is refused, in every byte."""
    with pytest.raises(MalformedError) as caught:
        read(line + b"\r\nA: b\r\n\r\n")
    assert caught.value.offset is not None


def test_empty_lines_before_the_request_line() -> None:
    """Some clients pad in front: empty lines are skipped, lines of spaces are not."""
    assert read(b"\r\n\n\r\nGET /a\r\n").path == b"/a"
    for padding in (b" \r\n", b"\r\r\n", b"\r"):
        with pytest.raises(MalformedError, match="request line"):
            read(padding + b"GET /a")


def test_write_call() -> None:
    """A call is written with its Content-ID, its headers, and the true Content-Length last."""
    headers = ((b"content-length", b"9"), (b"content-type", b"text/plain"))
    call = Call("PUT", b"/a", b"b=c", headers, b"hi", b"<1>")
    head, body = write_call(call)
    assert body == b"hi"
    assert head == (
        b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        b"Content-ID: <1>\r\n\r\nPUT /a?b=c HTTP/1.1\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 2\r\n\r\n"
    )


GOOD = Call("GET", b"/", b"", (), b"")


@pytest.mark.parametrize(
    "call",
    [
        GOOD._replace(method="G T"),
        GOOD._replace(method="GET / HTTP/1.1\r\nA: b\r\n\r\nGET"),
        GOOD._replace(path=b"a"),
        GOOD._replace(path=b"//a"),
        GOOD._replace(path=b"/a b"),
        GOOD._replace(path=b"/a HTTP/1.1"),
        GOOD._replace(path=b"/a\r"),
        GOOD._replace(path=b"/a?b"),
        GOOD._replace(query=b"a\r\nb"),
        GOOD._replace(query=b"a b"),
        GOOD._replace(headers=((b"a b", b"c"),)),
        GOOD._replace(headers=((b"a", b"b\r\nc: d"),)),
        GOOD._replace(headers=((b"", b"b"),)),
        GOOD._replace(headers=((b"transfer-encoding", b"chunked"),)),
        GOOD._replace(content_id=b"<1>\r\nA: b"),
    ],
)
def test_calls_that_could_not_be_read(call: Call) -> None:
    """The client does not write what the server would refuse, or read as something else."""
    with pytest.raises(ValueError, match=r"no |cannot"):
        write_call(call)
