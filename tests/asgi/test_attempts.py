"""Attempts: those that are left behind at the limit keep nobody out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from tests.asgi.asking import ask, call
from tests.asgi.test_heavy import Nothing

LIMIT = 0.3


class Alone(Nothing):
    """A transaction whose batches want to be alone, while ``alone`` is true."""

    alone = True

    def wants_alone(self) -> bool:
        return self.alone


@pytest.mark.parametrize("first_alone", [True, False])
def test_the_entrance_is_free(first_alone: bool) -> None:
    """One that is left behind inside of the app: the next batch goes in, and so do requests."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            while scope["path"] == "/stuck" and not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})

        transaction = Alone()
        transaction.alone = first_alone
        batches = AtomicBatch(app, transaction=transaction, limits=Limits(timeout_seconds=LIMIT))
        began = time.monotonic()
        answer = await ask(batches, call("GET", "/stuck"))
        assert answer.outcome == "rolled-back; failed=1; status=504"
        assert LIMIT <= time.monotonic() - began < LIMIT + 3
        transaction.alone = True
        for _ in range(2):
            assert (await ask(batches, call("GET", "/fine"))).outcome == "committed"
        began = time.monotonic()
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        plain = {"type": "http", "path": "/plain", "method": "GET", "headers": []}
        await batches(plain, receive, send)
        assert time.monotonic() - began < 3
        assert sent[0]["status"] == 200
        go_on.set()
        await asyncio.sleep(0.01)
        # What was left behind has gone by now, and has not left a second time.
        assert (await ask(batches, call("GET", "/fine"))).outcome == "committed"
        entrance = batches.entrance(asyncio.get_running_loop())
        assert entrance.batches == entrance.requests == 0

    asyncio.run(main())
