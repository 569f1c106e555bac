"""Two hundred batches at once, many of which fail: stored is what was answered with committed."""

from __future__ import annotations

import asyncio
import json
import random

import httpx
import pytest

from atomicbatch.wire.batch import read_replies, write_batch
from tests.server.served import Served, call

BATCHES = 200
FAILURES = [
    call("POST", "/v1/api/items", {"sku": "tea", "name": "exists"}),
    call("POST", "/v1/api/items", {"sku": "x", "name": "x", "stock": -1}),
    call("GET", "/v1/api/items/999999"),
    call("POST", "/v1/api/items", {"sku": 5}),
    call("POST", "/v1/api/order_lines", {"order_no": 1, "line_no": 1, "item_id": 999999}),
]


async def send(client: httpx.AsyncClient, number: int) -> set[tuple[int, str]]:
    """One batch of creates, with a failure in every third; the rows it says it has stored."""
    rng = random.Random(number)
    calls = [
        call("POST", "/v1/api/items", {"sku": f"{number}-{n}", "name": "n", "note": "crowd"})
        for n in range(rng.randint(1, 8))
    ]
    # One row that many batches change: conflicts are part of the crowd.
    calls.append(call("PATCH", f"/v1/api/items/{rng.randint(1, 3)}", {"note": f"by {number}"}))
    rng.shuffle(calls)
    if number % 3 == 0:
        calls.insert(rng.randint(0, len(calls)), rng.choice(FAILURES))
    content_type, body = write_batch(calls)
    response = await client.post(
        "/v1/api/batch", content=body, headers={"content-type": content_type.decode()}
    )
    outcome = response.headers["batch-outcome"]
    if outcome != "committed":
        # Under such a crowd a conflict may outlast all tries, which is told as 503.
        assert number % 3 == 0 or outcome.endswith("status=503"), response.text
        return set()
    assert number % 3 != 0, "a batch with a failing call was committed"
    replies = read_replies(response.content, content_type=response.headers["content-type"].encode())
    rows = (json.loads(reply.body) for _, reply in replies if reply.status == 201)
    return {(row["id"], row["sku"]) for row in rows}


@pytest.mark.slow
def test_stored_rows_are_the_committed_answers(shop: Served) -> None:
    """The rows in the database are exactly the union of what committed batches answered."""

    async def crowd() -> set[tuple[int, str]]:
        limits = httpx.Limits(max_connections=BATCHES)
        async with httpx.AsyncClient(base_url=shop.address, timeout=120, limits=limits) as client:
            answers = await asyncio.gather(*(send(client, number) for number in range(BATCHES)))
        return set().union(*answers)

    answered = asyncio.run(crowd())
    stored = set(shop.rows("SELECT id, sku FROM items WHERE id > 3"))
    assert stored == answered
    assert len(answered) > BATCHES, "too few batches committed to mean anything"
