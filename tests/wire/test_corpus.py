"""Bodies as real clients send them, and bodies that nobody should; ``tests/corpus/index.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from atomicbatch.errors import WireError
from atomicbatch.limits import Limits
from atomicbatch.model import Batch
from atomicbatch.wire import read_batch, write_batch
from atomicbatch.wire.multipart import boundary_of

CORPUS = Path(__file__).parents[1] / "corpus"
INDEX = tomllib.loads((CORPUS / "index.toml").read_text())


def name_of(case: dict[str, Any]) -> str:
    return Path(case["file"]).stem


def read(case: dict[str, Any]) -> Batch:
    return read_batch(
        (CORPUS / case["file"]).read_bytes(),
        content_type=case["content_type"].encode(),
        batch_paths=(b"/v1/api/batch",),
        limits=Limits(**case.get("limits", {})),
    )


def test_every_body_is_in_the_index_once() -> None:
    """No body of the corpus is forgotten."""
    files = [case["file"] for case in INDEX["good"] + INDEX["bad"]]
    assert sorted(files) == sorted(path.name for path in CORPUS.glob("*.body"))


@pytest.mark.parametrize("case", INDEX["good"], ids=name_of)
def test_good(case: dict[str, Any]) -> None:
    """A good body is read as the calls its author meant, and as the same again once written."""
    calls = read(case).calls
    targets = [call.path + (b"?" + call.query if call.query else b"") for call in calls]
    assert [
        [call.method, target.decode(), call.body.decode("latin-1")]
        for call, target in zip(calls, targets, strict=True)
    ] == case["calls"]
    if "content_ids" in case:
        ids = [call.content_id for call in calls]
        assert ids == [content_id.encode() for content_id in case["content_ids"]]
    content_type, body = write_batch(calls)
    assert read_batch(body, content_type=content_type).calls == calls


@pytest.mark.parametrize("case", INDEX["bad"], ids=name_of)
def test_bad(case: dict[str, Any]) -> None:
    """A bad body is refused, with the status, the call, the offset and the reason."""
    with pytest.raises(WireError) as caught:
        read(case)
    error = caught.value
    assert case["message"] in error.message
    assert (error.status, error.call_index, error.offset) == (
        case["status"],
        case.get("call"),
        case.get("offset"),
    )


@pytest.mark.parametrize("case", INDEX["good"], ids=name_of)
def test_cut_off(case: dict[str, Any]) -> None:
    """A good body that is cut off anywhere before the end of its closing delimiter is refused."""
    body = (CORPUS / case["file"]).read_bytes()
    content_type = case["content_type"].encode()
    closing = b"\n--" + boundary_of(content_type) + b"--"
    for length in range(body.rindex(closing) + len(closing)):
        with pytest.raises(WireError):
            read_batch(body[:length], content_type=content_type)
