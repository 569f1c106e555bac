"""
The calls that are measured, and how each contestant is asked for them.

The table is ``items(id, name text, quantity integer, price double)``; ``ROWS`` rows are there
before.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from atomicbatch.model import Call
from atomicbatch.wire.batch import write_batch

ROWS = 1000
ITEMS = "/v1/api/items"
JSON = ((b"content-type", b"application/json"),)
LIST_LIMIT = 10
Row = tuple[str, int, float]
"""name, quantity, price"""


def some_row(rng: random.Random) -> Row:
    """A row that no other call of the run has."""
    number = rng.randrange(10**6)
    return f"item {number}", number % 1000, round(rng.random() * 100, 2)


def some_rows(rng: random.Random) -> list[Row]:
    """The rows that are there before."""
    return [some_row(rng) for _ in range(ROWS)]


def creates(count: int, rng: random.Random, target: str = ITEMS) -> list[Call]:
    """As many creates; each has other values."""
    return [_create(rng, target) for _ in range(count)]


def mix(count: int, rng: random.Random, target: str = ITEMS) -> list[Call]:
    """Create, read, update, list in turn; the rows read and updated were there before."""
    calls: list[Call] = []
    path = target.encode()
    while len(calls) < count:
        key = b"%b/%d" % (path, rng.randrange(ROWS) + 1)
        least, changed = rng.randrange(500), b'{"quantity":%d}' % rng.randrange(1000)
        query = b"quantity=gte.%d&order=id&limit=%d" % (least, LIST_LIMIT)
        calls += [
            _create(rng, target),
            Call("GET", key, b"", (), b""),
            Call("PATCH", key, b"", JSON, changed),
            Call("GET", path, query, (), b""),
        ]
    return calls[:count]


KINDS = {"create": creates, "mix": mix}


def _create(rng: random.Random, target: str) -> Call:
    return Call("POST", target.encode(), b"", JSON, json.dumps(_columns(rng)).encode())


def _columns(rng: random.Random) -> dict[str, object]:
    return dict(zip(("name", "quantity", "price"), some_row(rng), strict=True))


def plain(call: Call) -> bytes:
    """A request of its own for one call."""
    target = call.path + (b"?" + call.query if call.query else b"")
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\n" % (call.method.encode(), target)
    if call.body:
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(call.body)
    return head + b"\r\n" + call.body


def posted(target: str, content_type: bytes, body: bytes, *headers: bytes) -> bytes:
    """A POST request."""
    head = (
        b"POST %b HTTP/1.1" % target.encode(),
        b"Host: localhost",
        b"Content-Type: " + content_type,
        b"Content-Length: %d" % len(body),
        *headers,
    )
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def batch(calls: Sequence[Call], *, content_ids: bool = False) -> bytes:
    """One batch request, as our client writes it; ``content_ids`` gives each part its own."""
    if content_ids:
        calls = [call._replace(content_id=b"<%d>" % n) for n, call in enumerate(calls, 1)]
    content_type, body = write_batch(calls)
    return posted("/v1/api/batch", content_type, body)


def pocketbase_batch(calls: Sequence[Call]) -> bytes:
    """A request to PocketBase's batch API, which knows creates, changes and deletes only."""
    path = "/api/collections/items/records"
    asked = [{"method": "POST", "url": path, "body": json.loads(call.body)} for call in calls]
    return posted("/api/batch", b"application/json", json.dumps({"requests": asked}).encode())
