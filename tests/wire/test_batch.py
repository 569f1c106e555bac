"""The front door: both directions, and what holds for any bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atomicbatch.errors import LimitError, MalformedError, MediaTypeError, WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Headers, Reply
from atomicbatch.wire import read_batch, read_replies, write_batch, write_replies
from tests.wire.strategies import batches, patient, replies

B = b"multipart/mixed; boundary=b"


def body_of(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"


def read(*parts: bytes, headers: Headers = (), query: bytes = b"") -> tuple[Call, ...]:
    return read_batch(body_of(*parts), content_type=B, headers=headers, query=query).calls


def test_calls_are_complete() -> None:
    """A call's headers are its own, then the inherited ones, then the true Content-Length."""
    (call,) = read(
        b"POST /items?a=1 HTTP/1.1\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n"
        b"Authorization: inner\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
        b"Accept-Encoding: gzip\r\n\r\nhi\r\n",
        headers=(
            (b"host", b"api"),
            (b"authorization", b"outer"),
            (b"content-type", B),
            (b"content-length", b"999"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"user-agent", b"curl"),
        ),
        query=b"key=k&a=2",
    )
    assert call == Call(
        "POST",
        b"/items",
        b"a=1&key=k",
        (
            (b"authorization", b"inner"),
            (b"content-type", b"text/plain"),
            (b"host", b"api"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"user-agent", b"curl"),
            (b"content-length", b"2"),
        ),
        b"hi",
        None,
    )


def test_a_call_does_not_change_another() -> None:
    """What one call overrides, the next one inherits again (SPEC 1.3)."""
    outer = ((b"authorization", b"outer"),)
    first, second = read(
        b"GET /a HTTP/1.1\r\nAuthorization: inner", b"GET /a HTTP/1.1\r\n", headers=outer
    )
    assert first.headers == ((b"authorization", b"inner"),)
    assert second.headers == outer


@pytest.mark.parametrize(
    ("part", "lengths"),
    [
        (b"POST /a\r\n\r\nhello", [b"5"]),
        (b"POST /a\r\nContent-Length: 5\r\n\r\nhello", [b"5"]),
        (b"POST /a\r\nContent-Length: 005\r\n\r\nhello\r\n", [b"5"]),
        (b"POST /a\r\n\r\n", []),
        (b"POST /a\r\n\r\n\r\n\n", []),
        (b"POST /a\r\nContent-Length: 0\r\n\r\n\r\n", [b"0"]),
    ],
)
def test_content_length_is_true(part: bytes, lengths: list[bytes]) -> None:
    """A call with a body sees its true length; one without sees what it said itself, 0 or none."""
    (call,) = read(part, headers=((b"content-length", b"77"),))
    assert [value for name, value in call.headers if name == b"content-length"] == lengths


def test_underscores() -> None:
    """Headers with an underscore reach a call, but for WSGI, where they would be another header."""
    body = body_of(b"GET /a\r\nX_User: me\r\nX-User: you")
    own = read_batch(body, content_type=B).calls[0].headers
    assert own == ((b"x_user", b"me"), (b"x-user", b"you"))
    own = read_batch(body, content_type=B, underscores=False).calls[0].headers
    assert own == ((b"x-user", b"you"),)


def test_arguments_reach_the_inheritance() -> None:
    """Configured names cannot be overridden, and consumed query names are not inherited."""
    (call,) = read_batch(
        body_of(b"GET /a\r\nX-Tenant: mine"),
        content_type=B,
        headers=((b"x-tenant", b"theirs"),),
        query=b"comp=batch&k=v",
        not_overridable=(b"x-tenant",),
        consumed_query=("comp",),
    ).calls
    assert (call.headers, call.query) == (((b"x-tenant", b"theirs"),), b"k=v")


def test_the_batch_endpoint_is_no_target() -> None:
    """Each of the paths where the endpoint is mounted is refused; what only looks alike is not."""
    paths = (b"/v1/api/batch", b"/app/v1/api/batch")
    for path in paths:
        with pytest.raises(MalformedError, match="batch endpoint"):
            read_batch(body_of(b"POST %b" % path), content_type=B, batch_paths=paths)
    part = b"POST /v1/api/batches"
    assert read_batch(body_of(part), content_type=B, batch_paths=paths).calls[0].path


@pytest.mark.parametrize("count", [1, 2, 3])
def test_max_calls(count: int) -> None:
    """Exactly ``max_calls`` calls are accepted, and one more is refused as too many."""
    body = body_of(*[b"GET /a"] * count)
    assert len(read_batch(body, content_type=B, limits=Limits(max_calls=count)).calls) == count
    if count > 1:
        with pytest.raises(LimitError) as caught:
            read_batch(body, content_type=B, limits=Limits(max_calls=count - 1))
        error = caught.value
        assert (error.limit, error.maximum, error.status) == ("max_calls", count - 1, 413)


def test_max_calls_counts_before_reading() -> None:
    """Too many calls are refused as such even where some are malformed."""
    with pytest.raises(LimitError):
        read_batch(body_of(b"x", b"y", b"z"), content_type=B, limits=Limits(max_calls=2))


def test_header_limits_are_exact() -> None:
    """A call's block may be as long as the limits say, in bytes and in lines, and no more."""
    block = b"GET /a HTTP/1.1\r\n" + b"\r\n".join([b"A: b"] * 200)
    exact = Limits(max_header_bytes=len(block) + 1, max_header_lines=200)  # its last CR counts
    body = body_of(block + b"\r\n\r\nbody\n\n")
    assert len(read_batch(body, content_type=B, limits=exact).calls[0].headers) == 201
    for limits, name in [
        (Limits(max_header_bytes=len(block)), "max_header_bytes"),
        (Limits(max_header_lines=199), "max_header_lines"),
    ]:
        with pytest.raises(LimitError) as caught:
            read_batch(body, content_type=B, limits=limits)
        assert (caught.value.limit, caught.value.call_index) == (name, 0)


def test_max_body_bytes() -> None:
    """A body as long as the limit is read, a longer one is not."""
    body = body_of(b"GET /a")
    assert read_batch(body, content_type=B, limits=Limits(max_body_bytes=len(body)))
    with pytest.raises(LimitError) as caught:
        read_batch(body, content_type=B, limits=Limits(max_body_bytes=len(body) - 1))
    assert caught.value.limit == "max_body_bytes"


def test_offsets_count_from_the_start_of_the_body() -> None:
    """The offset of an error in a later part is that of its bytes in the whole body."""
    body = b"preamble\r\n" + body_of(b"GET /a\r\nA: b", b"POST /b\nC: d\r\nBad header\r\n\r\nx")
    with pytest.raises(MalformedError) as caught:
        read_batch(body, content_type=B)
    assert (caught.value.call_index, caught.value.offset) == (1, body.index(b"Bad header"))
    assert str(caught.value).startswith("call 2: header line without a colon at offset ")


def test_what_was_read_before_is_checked_all_the_same() -> None:
    """Remembering part headers lets no bad Content-ID through."""
    parts = [b"--b\r\nContent-ID: <%d>\r\nA: b\r\n\r\nGET /\r\n" % n for n in range(3)]
    for bad in (
        parts[2].replace(b"<2>", b"<\0>"),
        parts[2].replace(b"<2>", b"<\r>"),
        parts[2].replace(b"<2>\r\n", b"<2>\r\nContent-ID: <3>\r\n"),
    ):
        with pytest.raises(MalformedError) as caught:
            read_batch(b"".join([*parts[:2], bad, b"--b--"]), content_type=B)
        assert caught.value.call_index == 2
    folded = parts[2].replace(b"<2>\r\n", b"<2\r\n >\r\n")
    batch = read_batch(b"".join([*parts[:2], folded, b"--b--"]), content_type=B)
    assert [call.content_id for call in batch.calls] == [b"<0>", b"<1>", b"<2 >"]


def test_other_part_headers_are_not_taken_for_a_content_id() -> None:
    """A folded Content-ID, and a header whose name ends alike, are read right the second time."""
    folded = [b"--b\r\nContent-ID: <%d\r\n >\r\n\r\nGET /\r\n" % n for n in range(3)]
    alike = [b"--b\r\nX-Content-ID: <1>\r\n\r\nGET /\r\n"] * 3
    batch = read_batch(b"".join([*folded, *alike, b"--b--"]), content_type=B)
    assert [c.content_id for c in batch.calls] == [b"<0 >", b"<1 >", b"<2 >", None, None, None]


def test_short_lines_are_counted() -> None:
    """The shortest lines there are reach the limit on lines, in a call and in a part."""
    lines = b"a:\n" * 201
    for body in (b"--b\n\nGET /\n%b\n--b--" % lines, b"--b\n%b\nGET /\n--b--" % lines):
        with pytest.raises(LimitError) as caught:
            read_batch(body, content_type=B)
        assert (caught.value.limit, caught.value.maximum) == ("max_header_lines", 200)
        assert read_batch(body.replace(b"a:\n", b"", 1), content_type=B)


@pytest.mark.slow
@patient
@given(batches())
def test_calls_survive(calls: tuple[Call, ...]) -> None:
    """Writing calls and reading them gives the same calls."""
    content_type, body = write_batch(calls)
    assert read_batch(body, content_type=content_type) == Batch(calls)


@pytest.mark.slow
@patient
@given(st.data(), batches())
def test_replies_survive(data: st.DataObject, calls: tuple[Call, ...]) -> None:
    """Writing replies and reading them gives the same replies, with the calls' Content-IDs."""
    sent = [data.draw(replies(call.method)) for call in calls]
    content_type, body = write_replies(calls, sent, date=b"now")
    received = read_replies(body, content_type=content_type)
    assert received == [(c.content_id, reply) for c, reply in zip(calls, sent, strict=True)]


@pytest.mark.slow
@patient
@given(
    batches(),
    st.sampled_from([b"", b"\r\n", b"\n\n", b"preamble\r\n", b"--\r\n"]),
    st.sampled_from([b"", b" ", b"\t \t"]),
    st.sampled_from([b"", b"\r\n", b"\nepilogue", b"\r\n--\r\n"]),
)
def test_what_surrounds_calls_does_not_matter(
    calls: tuple[Call, ...], before: bytes, padding: bytes, after: bytes
) -> None:
    """Preamble, epilogue, and white space after delimiters and bodies change no call."""
    content_type, body = write_batch(calls)
    delimiter = b"--" + content_type.partition(b"=")[2]
    body = body.removesuffix(b"\r\n").replace(delimiter + b"\r\n", delimiter + padding + b"\r\n")
    if all(call.body for call in calls):  # they have a Content-Length then
        body = body.replace(b"\r\n" + delimiter, padding + b"\n\r\n" + delimiter)
    assert read_batch(before + body + padding + after, content_type=content_type) == Batch(calls)


@pytest.mark.slow
@patient
@given(st.data(), batches())
def test_line_ends_do_not_matter(data: st.DataObject, calls: tuple[Call, ...]) -> None:
    """Each line may end in CRLF or LF, whatever the others end in."""
    calls = tuple(c._replace(body=c.body.replace(b"\r", b"").strip(b"\n")) for c in calls)
    content_type, body = write_batch(calls)
    lines = re.split(b"\r\n", body)
    ends = data.draw(st.lists(st.sampled_from([b"\r\n", b"\n"]), min_size=len(lines)))
    mixed = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    assert read_batch(mixed, content_type=content_type) == read_batch(
        body, content_type=content_type
    )


DELIMITER = b"--Batch_8f3A"
PARTS = [
    b"POST /a HTTP/1.1\r\n\r\n{}\r\n",
    b"DELETE /b?id=eq.1 HTTP/1.1\r\n\r\n",
    b"PATCH /c HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\r\n",
    b"GET /d\r\n\r\n",
]


@patient
@given(
    st.permutations(PARTS),
    st.sampled_from([b"", b"Content-Type: application/http\r\n", b"A: b\r\n"]),
    st.booleans(),
    st.integers(1, 3),
    st.integers(0, len(DELIMITER)),
    st.integers(0, 3),
    st.sampled_from([b"", b" ", b"-", b">", b"\xef\xbb\xbf", b"\r"]) | st.binary(max_size=2),
)
def test_no_call_gets_lost(
    parts: list[bytes], head: bytes, lf: bool, number: int, at: int, removed: int, added: bytes
) -> None:
    """However one delimiter is broken: all calls are read, or the batch is refused."""
    delimiters = [DELIMITER] * len(parts)
    delimiters[number] = DELIMITER[:at] + added + DELIMITER[at + removed :]
    pairs = zip(delimiters, parts, strict=True)
    body = b"".join(b"%b\r\n%b\r\n%b\r\n" % (line, head, part) for line, part in pairs)
    body += DELIMITER + b"--\r\n"
    if lf:
        body = body.replace(b"\r\n", b"\n")
    try:
        calls = read_batch(body, content_type=b"multipart/mixed; boundary=Batch_8f3A").calls
    except WireError:
        return
    assert len(calls) == len(parts)


SEED = (
    b"--b\r\nContent-Type: application/http\r\nContent-ID: <1>\r\n\r\n"
    b"POST /a?b=c HTTP/1.1\r\nContent-Length: 2\r\nA: b\r\n\r\n{}\r\n"
    b"--b\n\nGET /b\n\n\n--b--\r\n"
)
PIECES = [
    *(b"\r", b"\n", b"\r\n", b"--b", b"--b--", b"\r\n--b\r\n", b"\n\n", b" ", b"\t", b"\0", b":"),
    *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-ID: <1>\r\n", b"\xff"),
]


@patient
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SEED)), st.integers(0, 4), st.sampled_from(PIECES) | st.binary()
        ),
        min_size=1,
        max_size=4,
    )
)
@example([(0, 0, b"\n")])
def test_anything_is_read_or_refused(changes: Sequence[tuple[int, int, bytes]]) -> None:
    """Whatever the bytes, they are calls that survive, or a WireError that says where."""
    body = SEED
    for at, removed, inserted in changes:
        body = body[:at] + inserted + body[at + removed :]
    refused = None
    try:
        batch = read_batch(body, content_type=B)
    except WireError as error:
        refused = error
    if refused is not None:
        assert refused.offset is not None
        assert 0 <= refused.offset <= len(body)
    else:
        content_type, written = write_batch(batch.calls)
        assert read_batch(written, content_type=content_type) == batch


@patient
@given(st.binary(max_size=80))
def test_any_content_type_is_read_or_refused(content_type: bytes) -> None:
    """No Content-Type raises anything but a WireError."""
    with pytest.raises(WireError):
        read_batch(b"", content_type=content_type)


def test_a_client_reads_what_other_servers_send() -> None:
    """LF, quotes, a length without a body (HEAD), and Content-IDs as they are, are understood."""
    body = (
        b"\n--x y\nContent-Type: application/http\nContent-ID: <response-item + 1>\n\n"
        b"HTTP/2 200\nContent-Length: 10\n\n\n--x y\nContent-ID: foreign\n\n"
        b"HTTP/1.1 404 Not Found\nA: b\n\nno\n--x y--"
    )
    assert read_replies(body, content_type=b'multipart/mixed; boundary="x y"') == [
        (b"<item + 1>", Reply(200, ((b"content-length", b"10"),), b"")),
        (b"foreign", Reply(404, ((b"a", b"b"),), b"no")),
    ]


def test_a_client_refuses_what_is_no_response() -> None:
    """A broken reply is named by its index and offset; another media type is no batch response."""
    body = body_of(b"HTTP/1.1 200 OK\r\nA: b\r\n", b"HTTP/1.1 200 OK\r\nA b\r\n")
    with pytest.raises(MalformedError) as caught:
        read_replies(body, content_type=B)
    assert (caught.value.call_index, caught.value.offset) == (1, body.index(b"A b"))
    with pytest.raises(MalformedError, match="no HTTP status line") as caught:
        read_replies(body_of(b"HTTP/1.1 OK"), content_type=B)
    assert caught.value.call_index == 0
    with pytest.raises(MediaTypeError):
        read_replies(b"{}", content_type=b"application/problem+json")


def test_as_many_replies_as_calls() -> None:
    """A response that would leave a call unanswered is a mistake of ours and is not written."""
    call = Call("GET", b"/", b"", (), b"")
    with pytest.raises(ValueError, match="zip"):
        write_replies([call], [], date=b"now")
    with pytest.raises(ValueError, match="part"):
        write_replies([], [], date=b"now")
