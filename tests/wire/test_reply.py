"""Replies as parts, byte for byte: real clients read no more than this (SPEC 5.4)."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.model import Call, Headers, Reply
from atomicbatch.wire import read_replies, write_replies
from atomicbatch.wire.multipart import Content
from atomicbatch.wire.reply import _FORMS, ReplyWriter, is_writable
from tests.wire.strategies import patient

DATE = b"Tue, 24 Nov 2026 10:00:00 GMT"


def call(method: str = "GET", content_id: bytes | None = None) -> Call:
    return Call(method, b"/", b"", (), b"", content_id)


def written(
    status: int = 200, headers: Headers = (), body: bytes = b"", method: str = "GET"
) -> bytes:
    """The reply in the part, without the part's own headers."""
    part = b"".join(ReplyWriter(DATE).write(call(method), Reply(status, headers, body)))
    return part.partition(b"\r\n\r\n")[2]


def test_the_layout() -> None:
    """No preamble, CRLF everywhere outside bodies, one CRLF at the end."""
    content_type, body = write_replies(
        [call("POST", b"<item + 1>"), call("DELETE", b"plain id"), call()],
        [
            Reply(201, ((b"content-type", b"application/json"), (b"etag", b'"1"')), b'{"a": 1}\n'),
            Reply(204, (), b""),
            Reply(200, ((b"x-1", b"odd"), (b"date", b"theirs"), (b"x-a", b"plain")), b""),
        ],
        date=DATE,
        boundary=b"batchresponse_x",
    )
    assert content_type == b"multipart/mixed; boundary=batchresponse_x"
    assert body == (
        b"--batchresponse_x\r\n"
        b"Content-Type: application/http\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: <response-item + 1>\r\n"
        b"\r\n"
        b"HTTP/1.1 201 Created\r\n"
        b"Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n"
        b"Content-Type: application/json\r\n"
        b'ETag: "1"\r\n'
        b"Content-Length: 9\r\n"
        b"\r\n"
        b'{"a": 1}\n\r\n'
        b"--batchresponse_x\r\n"
        b"Content-Type: application/http\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: response-plain id\r\n"
        b"\r\n"
        b"HTTP/1.1 204 No Content\r\n"
        b"Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n"
        b"\r\n"
        b"\r\n"
        b"--batchresponse_x\r\n"
        b"Content-Type: application/http\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"\r\n"
        b"HTTP/1.1 200 OK\r\n"
        b"Date: theirs\r\n"
        b"X-A: plain\r\n"
        b"Content-Length: 0\r\n"
        b"X-1: odd\r\n"
        b"\r\n"
        b"\r\n"
        b"--batchresponse_x--\r\n"
    )


def test_a_random_boundary() -> None:
    """The boundary is unquoted, the only parameter, and another one each time."""
    types = {write_replies([call()], [Reply(200, (), b"")], date=DATE)[0] for _ in range(5)}
    assert len(types) == 5
    prefix = b"multipart/mixed; boundary=batchresponse_"
    assert all(
        t.startswith(prefix) and len(bytes.fromhex(t[len(prefix) :].decode())) == 16 for t in types
    )


@pytest.mark.parametrize(
    ("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD"), (404, "HEAD")]
)
def test_replies_without_a_body(status: int, method: str) -> None:
    """HEAD, 204 and 304 have neither body nor Content-Length, whatever the handler gave."""
    headers = ((b"content-length", b"5"), (b"a", b"b"))
    reply = written(status, headers, b"hello", method)
    assert reply.endswith(b"\r\nA: b\r\n\r\n")
    assert b"Content-Length" not in reply


def test_the_length_is_ours() -> None:
    """Content-Length says the truth, once, whatever the handler said."""
    headers = ((b"content-length", b"99"), (b"Content-Length", b"98"), (b"a", b"b"))
    assert written(200, headers, b"hi").endswith(b"\r\nA: b\r\nContent-Length: 2\r\n\r\nhi")


@pytest.mark.parametrize(
    "header",
    [
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"Transfer-Encoding", b"chunked"),
        (b"keep-alive", b"5"),
        (b"upgrade", b"h2c"),
        (b"trailer", b"x"),
        (b"a", b""),
        (b"a", b" \t"),
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\nc: d"),
        (b"a", b"b\rc: d"),
        (b"a", b"b\0"),
        (b"a: b\r\nc", b"d"),
        (b"a b", b"c"),
        (b"", b"b"),
        (b"date", b"x\n"),
    ],
)
def test_headers_that_are_left_out(header: tuple[bytes, bytes]) -> None:
    """No header of a connection, without a value, or that would become two, is written."""
    assert written(headers=(header,)) == written()


def test_headers_of_the_connection() -> None:
    """What Connection names goes with it."""
    headers = ((b"x-a", b"b"), (b"connection", b"close, X-A"), (b"x-b", b"c"))
    assert written(headers=headers) == written(headers=((b"x-b", b"c"),))


def test_repeats_and_order_stay() -> None:
    """Headers are written in order and never merged: two cookies stay two."""
    reply = written(headers=((b"set-cookie", b"a=1"), (b"b", b"c"), (b"set-cookie", b"a=2")))
    assert b"\r\nSet-Cookie: a=1\r\nB: c\r\nSet-Cookie: a=2\r\n" in reply


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK"),
        (203, b"HTTP/1.1 203 Non Authoritative Information"),
        (207, b"HTTP/1.1 207 Multi Status"),
        (413, b"HTTP/1.1 413 Content Too Large"),
        (418, b"HTTP/1.1 418 Im a Teapot"),
        (422, b"HTTP/1.1 422 Unprocessable Content"),
        (424, b"HTTP/1.1 424 Failed Dependency"),
        (299, b"HTTP/1.1 299 Unknown"),
        (999, b"HTTP/1.1 999 Unknown"),
    ],
)
def test_status_lines(status: int, line: bytes) -> None:
    """The reason is of letters, digits and spaces, and never missing."""
    assert written(status).startswith(line + b"\r\n")


@pytest.mark.parametrize("status", [200, 299, 599, 600, 999])
def test_statuses_come_back(status: int) -> None:
    """What is written can be read: RFC 9110, section 15, takes 600 and more for errors."""
    content_type, body = write_replies([call()], [Reply(status, (), b"")], date=DATE)
    ((_, reply),) = read_replies(body, content_type=content_type)
    assert reply.status == status


def test_every_reason() -> None:
    """No reason that Python knows has another character."""
    for status in (status for status in HTTPStatus if status >= 200):
        line = written(status).partition(b"\r\n")[0].decode()
        assert line.removeprefix(f"HTTP/1.1 {status.value} ").replace(" ", "").isalnum(), line


@pytest.mark.parametrize("status", [0, 99, 100, 101, 103, 199, 1000, -1])
def test_statuses_that_no_reply_has(status: int) -> None:
    """1xx is never written, nor what is no status: an empty 500 takes its place."""
    assert written(status, ((b"a", b"b"),), b"secret") == written(500)


def test_is_writable() -> None:
    """An adapter can tell, before COMMIT, a reply that could not be written as it is."""
    assert is_writable(Reply(200, ((b"a", b""), (b"connection", b"close")), b""))
    assert not is_writable(Reply(100, (), b""))
    assert not is_writable(Reply(200, ((b"a", b"b\r\nc: d"),), b""))
    assert not is_writable(Reply(200, ((b"a b", b"c"),), b""))


@patient
@given(
    st.integers(-1, 1100),
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8))),
    st.binary(),
)
def test_nothing_that_a_reply_holds_raises(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Whatever a handler answers, something is written, and its headers cannot end the block."""
    head, _, rest = written(status, tuple(headers), body).partition(b"\r\n\r\n")
    assert rest in (body, b"")
    assert all(b": " in line for line in head.split(b"\r\n")[1:])
    assert head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n")


def test_a_date_of_its_own() -> None:
    """A reply has one Date: its own where it has one, in its place."""
    own = written(headers=((b"a", b"b"), (b"date", b"theirs")))
    assert own.endswith(b"OK\r\nA: b\r\nDate: theirs\r\nContent-Length: 0\r\n\r\n")


NAMES = [
    *(b"content-type", b"etag", b"location", b"set-cookie", b"date", b"content-length", b"x-a"),
    *(b"connection", b"keep-alive", b"transfer-encoding", b"x-1", b"x_y", b"ETag", b"Date", b"a b"),
    *(b"", b"a:", b"%b", b"-"),
]
VALUES = [
    *(b"a", b'"1"', b"/items/1", b"a b", b"a  b", b"text/plain; charset=utf-8", b"%d", b"\xe9\xff"),
    *(
        b"",
        b" ",
        b" a",
        b"a ",
        b"\ta",
        b"a\t",
        b"a\tb",
        b"a\r\nb: c",
        b"a\n",
        b"\r",
        b"a\0",
        b"\x7f",
    ),
    *(b"\x80", b"\xa0", b"\xa0a", b"\xad", b"x-a, close"),
]


@patient
@given(
    st.sampled_from([200, 201, 204, 304, 404, 799]) | st.integers(-1, 1100),
    st.lists(
        st.tuples(
            st.sampled_from(NAMES[:3]) | st.sampled_from(NAMES),
            st.sampled_from(VALUES[:6]) | st.sampled_from(VALUES) | st.binary(max_size=3),
        ),
        max_size=5,
    ),
    st.sampled_from([b"", b"hello", b"\r\n\r\n"]),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from([None, b"<1>", b"plain", b"<", b"%b"]),
)
def test_a_form_writes_what_is_written_line_by_line(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, method: str, content_id: bytes
) -> None:
    """Whatever a reply holds, and whether such a one came before: the bytes are the same."""
    reply, writer = Reply(status, tuple(headers), body), ReplyWriter(DATE)
    expected = writer._write_checked(call(method, content_id), reply)
    for _ in range(2):
        assert writer.write(call(method, content_id), reply) == expected


def test_usual_replies_are_written_by_a_form() -> None:
    """They are never checked line by line, or half the time would be lost."""

    class Form(ReplyWriter):
        def _write_checked(self, call: Call, reply: Reply) -> Content:
            raise AssertionError(reply)

    headers = ((b"content-type", b"application/json"), (b"etag", b'"1"'), (b"content-length", b"2"))
    for status in (200, 201, 204, 422):
        for content_id in (None, b"<1>", b"1"):
            assert all(
                Form(DATE).write(call("POST", content_id), Reply(status, headers, b"{}"))[:1]
            )


def test_forms_are_remembered_within_bounds() -> None:
    """An app that makes up names fills no memory."""
    writer = ReplyWriter(DATE)
    for number in range(2000):
        name = b"".join(b"abcdefghij"[int(digit) : int(digit) + 1] for digit in str(number))
        head, _ = writer.write(call(), Reply(200, ((name, b"x"), (b"x" * 5000, b"y")), b""))
        head, _ = writer.write(call(), Reply(200, ((name, b"x"),), b""))
        assert b"\r\n%b: x\r\n" % name.title() in head
    assert sum(len(name) for _, names in _FORMS for name in names) < 300_000
