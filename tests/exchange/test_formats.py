"""Formats: which media types are batches; the Content-Type is read once."""

from __future__ import annotations

import pytest

from atomicbatch import MalformedError
from atomicbatch.exchange import Head, formats
from atomicbatch.wire.batch import write_replies
from tests.exchange.asking import HEADERS, head, problem


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


@pytest.mark.parametrize(
    "value", [b"multipart/mixed", b"multipart/mixed; boundary=a; boundary=b", b"multipart/mixed; x"]
)
def test_parameters_that_are_malformed(value: bytes) -> None:
    """400 before the body is read: nobody could tell where its parts are."""
    assert problem(head((b"content-type", value)))[:2] == (400, "malformed-batch")


def test_a_format_more_is_an_entry_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A media type is known by its entry alone, and its reader sees the header's whole value."""
    seen: list[bytes] = []

    def reader(content_type: bytes) -> formats.ReadBody:
        seen.append(content_type)
        raise MalformedError("not today")

    entry = formats.Format(reader, write_replies)
    monkeypatch.setitem(formats.FORMATS, b"application/json", entry)
    assert problem(head((b"content-type", b"Application/JSON; charset=x")))[0] == 400
    assert seen == [b"Application/JSON; charset=x"]
    assert isinstance(head(*HEADERS), Head)
