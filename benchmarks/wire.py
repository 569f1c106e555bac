"""
What the wire costs: reading batches and writing replies, without any I/O.

Figures are microseconds of CPU a call, medians over rounds; calls are of about 200 bytes, part
headers included. The last table is of bodies of 10 MiB. Run it with ``python -m benchmarks.wire``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Headers, Reply
from atomicbatch.wire import read_batch, write_replies
from atomicbatch.wire.batch import write_batch
from benchmarks import calls
from benchmarks.machine import described
from benchmarks.report import Report, add_option

MIB = 1 << 20
OUTER: Headers = (
    (b"host", b"127.0.0.1:8000"),
    (b"authorization", b"Bearer 0123456789abcdef"),
    (b"user-agent", b"benchmark"),
    (b"accept", b"application/json"),
)
LIMITS = Limits(max_calls=10_000, max_body_bytes=64 * MIB)


def creates(count: int) -> list[Call]:
    """What most batches are."""
    return calls.creates(count, random.Random(1))


def all_different(count: int) -> list[Call]:
    """Each call has a path and a header line that no other call has."""
    return [
        call._replace(
            path=b"/v1/api/items/%d" % number,
            headers=(*call.headers, (b"x-request-id", b"%032x" % number)),
        )
        for number, call in enumerate(creates(count))
    ]


def mix(count: int) -> list[Call]:
    """Create, read, update, list in turn."""
    return calls.mix(count, random.Random(1))


def with_content_ids(asked: Sequence[Call]) -> list[Call]:
    """Each part has its own."""
    return [call._replace(content_id=b"<%d>" % n) for n, call in enumerate(asked, 1)]


SHAPES: dict[str, Callable[[int], list[Call]]] = {
    "creates": creates,
    "creates, Content-ID": lambda count: with_content_ids(creates(count)),
    "all different": lambda count: with_content_ids(all_different(count)),
    "mix": mix,
    "mix, Content-ID": lambda count: with_content_ids(mix(count)),
}


def replies_to(batch: Batch) -> list[Reply]:
    """A 201 with the body that was sent and a Location."""
    return [
        Reply(
            201,
            (*calls.JSON, (b"location", b"/v1/api/items/%d" % number)),
            call.body,
        )
        for number, call in enumerate(batch.calls, 1)
    ]


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure(asked: Sequence[Call], rounds: int) -> tuple[int, float, float]:
    """Return the size of the batch, and the seconds of reading it and of writing its replies."""
    content_type, body = write_batch(asked)
    headers = (*OUTER, (b"content-type", content_type))

    def read() -> Batch:
        return read_batch(
            body,
            content_type=content_type,
            headers=headers,
            batch_paths=(b"/v1/api/batch",),
            limits=LIMITS,
        )

    batch = read()
    replies = replies_to(batch)
    reading = median_seconds(read, rounds)
    writing = median_seconds(lambda: write_replies(batch.calls, replies, date=b"now"), rounds)
    return len(body), reading, writing


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the wire.")
    parser.add_argument("--scale", type=float, default=1.0, help="how many rounds, 1 is usual")
    add_option(parser)
    arguments = parser.parse_args()
    scale = arguments.scale
    report = Report("wire", described())
    table = report.table("wire", ("µs a call", "bytes", "read", "write"))
    table.show()
    for name, make in SHAPES.items():
        for count in (1, 10, 100, 1000, 10_000):
            rounds = max(3, int(scale * min(2000, 60_000 // count)))
            size, reading, writing = measure(make(count), rounds)
            table.add(
                f"{count:,} {name}",
                f"{size / count:.0f}",
                f"{reading / count * 1e6:.2f}",
                f"{writing / count * 1e6:.2f}",
            )
    table = report.table("wire.bodies", ("ms for bodies of 10 MiB in all", "read", "write"))
    table.show()
    for name, count in (("one body", 1), ("a hundred", 100), ("ten thousand", 10_000)):
        body = b"x" * (10 * MIB // count)
        asked = [call._replace(body=body) for call in creates(count)]
        _, reading, writing = measure(asked, max(3, int(20 * scale)))
        table.add(name, f"{reading * 1e3:.2f}", f"{writing * 1e3:.2f}")
    report.save(arguments.json)


if __name__ == "__main__":
    main()
