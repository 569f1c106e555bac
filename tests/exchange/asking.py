"""What the tests of this folder say to an endpoint, and how they look at its answers."""

from __future__ import annotations

import json

from atomicbatch import Batch, Call, Headers, Limits
from atomicbatch.exchange import (
    EndpointOptions,
    Head,
    Response,
    check_head,
    read_request,
)
from atomicbatch.exchange.request import read_head
from atomicbatch.wire.batch import write_batch

LIMITS = Limits(max_body_bytes=10_000)
CALLS = (
    Call("GET", b"/a", b"", (), b"", b"<1>"),
    Call("POST", b"/b", b"x=1", ((b"content-type", b"text/plain"),), b"hello", b"<2>"),
)
CONTENT_TYPE, BODY = write_batch(CALLS)
HEADERS = ((b"content-type", CONTENT_TYPE), (b"authorization", b"Bearer x"))
PATHS = (b"/v1/api/batch",)


def head(*headers: tuple[bytes, bytes], method: str = "POST") -> Head | Response:
    return check_head(method, headers, LIMITS)


def read(body: bytes, headers: Headers = HEADERS) -> Batch:
    options = EndpointOptions(limits=LIMITS)
    return read_request(read_head(headers, LIMITS), b"", body, batch_paths=PATHS, options=options)


def problem(response: Head | Response) -> tuple[int, str, dict[bytes, bytes]]:
    assert isinstance(response, Response)
    headers = dict(response.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(response.body)).encode()
    document = json.loads(response.body)
    assert document["status"] == response.status
    return response.status, document["type"].rpartition(":")[2], headers
