"""Exchange: the outer HTTP exchange, without I/O."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from atomicbatch import (
    Batch,
    BusyError,
    Call,
    ConflictError,
    LimitError,
    Limits,
    MalformedError,
    MediaTypeError,
    Outcome,
    Reply,
    UnknownOutcomeError,
    UnsupportedError,
)
from atomicbatch.codings import decode, encode, supported
from atomicbatch.exchange import (
    Response,
    check_head,
    http_date,
    nested_batch,
    read_request,
    refusal,
    write_response,
)
from atomicbatch.wire.batch import read_replies, write_batch

LIMITS = Limits(max_body_bytes=10_000)
CALLS = (
    Call("GET", b"/a", b"", (), b"", b"<1>"),
    Call("POST", b"/b", b"x=1", ((b"content-type", b"text/plain"),), b"hello", b"<2>"),
)
CONTENT_TYPE, BODY = write_batch(CALLS)
HEADERS = ((b"content-type", CONTENT_TYPE), (b"authorization", b"Bearer x"))
PATHS = (b"/v1/api/batch",)


def head(*headers: tuple[bytes, bytes], method: str = "POST") -> Response | None:
    return check_head(method, headers, LIMITS)


def problem(response: Response | None) -> tuple[int, str, dict[bytes, bytes]]:
    assert response is not None
    headers = dict(response.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(response.body)).encode()
    document = json.loads(response.body)
    assert document["status"] == response.status
    return response.status, document["type"].rpartition(":")[2], headers


def test_a_good_head_is_let_through() -> None:
    """POST with multipart/mixed, however it is spelled: go on and read the body."""
    assert head(*HEADERS) is None
    assert head((b"content-type", b' Multipart/MIXED ; boundary="a b"')) is None
    assert head(*HEADERS, (b"content-encoding", b"gzip"), (b"content-length", b"10000")) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "post", "BREW"])
def test_other_methods(method: str) -> None:
    """405 with Allow, and the batch did not start (SPEC 2.8)."""
    status, slug, headers = problem(head(*HEADERS, method=method))
    assert (status, slug) == (405, "method-not-allowed")
    assert headers[b"allow"] == b"POST, OPTIONS"
    assert headers[b"batch-outcome"] == b"not-started"


def test_options_tells_limits_and_features() -> None:
    """OPTIONS answers the limits and features as JSON, with Accept-Post and Allow (SPEC 2.8)."""
    response = head(method="OPTIONS")
    assert response is not None
    assert response.status == 200
    headers = dict(response.headers)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"accept-post"] == b"multipart/mixed"
    assert headers[b"allow"] == b"POST, OPTIONS"
    document = json.loads(response.body)
    assert document["limits"]["max_body_bytes"] == 10_000
    assert set(document["limits"]) == set(Limits.__slots__)
    assert document["features"]["content_encodings"] == list(supported())


@pytest.mark.parametrize("value", [None, b"application/json", b"multipart/form-data", b"", b"x"])
def test_other_media_types(value: bytes | None) -> None:
    """415 with Accept-Post (SPEC 2.8)."""
    given = () if value is None else ((b"content-type", value),)
    status, slug, headers = problem(head(*given))
    assert (status, slug) == (415, "unsupported-media-type")
    assert headers[b"accept-post"] == b"multipart/mixed"


def test_two_content_types() -> None:
    """Two Content-Types are two readings of one body: refused."""
    assert problem(head(*HEADERS, *HEADERS))[:2] == (400, "malformed-batch")


NOT_SUPPORTED = [
    (b"idempotency-key", b'"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
    (b"idempotency-key", b""),
    (b"repeatability-request-id", b"x"),
    (b"batch-references", b"1"),
    (b"batch-if", b"digest"),
    (b"prefer", b"tx=rollback"),
    (b"prefer", b"tx=commit"),
    (b"prefer", b"return=minimal, TX = Rollback; x=y"),
    (b"prefer", b'wait=10,tx="rollback"'),
    (b"prefer", b"all-errors"),
    (b"prefer", b"diff"),
    (b"prefer", b"handling=strict, respond-async"),
    (b"prefer", b"continue-on-error, handling=Strict"),
    # A quote that does not end may hide any of them.
    (b"prefer", b'x="y, tx=rollback'),
    (b"prefer", b'x="y\\", tx=rollback'),
    (b"x-http-method-override", b"GET"),
    (b"x-http-method", b"PATCH"),
    (b"x-method-override", b"delete"),
]


@pytest.mark.parametrize("header", NOT_SUPPORTED, ids=repr)
def test_what_is_not_supported(header: tuple[bytes, bytes]) -> None:
    """400 before the body is read: who asks for a batch that is not kept must not get one."""
    response = head(*HEADERS, (b"prefer", b"return=minimal"), header)
    status, slug, headers = problem(response)
    assert (status, slug) == (400, "not-supported")
    assert headers[b"batch-outcome"] == b"not-started"
    with pytest.raises(UnsupportedError):
        read_request((*HEADERS, header), b"", BODY, limits=LIMITS, batch_paths=PATHS)


@pytest.mark.parametrize(
    "header",
    [
        (b"prefer", b"respond-async, wait=10, continue-on-error"),
        (b"prefer", b"handling=strict, return=minimal, max-affected=1"),
        (b"prefer", b'x="tx=rollback, all-errors"'),
        (b"prefer", b"txt=rollback, handling=lenient"),
        (b"x-http-method-override", b"Post"),
        (b"batch-name", b"x"),
        (b"if-none-match", b'"x"'),
    ],
    ids=repr,
)
def test_what_is_supported_or_may_be_ignored(header: tuple[bytes, bytes]) -> None:
    """A preference about the answer may be ignored, and those about calls are theirs to judge."""
    assert head(*HEADERS, header) is None
    assert read_request((*HEADERS, header), b"", BODY, limits=LIMITS, batch_paths=PATHS)


@pytest.mark.parametrize("name", [b"Batch-References", b"batch-if"])
def test_what_no_call_may_ask_for(name: bytes) -> None:
    """400, and the call is named: without references its URL would be something else."""
    body = b"--b\r\n\r\nGET /a\r\n--b\r\n\r\nGET /b\r\nA: b\r\n%b: 1\r\n\r\n--b--" % name
    headers = ((b"content-type", b"multipart/mixed; boundary=b"),)
    with pytest.raises(UnsupportedError) as caught:
        read_request(headers, b"", body, limits=LIMITS, batch_paths=PATHS)
    assert (caught.value.status, caught.value.call_index) == (400, 1)


def test_an_unknown_content_encoding() -> None:
    """415, and Accept-Encoding says what we take (RFC 9110, section 15.5.16)."""
    status, _, headers = problem(head(*HEADERS, (b"content-encoding", b"rot13")))
    assert status == 415
    assert headers[b"accept-encoding"].split(b", ") == [name.encode() for name in supported()]


@pytest.mark.parametrize("length", [b"10001", b"9" * 5000])
def test_a_body_that_says_it_is_too_long(length: bytes) -> None:
    """413 before a byte of it is read, and the limit is named."""
    response = head(*HEADERS, (b"content-length", length))
    assert problem(response)[:2] == (413, "limit-exceeded")
    assert response is not None
    assert json.loads(response.body)["limit"] == "max_body_bytes"


def test_a_content_length_that_is_none() -> None:
    """What is no number is the HTTP server's business; the body is measured anyway."""
    assert head(*HEADERS, (b"content-length", b"10k")) is None


def read(body: bytes, *headers: tuple[bytes, bytes]) -> Batch:
    return read_request(HEADERS + headers, b"", body, limits=LIMITS, batch_paths=PATHS)


def test_a_plain_body() -> None:
    """The calls of the body, with what they inherit."""
    batch = read(BODY)
    assert [(call.method, call.path, call.body) for call in batch.calls] == [
        ("GET", b"/a", b""),
        ("POST", b"/b", b"hello"),
    ]
    assert (b"authorization", b"Bearer x") in batch.calls[0].headers


@pytest.mark.parametrize("coding", supported())
def test_an_encoded_body(coding: str) -> None:
    """Content-Encoding is undone before the body is read (SPEC 2.7)."""
    batch = read(encode(BODY, coding), (b"content-encoding", coding.encode()))
    assert batch == read(BODY)


def test_codings_are_undone_last_first() -> None:
    """Content-Encoding lists codings in the order they were applied."""
    body = encode(encode(BODY, "deflate"), "gzip")
    assert read(body, (b"content-encoding", b"deflate, gzip")) == read(BODY)


def test_the_body_is_bounded_before_and_after() -> None:
    """The limit holds for the bytes sent and for what comes out of them."""
    with pytest.raises(LimitError):
        read(bytes(10_001))
    with pytest.raises(LimitError):
        read(zlib.compress(bytes(10_001)), (b"content-encoding", b"deflate"))


def test_a_body_that_is_longer_encoded_than_not() -> None:
    """Bytes that cannot be compressed count as they are sent."""
    body = encode(random.Random(1).randbytes(10_000), "gzip")
    with pytest.raises(LimitError):
        read(body, (b"content-encoding", b"gzip"))


def test_a_corrupt_encoding() -> None:
    """Data that is not what Content-Encoding says is malformed."""
    with pytest.raises(MalformedError):
        read(BODY, (b"content-encoding", b"gzip"))


BATCH = Batch(CALLS)
COMMITTED = Outcome(True, (Reply(200, (), b"a"), Reply(201, (), b"b" * 3000)))
ROLLED_BACK = Outcome(False, (Reply(200, (), b"a"), Reply(409, (), b"no")), failed=1)


def test_a_committed_response() -> None:
    """200, Batch-Outcome, and one part for each call in order (SPEC 5.1, 1.7)."""
    response = write_response((), BATCH, COMMITTED)
    headers = dict(response.headers)
    assert response.status == 200
    assert headers[b"batch-outcome"] == b"committed"
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert b"batch-attempts" not in headers
    assert headers[b"vary"] == b"accept-encoding"
    replies = read_replies(response.body, content_type=headers[b"content-type"])
    assert [(r.status, r.body) for _, r in replies] == [(200, b"a"), (201, b"b" * 3000)]
    assert all(any(name == b"date" for name, _ in r.headers) for _, r in replies)


def test_a_rolled_back_response() -> None:
    """200 as well unless configured otherwise; the header is loud (SPEC 5.1)."""
    response = write_response((), BATCH, ROLLED_BACK)
    headers = dict(response.headers)
    assert response.status == 200
    assert headers[b"batch-outcome"] == b"rolled-back; failed=2; status=409"
    assert write_response((), BATCH, ROLLED_BACK, rolled_back_status=409).status == 409
    assert write_response((), BATCH, COMMITTED, rolled_back_status=409).status == 200


def test_attempts_are_told_where_there_were_several() -> None:
    """``Batch-Attempts: n`` says how often the batch ran (SPEC 6.1)."""
    response = write_response((), BATCH, COMMITTED._replace(attempts=3))
    assert dict(response.headers)[b"batch-attempts"] == b"3"


@pytest.mark.parametrize("coding", supported())
def test_the_response_is_compressed(coding: str) -> None:
    """Accept-Encoding is honoured for the response as a whole (SPEC 5.5)."""
    plain = write_response((), BATCH, COMMITTED)
    response = write_response(((b"accept-encoding", coding.encode()),), BATCH, COMMITTED)
    headers = dict(response.headers)
    assert headers[b"content-encoding"] == coding.encode()
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert len(response.body) < len(plain.body) / 2
    body = decode(response.body, [coding], 100_000)
    assert len(read_replies(body, content_type=headers[b"content-type"])) == 2


def test_a_small_response_is_not_compressed() -> None:
    """Below a kilobyte it would cost more than it gives, unless the client insists."""
    small = Outcome(True, (Reply(200, (), b""),) * 2)
    for value, compressed in [(b"gzip", False), (b"gzip, identity;q=0", True)]:
        response = write_response(((b"accept-encoding", value),), BATCH, small)
        assert (b"content-encoding" in dict(response.headers)) is compressed


def test_a_response_in_no_acceptable_coding() -> None:
    """The batch is committed by now: an answer as it is beats none (RFC 9110, section 12.5.3)."""
    response = write_response(((b"accept-encoding", b"*;q=0"),), BATCH, COMMITTED)
    assert response.status == 200
    assert b"content-encoding" not in dict(response.headers)


def test_refusals() -> None:
    """One problem document with the error's status; the batch did not start (SPEC 5.3)."""
    response = refusal(MalformedError("bad", call_index=0, offset=12))
    status, slug, headers = problem(response)
    assert (status, slug) == (400, "malformed-batch")
    assert headers[b"batch-outcome"] == b"not-started"
    document = json.loads(response.body)
    assert (document["call"], document["offset"]) == (1, 12)
    assert b"accept-post" not in headers
    assert problem(refusal(MediaTypeError("x")))[2][b"accept-post"] == b"multipart/mixed"


@pytest.mark.parametrize("error", [BusyError("x"), ConflictError("x")])
def test_refusals_that_pass(error: BusyError) -> None:
    """503 with Retry-After where trying again may help."""
    status, _, headers = problem(refusal(error))
    assert (status, headers[b"retry-after"]) == (503, b"1")


def test_an_unknown_outcome_says_so() -> None:
    """After a lost COMMIT: 503, ``Batch-Outcome: unknown``, and no invitation to send it again."""
    status, slug, headers = problem(refusal(UnknownOutcomeError("lost")))
    assert (status, slug, headers[b"batch-outcome"]) == (503, "outcome-unknown", b"unknown")
    assert b"retry-after" not in headers


def test_a_nested_batch() -> None:
    """A call that reaches a batch endpoint is answered 400."""
    assert problem(nested_batch())[:2] == (400, "nested-batch")


def test_dates() -> None:
    """The date is an IMF-fixdate (RFC 9110, section 5.6.7)."""
    assert http_date(784_111_777) == b"Sun, 06 Nov 1994 08:49:37 GMT"
