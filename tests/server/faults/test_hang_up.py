"""Clients that hang up at random moments: each batch is there whole, or not at all."""

from __future__ import annotations

import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from atomicbatch.wire.batch import write_batch
from tests.server.conftest import Serve
from tests.server.served import call, on_its_own, seen

CALLS = 40
BATCHES = [150, pytest.param(400, marks=pytest.mark.prove)]


def send(port: int, number: int) -> bool:
    """Send a batch, in part or whole, and hang up; whether it was told as committed."""
    rng = random.Random(number)
    content_type, body = write_batch(
        [call("POST", "/v1/api/sent", {"batch": number, "line": n}) for n in range(CALLS)]
    )
    request = (
        b"POST /v1/api/batch HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (content_type, len(body))
    ) + body
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        mode = rng.random()
        if mode < 0.2:
            connection.sendall(request[: rng.randrange(1, len(request))])
        else:
            connection.sendall(request)
        if mode > 0.6:
            return b"batch-outcome: committed" in connection.recv(400)
        time.sleep(rng.uniform(0, 0.012))  # the random moment
        if rng.random() < 0.5:  # a reset instead of a proper end
            linger = b"\1\0\0\0\0\0\0\0"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("batches", BATCHES)
def test_hang_ups(database_url: str, batches: int, serve: Serve) -> None:
    """No batch is torn, none that was acknowledged is lost, and the server goes on."""
    on_its_own(
        database_url,
        "CREATE TABLE sent (batch INTEGER, line INTEGER, PRIMARY KEY (batch, line))",
    )
    served = serve(database_url)
    port = served.port
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda number: send(port, number), range(batches)))
    counts = dict(seen(database_url, "SELECT batch, count(*) FROM sent GROUP BY batch"))
    assert set(counts.values()) == {CALLS}, "a batch is there in part"
    acknowledged = {number for number, committed in enumerate(told) if committed}
    assert len(acknowledged) > batches // 5
    assert acknowledged <= set(counts)
    assert len(counts) < batches, "no hang-up came before a COMMIT"
    last = served.request("POST", "/v1/api/sent", {"batch": -1, "line": 0})
    assert last.status_code == 201
