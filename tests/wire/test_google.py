"""Google's own client, google-api-python-client, writes our requests and reads our responses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from atomicbatch.model import Batch, Headers, Reply
from atomicbatch.wire import read_batch, write_replies

googleapiclient = pytest.importorskip("googleapiclient.http")
httplib2 = pytest.importorskip("httplib2")

BODY = Path(__file__).parents[1] / "corpus" / "google-api-python-client.body"


class Transport:
    """In place of httplib2: what the client sends is read, and answered, by the wire alone."""

    def __init__(self, replies: list[Reply], outer: Headers = ()) -> None:
        self.replies, self.outer = replies, outer
        self.body = b""
        self.batch = Batch(())

    def request(self, uri: str, **request: Any) -> tuple[Any, bytes]:
        self.body = request["body"].encode()
        content_type = request["headers"]["content-type"].encode()
        self.batch = read_batch(self.body, content_type=content_type, headers=self.outer)
        content_type, body = write_replies(self.batch.calls, self.replies, date=b"now")
        return httplib2.Response({"status": "200", "content-type": content_type.decode()}), body


def exchange(replies: list[Reply]) -> tuple[Transport, dict[str, Any]]:
    """Send three calls with the real client; return what it sent and what it understood."""
    answers: dict[str, Any] = {}

    def remember(request_id: str, response: Any, exception: Any) -> None:
        answers[request_id] = exception or response

    batch = googleapiclient.BatchHttpRequest(remember, batch_uri="http://h/v1/api/batch")
    for method, uri, headers, body in [
        ("POST", "items?alt=json", {"content-type": "application/json"}, '{"name": "pen"}'),
        ("DELETE", "items/1", {"authorization": "Bearer two"}, None),
        ("GET", "items?name=eq.a%20b", {}, None),
    ]:
        if method == "POST":
            headers["accept"] = "application/json"
        batch.add(
            googleapiclient.HttpRequest(
                None,
                lambda response, content: (response.status, content),
                f"http://h/{uri}",
                method=method,
                headers=headers,
                body=body,
            )
        )
    transport = Transport(replies)
    batch.execute(http=transport)
    return transport, answers


REPLIES = [
    Reply(201, ((b"content-type", b"application/json"),), b'{"id": 7}'),
    Reply(204, (), b""),
    Reply(200, ((b"x-1_odd", b"y"),), b"\r\n two lines \r\n--batchresponse_\r\n"),
]


def test_it_understands_us() -> None:
    """Three replies, one without a body and one of odd lines, arrive as they were sent."""
    _, answers = exchange(REPLIES)
    assert answers == {
        "1": (201, b'{"id": 7}'),
        "2": (204, b""),
        "3": (200, b"\r\n two lines \r\n--batchresponse_\r\n"),
    }


def test_it_sees_errors() -> None:
    """A refusal by a call reaches the callback of that call as an error with its document."""
    problem = json.dumps({"detail": "no stock"}).encode()
    failed = Reply(409, ((b"content-type", b"application/problem+json"),), problem)
    _, answers = exchange([failed, REPLIES[1], REPLIES[2]])
    assert answers["1"].status_code == 409
    assert json.loads(answers["1"].content) == {"detail": "no stock"}


def test_the_corpus_is_what_it_sends() -> None:
    """The body in the corpus is byte for byte this client's, but for what is random."""

    def constant(body: bytes) -> bytes:
        return re.sub(rb"={15}[0-9]+==|<[0-9a-f-]{36}", b"?", body)

    transport, _ = exchange(REPLIES)
    assert constant(transport.body) == constant(BODY.read_bytes())
    first, second, _ = transport.batch.calls
    assert (first.method, first.path, first.query) == ("POST", b"/items", b"alt=json")
    assert (first.body, second.body) == (b'{"name": "pen"}', b"")
    assert (b"authorization", b"Bearer two") in second.headers
    assert not any(name == b"host" for name, _ in first.headers)
