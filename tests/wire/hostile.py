"""Bodies made to take long: each is about ``size`` bytes of what some reader takes badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from atomicbatch.limits import Limits
from atomicbatch.model import Headers

CONTENT_TYPE = b"multipart/mixed; boundary=b"
HUGE = 10**9
UNBOUNDED = Limits(
    max_calls=HUGE, max_body_bytes=HUGE, max_header_bytes=HUGE, max_header_lines=HUGE
)


class Hostile(NamedTuple):
    """One request."""

    body: bytes
    content_type: bytes = CONTENT_TYPE
    headers: Headers = ()
    query: bytes = b""


def repeated(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


def parts(make: Callable[[int], bytes], size: int) -> bytes:
    """As many parts as fit, each made from its number."""
    made: list[bytes] = []
    length = 0
    while length < size:
        made.append(b"--b\r\n\r\n%b\r\n" % make(len(made)))
        length += len(made[-1])
    return b"".join(made) + b"--b--\r\n"


def one(message: bytes) -> Hostile:
    return Hostile(b"--b\r\n\r\n" + message + b"\r\n--b--\r\n")


def many(prefix: bytes, size: int) -> bytes:
    """Different words, joined with ``&``."""
    return b"&".join(b"%b%d=" % (prefix, n) for n in range(size // 10))


HOSTILE: dict[str, Callable[[int], Hostile]] = {
    "preamble": lambda n: Hostile(repeated(b"\r\n--a", n) + b"\r\n--b--"),
    "preamble without end": lambda n: Hostile(repeated(b"\n--", n)),
    "empty lines": lambda n: Hostile(repeated(b"\r\n", n) + b"--b--"),
    "epilogue": lambda n: Hostile(b"--b\r\n\r\nGET /\r\n--b--\r\n" + repeated(b"\n--a", n)),
    "look-alikes": lambda n: Hostile(repeated(b"\n--b\n--bx", n)),
    "look-alikes of a long boundary": lambda n: Hostile(
        repeated(b"\n--" + b"-" * 69, n) + b"\n", b"multipart/mixed; boundary=" + b"-" * 69 + b"x"
    ),
    "blanks before look-alikes": lambda n: one(b"POST /\r\n\r\n" + repeated(b" " * 9 + b"x--b", n)),
    "blanks and one look-alike": lambda n: one(b"POST /\r\n\r\n" + repeated(b"\r \f", n) + b"--b"),
    "what nobody sees": lambda n: one(b"POST /\r\n\r\n\n" + repeated(b"\xc2\xa0", n) + b"--b"),
    "look-alikes within a line": lambda n: one(b"POST /\r\n\r\nx" + repeated(b"--b", n)),
    "a second request": lambda n: one(b"POST /\r\n\r\n" + repeated(b"\r\n A / HTTP/1", n)),
    "requests in a body": lambda n: one(b"POST /\r\n\r\n" + repeated(b"\nA /b HTTP/1", n)),
    "bare requests in a body": lambda n: one(b"POST /\r\n\r\n" + repeated(b"\n\r\nGET /b c", n)),
    "headers of parts": lambda n: one(
        b"POST /\r\n\r\n" + repeated(b"\ncontent-type: application/http \t", n)
    ),
    "delimiters": lambda n: Hostile(repeated(b"--b\r\n\r\n", n)),
    "padding": lambda n: Hostile(b"--b" + repeated(b" \t", n) + b"x\r\n--b--"),
    "padding everywhere": lambda n: Hostile(repeated(b"--b" + b" " * 99 + b"\r\nx\r\n", n)),
    "part header lines": lambda n: Hostile(
        b"--b\r\n" + repeated(b"a: b\r\n", n) + b"\r\nGET /\r\n--b--"
    ),
    "folded part header": lambda n: Hostile(
        b"--b\r\na: b" + repeated(b"\r\n ", n) + b"\r\n\r\nGET /\r\n--b--"
    ),
    "bad part header last": lambda n: Hostile(
        b"--b\r\n" + repeated(b"a: b\r\n", n) + b"c\r\n\r\n-"
    ),
    "empty lines in a part": lambda n: one(repeated(b"\r\n", n) + b"GET /"),
    "bare CRs in a part": lambda n: one(repeated(b"\r\n\r", n) + b"GET /"),
    "request line": lambda n: one(b"GET /" + repeated(b"a HTTP/1.1 ", n)),
    "path of dots": lambda n: one(b"GET /" + repeated(b"a/../", n)),
    "path of escapes": lambda n: one(b"GET /" + repeated(b"%2e%", n)),
    "query": lambda n: Hostile(
        b"--b\r\n\r\nGET /?" + many(b"a", n) + b"\r\n--b--", query=many(b"b", n)
    ),
    "method": lambda n: one(repeated(b"A", n)),
    "header lines": lambda n: one(b"GET /\r\n" + repeated(b"a: b\r\n", n)),
    "different header lines": lambda n: one(
        b"GET /\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(n // 9))
    ),
    "bad header line last": lambda n: one(b"GET /\r\n" + repeated(b"a: b\r\n", n) + b"c\r\n\r\n"),
    "spaces in a header": lambda n: one(b"GET /\r\na: " + repeated(b" ", n) + b"b\r\n"),
    "lengths": lambda n: one(b"GET /\r\nContent-Length: " + repeated(b"1,", n) + b"1\r\n\r\nx"),
    "digits": lambda n: one(b"GET /\r\nContent-Length: " + repeated(b"1", n) + b"\r\n\r\nx"),
    "spaces behind a body": lambda n: one(
        b"PUT /\r\nContent-Length: 1\r\n\r\nx" + repeated(b" \r\n", n)
    ),
    "line breaks for a body": lambda n: one(b"PUT /\r\n\r\n" + repeated(b"\r\n", n) + b"\r"),
    "body of LFs without CRLF": lambda n: Hostile(
        b"--b\n\nPUT /\n\n" + repeated(b"\nx", n) + b"\n--b--"
    ),
    "many small calls": lambda n: Hostile(parts(lambda _: b"GET /", n)),
    "calls with headers of their own": lambda n: Hostile(
        parts(lambda number: b"GET /%d\r\nA%d: b\r\nContent-ID: %d" % (number, number, number), n)
    ),
    "Content-IDs": lambda n: Hostile(
        b"".join(b"--b\r\nContent-ID: <%d>\r\n\r\nGET /\r\n" % i for i in range(n // 32)) + b"--b--"
    ),
    "outer queries of all calls": lambda n: Hostile(
        parts(lambda number: b"GET /?a%d&b%d" % (number, number), n), query=many(b"a", 200)
    ),
    "outer headers of all calls": lambda n: Hostile(
        parts(lambda number: b"GET /\r\nA%d: b" % number, n),
        headers=tuple((b"a%d" % number, b"x") for number in range(50)),
    ),
    "outer Accept of quotes": lambda n: Hostile(
        b"--b\r\n\r\nGET /\r\n--b--", headers=((b"accept", b'"' + repeated(b'\\"', n)),)
    ),
    "outer Prefer of commas": lambda n: Hostile(
        b"--b\r\n\r\nGET /\r\n--b--", headers=((b"prefer", repeated(b'wait;,",",', n)),)
    ),
    "Connection names": lambda n: Hostile(
        b"--b\r\n\r\nGET /\r\n--b--", headers=((b"connection", repeated(b"a,", n)),)
    ),
    "parameters of Content-Type": lambda n: Hostile(b"", b"multipart/mixed" + repeated(b"; ", n)),
    "spaces in Content-Type": lambda n: Hostile(
        b"", b"multipart/mixed; a" + repeated(b" ", n) + b";boundary=" + repeated(b" ", n)
    ),
    "quotes in Content-Type": lambda n: Hostile(
        b"", b"multipart/mixed" + repeated(b';a="b"', n) + b';a="'
    ),
}
