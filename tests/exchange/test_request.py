"""Request: head and body -> Batch."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from atomicbatch import LimitError, MalformedError
from atomicbatch.codings import encode, supported
from atomicbatch.exchange import Head, Response
from tests.exchange.asking import BODY, HEADERS, head, problem, read


def test_a_good_head_is_let_through() -> None:
    """POST with multipart/mixed, however it is spelled: go on and read the body."""
    assert isinstance(head(*HEADERS), Head)
    assert isinstance(head((b"content-type", b' Multipart/MIXED ; boundary="a b"')), Head)
    assert isinstance(
        head(*HEADERS, (b"content-encoding", b"gzip"), (b"content-length", b"10000")), Head
    )


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
    assert isinstance(response, Response)
    assert json.loads(response.body)["limit"] == "max_body_bytes"


def test_a_content_length_that_is_none() -> None:
    """What is no number is the HTTP server's business; the body is measured anyway."""
    assert isinstance(head(*HEADERS, (b"content-length", b"10k")), Head)


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
    batch = read(encode(BODY, coding), (*HEADERS, (b"content-encoding", coding.encode())))
    assert batch == read(BODY)


def test_codings_are_undone_last_first() -> None:
    """Content-Encoding lists codings in the order they were applied."""
    body = encode(encode(BODY, "deflate"), "gzip")
    assert read(body, (*HEADERS, (b"content-encoding", b"deflate, gzip"))) == read(BODY)


def test_the_body_is_bounded_before_and_after() -> None:
    """The limit holds for the bytes sent and for what comes out of them."""
    with pytest.raises(LimitError):
        read(bytes(10_001))
    with pytest.raises(LimitError):
        read(zlib.compress(bytes(10_001)), (*HEADERS, (b"content-encoding", b"deflate")))


def test_a_body_that_is_longer_encoded_than_not() -> None:
    """Bytes that cannot be compressed count as they are sent."""
    body = encode(random.Random(1).randbytes(10_000), "gzip")
    with pytest.raises(LimitError):
        read(body, (*HEADERS, (b"content-encoding", b"gzip")))


def test_a_corrupt_encoding() -> None:
    """Data that is not what Content-Encoding says is malformed."""
    with pytest.raises(MalformedError):
        read(BODY, (*HEADERS, (b"content-encoding", b"gzip")))
