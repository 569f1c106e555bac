"""Raw batches are checked, and mistakes pointed at."""

from __future__ import annotations

from atomicbatch.client.check import check_batch
from atomicbatch.model import Call
from atomicbatch.wire.batch import write_batch

CALLS = [
    Call("POST", b"/v1/api/x", b"a=1", ((b"content-type", b"text/plain"),), b"body"),
    Call("GET", b"/v1/api/x", b"", (), b""),
]


def test_a_good_body() -> None:
    """Its calls are listed, whether or not the Content-Type is told."""
    content_type, body = write_batch(CALLS)
    for given in (content_type.decode(), None):
        found = check_batch(body, content_type=given)
        assert found.good
        assert found.text == "ok: 2 calls\n1. POST /v1/api/x?a=1, 4 bytes\n2. GET /v1/api/x"


def test_a_whole_request() -> None:
    """The headers of a whole request give the boundary."""
    content_type, body = write_batch(CALLS[:1])
    head = b"POST /v1/api/batch HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\n\r\n" % content_type
    assert check_batch(head + body).text.startswith("ok: 1 call\n")


def test_a_mistake_is_pointed_at() -> None:
    """Call, line, column and a caret below the place."""
    first_call = b"--b\r\n\r\nGET /a HTTP/1.1\r\n\r\n"
    raw = first_call + b"--b\r\n\r\nGET /b HTTP/1.1\r\nno header\r\n\r\n--b--\r\n"
    found = check_batch(raw)
    assert not found.good
    first, line, excerpt, caret = found.text.split("\n")
    assert first.startswith("call 2: ")
    assert first.endswith(f"at offset {raw.index(b'no header')}")
    assert line == "line 8, column 1:"
    assert excerpt == "  no header"
    assert caret.index("^") == 2


def test_an_offset_in_a_whole_request_counts_lines_from_its_start() -> None:
    """The line is the file's line, not the body's."""
    head = b"POST /v1/api/batch HTTP/1.1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    found = check_batch(head + b"--b\r\n\r\nCONNECT x HTTP/1.1\r\n\r\n--b--\r\n")
    assert "line 6, column 1" in found.text


def test_what_is_no_multipart_body() -> None:
    """Nothing to guess a boundary from, no closing delimiter, another media type."""
    assert "not a multipart body" in check_batch(b"hello").text
    assert not check_batch(b"--b\r\n\r\nGET /a\r\n").good
    assert not check_batch(b"--b\r\n\r\nGET /a\r\n--b--", content_type="text/plain").good
    assert not check_batch(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n--b\r\n\r\nGET /a\r\n--b--").good
    assert not check_batch(b"").good


def test_bytes_that_are_no_text_are_shown_safely() -> None:
    """A terminal never gets control characters out of a file."""
    found = check_batch(b"--b\r\n\r\nGET /\x1b[31m HTTP/1.1\r\n\r\n--b--\r\n")
    assert "\x1b" not in found.text
