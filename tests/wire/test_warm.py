"""What readers remember changes nothing: warm or cold, in whatever order, they read the same."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.errors import WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Headers, Reply
from atomicbatch.wire import batch, write_batch
from atomicbatch.wire.call import CallReader
from atomicbatch.wire.multipart import boundary_of
from atomicbatch.wire.reply import ReplyReader
from atomicbatch.wire.rules import Rules
from tests.wire.hostile import HOSTILE, UNBOUNDED
from tests.wire.strategies import batches, patient
from tests.wire.test_corpus import CORPUS, INDEX

PATHS = (b"/v1/api/batch",)
B = b"multipart/mixed; boundary=b"
OUTER: Headers = (
    (b"host", b"api"),
    (b"authorization", b"outer"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"connection", b"keep-alive"),
    (b"accept", b"multipart/mixed, text/plain"),
)
QUERY = b"key=k&a=9"

Read = tuple[Any, ...]


class Cold(CallReader):
    """Takes no short cut: each part is read as if it were the first."""

    def read(self, content: bytes) -> Call:
        self._blocks.clear()
        return self._read_any(content)


def read(
    body: bytes,
    rules: Rules,
    *,
    content_type: bytes = B,
    headers: Headers = OUTER,
    query: bytes = b"",
) -> Read:
    """All that reading comes to: the calls, or the error with all that it tells."""
    try:
        boundary = boundary_of(content_type)
        return batch.read_calls(
            boundary, body, headers=headers, query=query, batch_paths=PATHS, rules=rules
        ).calls
    except WireError as error:
        return type(error), vars(error), str(error)


def read_cold(body: bytes, limits: Limits | None = None, **kwargs: Any) -> Read:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "CallReader", Cold)
        return read(body, Rules(limits), **kwargs)


HEADS = [
    b"Content-Type: application/http\r\n",
    b"Content-Type: application/http\r\nContent-ID: <%d>\r\n",
    b"Content-ID: <%d>\r\nContent-Type: application/http\r\n",
    b"Content-Type: application/http\r\nContent-ID: <%d>\r\nMIME-Version: 1.0\r\n",
    b"Content-Type: application/http\r\nContent-ID: <%080d>\r\n",
    b"Content-ID: %d\r\n",
    b"X-Content-ID: %d\r\n",
    b"\r\n",
    b"A: b\r\nContent-ID: <%d\r\n >\r\n",
    b"A: b\r\n c: d\r\n",
    b"A: b\r\nContent-ID: <%d>\r\n c: d\r\n",
    b"content-id: %d\r\nContent-ID: %d\r\n",
    b"Content-ID: <\0%d>\r\n",
    b"Content-ID: \r\n",
    b"Content-Type: application/http\r\nContent-ID: \r\n",
    b"Content-Type: application/http\r\ncontent-id: \r\n",
    b"Content-ID: <%d>\r\nContent-Type: application/http\r\nContent-ID: \r\n",
    b"Content-Type: application/http\r\ncontent-id: \r\nContent-ID: <%d>\r\n",
    b"A:\n",
    b"A\r\n",
    b"\r\nContent-ID: <%d>\r\nContent-Type: application/http\r\n",
    b"\r\nContent-ID: <%d>\r\n",
    b"",
]
LINES = [
    *(b"POST /items HTTP/1.1", b"GET /items/%d HTTP/1.1", b"GET /items?a=%d HTTP/1.1", b"GET /a"),
    *(b"CONNECT /", b"GET //a", b"POST /v1/api/batch", b"GET /\r", b"\nGET /", b"GET /\nA: b"),
]
FIELDS = [
    *(b"Content-Type: application/json", b"Content-Length: 2", b"Content-Length: %d", b"A: %d"),
    *(b"Content-Length: 02", b"content-length: 2", b"X-Content-Length: 2", b"Authorization: own"),
    *(b"X: Content-Length: 2", b"Content-Length: 2\r\nContent-Length: %d", b"Batch-If: 1"),
    *(b"Content-Length: 9999999999999999999", b"X-Forwarded-For: evil", b"Transfer-Encoding: x"),
    *(
        b"A: b\n\nC: d",
        b"A: b\n\r\nC: d",
        b"A: b\r",
        b"\nA: b",
        b"\nContent-Length: 2",
        b"A",
        b" A: b",
        b"",
        b"\r",
    ),
    *(b"Content-Length: 2\n", b"\n\nContent-Length: 2", b"Content-Length: 2\n\nA: b"),
]
ENDS = [
    *(b"", b"\r\n", b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\n\r\n\r\n", b"\r\r\n\r\n"),
    *(b"\r", b"\n", b"\r\n\r\n\r\n"),
]
BODIES = [b"", b"{}", b"{}\r\n", b"{}x", b"\r\n", b"GET / HTTP/1.1\r\n", b"x" * 40]


def part_of(head: bytes, line: bytes, fields: Sequence[bytes], end: bytes, body: bytes) -> bytes:
    return head + b"\r\n" + b"\r\n".join([line, *fields]) + end + body


def body_of(parts: Sequence[bytes]) -> bytes:
    """A batch of parts in which a number takes the place of each ``%d``."""
    numbered = [
        part.replace(b"%d", b"%d" % number).replace(b"%080d", b"%080d" % number)
        for number, part in enumerate(parts)
    ]
    return b"".join([b"--b\r\n%b\r\n" % part for part in numbered]) + b"--b--\r\n"


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    """A part such as clients send, or nearly."""
    usual = draw(st.booleans())
    head = draw(st.sampled_from(HEADS[:4] if usual else HEADS))
    line = draw(st.sampled_from(LINES[:4] if usual else LINES))
    fields = draw(st.lists(st.sampled_from(FIELDS[:4] if usual else FIELDS), max_size=3))
    end = draw(st.sampled_from(ENDS[2:3] if usual else ENDS))
    body = draw(st.sampled_from(BODIES[:3] if usual else BODIES))
    return part_of(head, line, fields, end, body)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A batch in CRLF, LF, or something between them."""
    body = body_of(draw(st.lists(parts(), min_size=1, max_size=4)))
    if draw(st.integers(0, 3)) == 0:
        body = body.replace(b"\r\n", b"\n")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(body)))
        inserted = draw(
            st.sampled_from([b"\r", b"\n", b" ", b"\0", b":", b"\r\n", b"Content-ID: "])
        )
        body = body[:at] + inserted + body[at + draw(st.integers(0, 2)) :]
    return body


LIMITS = [Limits(), Limits(max_header_lines=2), Limits(max_header_bytes=100), UNBOUNDED]
# They stay warm from one example to the next.
WARM = [Rules(limits) for limits in LIMITS]


@patient
@given(
    st.lists(bodies(), min_size=1, max_size=3),
    st.integers(0, len(LIMITS) - 1),
    st.sampled_from([b"", b"", QUERY]),
)
def test_any_body(drawn: list[bytes], which: int, query: bytes) -> None:
    """Whatever came before, the calls and the errors are those of a reader that knows nothing."""
    for body in [*drawn, *reversed(drawn)]:
        expected = read_cold(body, LIMITS[which], query=query)
        assert read(body, WARM[which], query=query) == expected


def odd_batches() -> Iterator[bytes]:
    """Parts with something odd in one or two places, each behind usual ones that are known then."""
    usual = [part_of(head, LINES[0], FIELDS[:2], b"\r\n\r\n", b"{}") for head in HEADS[:6]]
    usual.append(part_of(HEADS[0], LINES[1], (), b"\r\n", b""))
    for first, second in itertools.product(HEADS, HEADS):
        for end in (b"\r\n\r\n", b"\n\n"):
            heads = [part_of(head, LINES[0], (), end, b"") for head in (first, second)]
            yield body_of([*usual, *heads])
    for line, field, end in itertools.product(LINES, FIELDS, ENDS):
        yield body_of([usual[0], part_of(HEADS[0], line, (field,), end, b"{}")])
    for line, end, body in itertools.product(LINES, ENDS, BODIES):
        yield body_of([usual[0], part_of(HEADS[0], line, (), end, body)])
    for field in FIELDS:
        for fields in ((field, *FIELDS[:2]), (*FIELDS[:2], field), (FIELDS[0], field, FIELDS[3])):
            yield body_of([*usual, part_of(HEADS[1], LINES[0], fields, b"\r\n\r\n", b"{}")])


@pytest.mark.slow
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("limits", LIMITS[:3])
def test_what_is_odd_among_the_usual(limits: Limits, newline: bytes) -> None:
    """What is known of usual parts lets nothing through that resembles them."""
    rules = Rules(limits)
    for body in odd_batches():
        body = body.replace(b"\r\n", newline)
        assert read(body, rules) == read_cold(body, limits)


@pytest.mark.slow
@patient
@given(st.lists(batches(), min_size=1, max_size=3))
def test_any_calls(drawn: Sequence[tuple[Call, ...]]) -> None:
    """The same for all that a client can write."""
    for calls in [*drawn, *reversed(drawn)]:
        content_type, body = write_batch(calls)
        expected = read_cold(body, content_type=content_type)
        assert read(body, WARM[0], content_type=content_type) == expected


def test_the_corpus() -> None:
    """The same for each body of the corpus, whichever was read before it."""
    cases = INDEX["good"] + INDEX["bad"]
    warm = {str(case.get("limits")): Rules(Limits(**case.get("limits", {}))) for case in cases}
    for case in [*cases, *cases, *reversed(cases)]:
        body, content_type = (CORPUS / case["file"]).read_bytes(), case["content_type"].encode()
        expected = read_cold(body, Limits(**case.get("limits", {})), content_type=content_type)
        assert read(body, warm[str(case.get("limits"))], content_type=content_type) == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies(name: str) -> None:
    """The same for bodies that are made to take long."""
    body, content_type, headers, query = HOSTILE[name](3000)
    said: dict[str, Any] = {"content_type": content_type, "headers": headers, "query": query}
    expected = read_cold(body, UNBOUNDED, **said)
    for _ in range(2):
        assert read(body, WARM[3], **said) == expected


def test_no_request_reaches_another() -> None:
    """Many clients at once ask one endpoint: each call has the headers of its own request."""
    rules = Rules(not_overridable=(b"x-tenant",))
    wrong: list[Headers] = []

    def ask(client: int) -> None:
        outer = (
            (b"authorization", b"outer %d" % client),
            (b"x-forwarded-for", b"10.0.0.%d" % client),
            (b"x-tenant", b"%d" % client),
        )
        own = b"POST /a HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Tenant: 6\r\n"
        part = b"--b\r\nContent-Type: application/http\r\n\r\n%b\r\n{}\r\n"
        mine = own + b"Authorization: own %d\r\nContent-Length: 2\r\n" % client
        body = part % (own + b"Content-Length: 2\r\n") + part % mine + b"--b--\r\n"
        length = ((b"content-length", b"2"),)
        expected = [
            (*outer, *length),
            ((b"authorization", b"own %d" % client), *outer[1:], *length),
        ]
        for _ in range(200):
            calls = read(body, rules, headers=outer, query=b"token=%d" % client)
            if [call.headers for call in calls] != expected or any(
                call.query != b"token=%d" % client for call in calls
            ):
                wrong.append(calls)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def remembered(rules: Rules) -> str:
    """Everything that stays of the batches that were read by these rules."""
    targets = rules.targets(PATHS)
    return repr([rules.fates, rules.settable, rules.part_heads, vars(targets)])


def test_no_secret_is_remembered() -> None:
    """Nothing stays of a value, a query or a Content-ID: neither the request's nor a call's."""
    rules = Rules()
    body = (
        b"--b\r\nContent-Type: application/http\r\nContent-ID: <secret-1>\r\n\r\n"
        b"GET /a?token=secret-2 HTTP/1.1\r\nAuthorization: secret-3\r\nX-A: secret-4\r\n\r\n"
        b"\r\n--b--\r\n"
    )
    outer = ((b"authorization", b"secret-5"), (b"cookie", b"secret-6"))
    for _ in range(2):
        (call,) = read(body, rules, headers=outer, query=b"key=secret-7")
        assert call.query == b"token=secret-2&key=secret-7"
    assert "authorization" in remembered(rules)
    assert "secret" not in remembered(rules)


def all_different(count: int) -> bytes:
    return (
        b"".join(
            b"--b\r\nContent-Type: application/http\r\nContent-ID: <%d>\r\nX: %d\r\n\r\n"
            b"POST /items/%d HTTP/1.1\r\nX-Request-ID: %d\r\nContent-Length: 9\r\n\r\n%09d\r\n"
            % ((number,) * 5)
            for number in range(count)
        )
        + b"--b--\r\n"
    )


@pytest.mark.slow
def test_memory_of_calls_that_are_all_different() -> None:
    """Remembering costs little beside the calls themselves, and next to nothing stays."""
    body, rules = all_different(3000), Rules(Limits(max_calls=3000))
    read(all_different(10), rules)
    tracemalloc.start()
    try:
        calls = read(body, rules)
        size, peak = tracemalloc.get_traced_memory()
        assert len(calls) == 3000
        del calls
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * size
    assert left < size / 3  # of 3000 only 1000 are remembered


class ColdReplies(ReplyReader):
    """The same on the client's side."""

    def read(self, content: bytes) -> tuple[bytes | None, Reply]:
        return self._read_any(content)


def replies_of(body: bytes) -> Read:
    try:
        return tuple(batch.read_replies(body, content_type=B))
    except WireError as error:
        return type(error), vars(error), str(error)


STATUS_LINES = [b"HTTP/1.1 200 OK", b"HTTP/1.1 204", b"HTTP/1.1 200 OK\r", b"GET /", b"HTTP/1.1 99"]


@pytest.mark.slow
def test_odd_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's reader, too, lets nothing through that resembles what it knows."""
    usual = part_of(HEADS[1], STATUS_LINES[0], FIELDS[:2], b"\r\n\r\n", b"{}")
    drawn = [part_of(head, STATUS_LINES[0], (), b"\r\n\r\n", b"x") for head in HEADS]
    drawn += [
        part_of(HEADS[1], line, fields, end, body)
        for line, end, body in itertools.product(STATUS_LINES, ENDS, BODIES[:4])
        for fields in ((), *((field,) for field in FIELDS))
    ]
    given = [
        body_of([usual, part]).replace(b"\r\n", newline)
        for part, newline in itertools.product(drawn, (b"\r\n", b"\n"))
    ]
    warm = [replies_of(body) for body in given]
    monkeypatch.setattr(batch, "ReplyReader", ColdReplies)
    assert warm == [replies_of(body) for body in given]
