"""How long big batches hold up everybody else on the event loop: its longest pause, in ms."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from atomicbatch import Batch, Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.wire.batch import write_batch

MIB = 1024 * 1024
HEARTBEAT_SECONDS = 0.001


class Nothing:
    """A transaction of nothing, so that the endpoint alone is measured."""

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[None]:  # noqa: ARG002
        yield


def some_text(size: int) -> bytes:
    """Bytes that compress about as JSON does."""
    words = [b'"%x": %d, ' % (number, number * 7919) for number in range(1000)]
    random.seed(1)
    piece = b"".join(random.choices(words, k=20_000))
    return (piece * (size // len(piece) + 1))[:size]


def app_of(size: int) -> Any:
    body = some_text(size)

    async def app(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, size, 65536):
            await send(
                {
                    "type": "http.response.body",
                    "body": body[start : start + 65536],
                    "more_body": start + 65536 < size,
                }
            )
            await asyncio.sleep(0)
        if not size:
            await send({"type": "http.response.body", "body": b""})

    return app


async def longest_pause(
    calls: list[Call], reply_bytes: int, *, encoded: bool, accept: str
) -> float:
    """Run a batch; return the longest time for which nothing else ran, in seconds."""
    batches = AtomicBatch(app_of(reply_bytes), transaction=Nothing())
    content_type, body = write_batch(calls)
    headers = [(b"content-type", content_type), (b"accept-encoding", accept.encode())]
    if encoded:
        body = gzip.compress(body, 1)
        headers.append((b"content-encoding", b"gzip"))
    scope = {
        "type": "http", "method": "POST", "path": "/v1/api/batch", "headers": headers,
        "query_string": b"", "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    sent: list[Any] = []
    never = asyncio.Event()

    async def receive() -> Any:
        if not chunks:
            await never.wait()
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now = time.perf_counter()
            longest = max(longest, now - last - HEARTBEAT_SECONDS)
            last = now

    beating = asyncio.create_task(heartbeat())
    await asyncio.sleep(0.05)
    longest = 0.0
    await batches(scope, receive, send)
    await asyncio.sleep(0.01)
    beating.cancel()
    assert sent[0]["status"] == 200, sent
    return longest


def post(size: int) -> Call:
    return Call("POST", b"/things", b"", ((b"content-type", b"application/json"),), some_text(size))


CASES: list[tuple[str, list[Call], int, bool, str]] = [
    ("one call (what the machine does)", [post(1)], 0, False, "identity"),
    ("60 MiB of replies", [post(10)] * 6, 10 * MIB, False, "identity"),
    ("60 MiB of replies, gzip", [post(10)] * 6, 10 * MIB, False, "gzip"),
    ("9 MiB of calls", [post(9000)] * 1000, 0, False, "identity"),
    ("9 MiB of calls, gzip", [post(9000)] * 1000, 0, True, "identity"),
    ("300 small calls", [post(100)] * 300, 100, False, "gzip"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for name, calls, size, encoded, accept in CASES:
        pauses = sorted(
            asyncio.run(longest_pause(calls, size, encoded=encoded, accept=accept))
            for _ in range(rounds)
        )
        print(f"{name:34} median {pauses[rounds // 2] * 1000:7.1f}  most {pauses[-1] * 1000:7.1f}")


if __name__ == "__main__":
    main()
