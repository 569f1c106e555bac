"""Preferences: what is asked of the batch as a whole."""

from __future__ import annotations

import pytest

from atomicbatch import UnsupportedError
from atomicbatch.exchange import Head
from tests.exchange.asking import BODY, HEADERS, head, problem, read

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
        read(BODY, (*HEADERS, header))


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
    assert isinstance(head(*HEADERS, header), Head)
    assert read(BODY, (*HEADERS, header))


@pytest.mark.parametrize("name", [b"Batch-References", b"batch-if"])
def test_what_no_call_may_ask_for(name: bytes) -> None:
    """400, and the call is named: without references its URL would be something else."""
    body = b"--b\r\n\r\nGET /a\r\n--b\r\n\r\nGET /b\r\nA: b\r\n%b: 1\r\n\r\n--b--" % name
    headers = ((b"content-type", b"multipart/mixed; boundary=b"),)
    with pytest.raises(UnsupportedError) as caught:
        read(body, headers)
    assert (caught.value.status, caught.value.call_index) == (400, 1)
