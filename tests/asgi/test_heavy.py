"""Big bodies do not hold up the event loop."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from atomicbatch import Batch, Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.asgi.heavy import INLINE_BYTES, PIECE_BYTES, work
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Request, call, scope_of

MIB = 1024 * 1024


class Nothing:
    """A transaction of nothing."""

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[None]:
        yield


async def echo_megabytes(scope: Any, receive: Any, send: Any) -> None:
    """An app whose replies have as many MiB as the path says."""
    await receive()
    size = int(scope["path"].strip("/")) * MIB
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"0123456789abcdef" * (size // 16)})


@pytest.mark.parametrize("size", [0, INLINE_BYTES, INLINE_BYTES + 1])
def test_where_work_is_done(size: int) -> None:
    """Little of it on the event loop, much beside it."""
    thread = asyncio.run(work(size, threading.get_ident))
    assert (thread == threading.get_ident()) is (size <= INLINE_BYTES)


async def beats_while(calls: list[Call], *headers: tuple[bytes, bytes], encoded: bool) -> int:
    """Answer a batch; count how often something else ran meanwhile, where nothing else waits."""
    content_type, body = write_batch(calls)
    if encoded:
        body = gzip.compress(body, 1)
    request = Request([body])
    batches = AtomicBatch(echo_megabytes, transaction=Nothing())
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.create_task(beat())
    scope = scope_of("/v1/api/batch", ((b"content-type", content_type), *headers))
    await batches(scope, request.receive, request.send)
    beating.cancel()
    assert request.answer.status == 200
    sizes = [len(message["body"]) for message in request.sent[1:]]
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == int(request.answer.headers["content-length"])
    return beats


def test_a_big_response() -> None:
    """Written and compressed beside the event loop, and sent in pieces."""
    calls = [call("GET", "/20")]
    assert asyncio.run(beats_while(calls, (b"accept-encoding", b"gzip"), encoded=False)) >= 10


def test_a_big_request_that_was_small() -> None:
    """Whatever is compressed is read beside the event loop: nobody knows how much it becomes."""
    calls = [call("POST", "/0", bytes(9 * MIB // 900)) for _ in range(900)]
    assert asyncio.run(beats_while(calls, (b"content-encoding", b"gzip"), encoded=True)) >= 1
