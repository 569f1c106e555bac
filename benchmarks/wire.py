"""
What the wire costs: reading batches and writing replies, without any I/O.

Figures are microseconds a call, medians over rounds; calls are POSTs of about 200 bytes, part
headers included. The last table is of bodies of 10 MiB. Run it with ``python benchmarks/wire.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Headers, Reply
from atomicbatch.wire import read_batch, write_replies

MIB = 1 << 20
CONTENT_TYPE = b"multipart/mixed; boundary=batch_benchmark"
OUTER: Headers = (
    (b"host", b"127.0.0.1:8000"),
    (b"authorization", b"Bearer 0123456789abcdef"),
    (b"user-agent", b"benchmark"),
    (b"accept", b"application/json"),
    (b"content-type", CONTENT_TYPE),
)
LIMITS = Limits(max_calls=10_000, max_body_bytes=64 * MIB)


def body_of(bodies: list[bytes], *, unique: bool = False) -> bytes:
    """A batch of POSTs; ``unique`` gives each its own path and a header of its own."""
    parts = []
    for number, body in enumerate(bodies, 1):
        path = f"/items/{number}" if unique else "/items"
        own = f"X-Request-ID: {number:032x}\r\n" if unique else ""
        head = (
            f"--batch_benchmark\r\nContent-Type: application/http\r\nContent-ID: <{number}>\r\n\r\n"
            f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n{own}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        parts.append(head.encode() + body + b"\r\n")
    return b"".join(parts) + b"--batch_benchmark--\r\n"


def items(count: int) -> list[bytes]:
    return [
        json.dumps({"sku": f"sku-{n}", "name": f"item {n}", "stock": n}).encode()
        for n in range(count)
    ]


def replies_to(batch: Batch) -> list[Reply]:
    """A 201 with the body that was sent and a Location."""
    return [
        Reply(
            201,
            ((b"content-type", b"application/json"), (b"location", b"/items/%d" % number)),
            call.body,
        )
        for number, call in enumerate(batch.calls, 1)
    ]


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(body: bytes, rounds: int) -> tuple[Batch, float, float]:
    """Return the batch, and the seconds of reading it and of writing its replies."""

    def read() -> Batch:
        return read_batch(
            body,
            content_type=CONTENT_TYPE,
            headers=OUTER,
            batch_paths=(b"/v1/api/batch",),
            limits=LIMITS,
        )

    batch = read()
    replies = replies_to(batch)
    reading = median_seconds(read, rounds)
    writing = median_seconds(lambda: write_replies(batch.calls, replies, date=b"now"), rounds)
    return batch, reading, writing


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the wire.")
    parser.add_argument("--scale", type=float, default=1.0, help="how many rounds, 1 is usual")
    scale = parser.parse_args().scale

    print(f"{'calls':>24} {'bytes a call':>13} {'read us':>9} {'write us':>9}   (a call)")
    for unique in (False, True):
        for count in (1, 10, 100, 1000, 10_000):
            body = body_of(items(count), unique=unique)
            rounds = max(3, int(scale * min(2000, 60_000 // count)))
            _, reading, writing = measure(body, rounds)
            print(
                f"{count:>10,} {'all different' if unique else 'alike':>13}"
                f" {len(body) / count:>13.0f}"
                f" {reading / count * 1e6:>9.2f} {writing / count * 1e6:>9.2f}"
            )
    print(f"\n{'bodies of 10 MiB':>24} {'calls':>13} {'read ms':>9} {'write ms':>9}   (in all)")
    for name, count in (("one body", 1), ("a hundred", 100), ("ten thousand", 10_000)):
        body = body_of([b"x" * (10 * MIB // count)] * count)
        _, reading, writing = measure(body, max(3, int(20 * scale)))
        print(f"{name:>24} {count:>13,} {reading * 1e3:>9.2f} {writing * 1e3:>9.2f}")


if __name__ == "__main__":
    main()
