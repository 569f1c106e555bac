"""
What strikes while hundreds of statements are on their way to PostgreSQL, and some are answered.

In the middle of the batch is a call that sleeps in the database. It is the one that is running when
the fault strikes; those behind it have been sent already.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from typing import Any

import httpx
import psycopg
import pytest

from atomicbatch.limits import Limits
from atomicbatch.model import Call
from atomicbatch.wire.batch import write_batch
from tests.proxies import At, Fault, proxied
from tests.server.conftest import Serve
from tests.server.faults.test_kill import Server
from tests.server.served import Served, call, on_its_own, seen

pytestmark = pytest.mark.slow
BEFORE, BEHIND = 100, 150
ALL = BEFORE + 1 + BEHIND
TABLES = (
    "CREATE TABLE items (id INTEGER PRIMARY KEY, note TEXT)",
    "CREATE TABLE naps (id INTEGER PRIMARY KEY, seconds DOUBLE PRECISION, nap TEXT)",
    (
        "CREATE FUNCTION nap(seconds DOUBLE PRECISION) RETURNS TEXT LANGUAGE sql VOLATILE"
        " AS 'SELECT pg_sleep(seconds)::text'"
    ),
    "CREATE TABLE short_naps (id INTEGER PRIMARY KEY, nap TEXT DEFAULT nap(0.5))",
    "CREATE TABLE long_naps (id INTEGER PRIMARY KEY, nap TEXT DEFAULT nap(60))",
)
STORED = (
    "SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM short_naps)"
    " + (SELECT count(*) FROM long_naps)"
)


def calls(table: str) -> list[Call]:
    """Creates, the nap, more creates."""
    made = [
        call("POST", "/v1/api/items", {"id": number, "note": f"note {number}."})
        for number in range(ALL)
    ]
    made[BEFORE] = call("POST", f"/v1/api/{table}", {"id": 1})
    return made


def stored(url: str) -> int:
    ((count,),) = seen(url, STORED)
    return int(count)


def wait_for(url: str, state: str, *, count: int) -> list[int]:
    """Wait until so many of the database's sessions are in a state; their numbers."""
    with closing(psycopg.connect(url, autocommit=True)) as other:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = other.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                f" AND pid <> pg_backend_pid() AND {state}"
            ).fetchall()
            if len(found) == count:
                return [pid for (pid,) in found]
            time.sleep(0.01)
    raise AssertionError(f"not {count} sessions in this state: {state}")


NAPPING = "wait_event = 'PgSleep'"
IN_TRANSACTION = "state <> 'idle'"


def works(served: Served) -> None:
    """A batch of the same size commits afterwards."""
    on_its_own(served.url, "DELETE FROM items", "DELETE FROM short_naps")
    response, _ = served.batch(*calls("short_naps"))
    assert response.headers["batch-outcome"] == "committed"


def test_a_backend_that_is_terminated(postgresql_url: str, serve: Serve) -> None:
    """The batch runs again on another connection, and is stored once."""
    on_its_own(postgresql_url, *TABLES)
    served = serve(postgresql_url)
    told: list[httpx.Response] = []
    client = threading.Thread(target=lambda: told.append(served.batch(*calls("short_naps"))[0]))
    client.start()
    (pid,) = wait_for(postgresql_url, NAPPING, count=1)
    on_its_own(postgresql_url, f"SELECT pg_terminate_backend({pid})")
    client.join()
    assert told[0].headers["batch-outcome"] == "committed"
    assert told[0].headers["batch-attempts"] == "2"
    assert stored(postgresql_url) == ALL


def test_a_time_limit(postgresql_url: str, serve: Serve) -> None:
    """The call that sleeps is to blame, not the last that was sent; all of it is undone."""
    on_its_own(postgresql_url, *TABLES)
    served = serve(postgresql_url, limits=Limits(timeout_seconds=2))
    response, replies = served.batch(*calls("long_naps"))
    assert response.headers["batch-outcome"] == f"rolled-back; failed={BEFORE + 1}; status=504"
    assert len(replies) == ALL
    wait_for(postgresql_url, IN_TRANSACTION, count=0)
    assert stored(postgresql_url) == 0
    works(served)


def test_a_client_that_hangs_up(postgresql_url: str, serve: Serve) -> None:
    """What is on its way is ended, and undone."""
    on_its_own(postgresql_url, *TABLES)
    served = serve(postgresql_url)
    content_type, body = write_batch(calls("long_naps"))
    head = (
        b"POST /v1/api/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\n"
        b"Content-Length: %d\r\n\r\n" % (content_type, len(body))
    )
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(head + body)
        wait_for(postgresql_url, NAPPING, count=1)
    wait_for(postgresql_url, IN_TRANSACTION, count=0)
    assert stored(postgresql_url) == 0
    works(served)


def test_a_server_that_is_killed(postgresql_url: str) -> None:
    """Kill -9 while hundreds of statements are on their way: PostgreSQL undoes them."""
    on_its_own(postgresql_url, *TABLES)
    server = Server(postgresql_url)
    content_type, body = write_batch(calls("short_naps"))

    def send() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(
                f"http://127.0.0.1:{server.port}/v1/api/batch",
                content=body,
                headers={"content-type": content_type.decode()},
                timeout=30,
            )

    client = threading.Thread(target=send)
    with server.running() as process:
        client.start()
        wait_for(postgresql_url, NAPPING, count=1)
        process.kill()
        client.join()
    wait_for(postgresql_url, IN_TRANSACTION, count=0)
    assert stored(postgresql_url) == 0


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        *((Fault.DROP, At.REQUEST), (Fault.DROP, At.ANSWER)),
        *((Fault.RESET, At.REQUEST), (Fault.RESET, At.ANSWER), (Fault.GARBLE, At.ANSWER)),
    ],
)
@pytest.mark.parametrize("word", [b"note 3.", b"note 200."], ids=["first group", "a later one"])
def test_a_network_that_breaks(
    postgresql_url: str, serve: Serve, fault: Fault, at: At, word: bytes
) -> None:
    """What is told is what is stored: all of it or nothing; the next batch is as good as ever."""
    on_its_own(postgresql_url, *TABLES)
    with proxied(postgresql_url) as (proxy, through):
        served = serve(through)
        proxy.when(word, fault, at=at)
        response, _ = served.batch(*calls("short_naps"))
        assert proxy.happened.is_set()
        outcome = response.headers["batch-outcome"]
        assert outcome == "committed" or outcome.startswith(("rolled-back", "not-started"))
        assert stored(postgresql_url) == (ALL if outcome == "committed" else 0)
        proxy.resume()
        served.url = postgresql_url
        works(served)


def test_many_batches_that_cross(postgresql_url: str, serve: Serve) -> None:
    """Deadlocks and serialization failures in the middle: each batch is there whole, or not."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE pots (id INTEGER PRIMARY KEY, coins INTEGER)",
        "INSERT INTO pots SELECT n, 0 FROM generate_series(0, 39) n",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY GENERATED ALWAYS AS IDENTITY, client INTEGER)",
    )
    served = serve(postgresql_url)
    told: list[str] = []

    def send(client: int) -> None:
        order = range(40) if client % 2 else range(39, -1, -1)
        for number in range(4):
            batch: list[Any] = []
            for pot in order:
                batch.append(call("POST", "/v1/api/notes", {"client": client}))
                coins = client * 10 + number
                batch.append(call("PATCH", f"/v1/api/pots/{pot}", {"coins": coins}))
            told.append(served.batch(*batch)[0].headers["batch-outcome"])

    clients = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(told) == 24
    committed = told.count("committed")
    assert committed > 0
    assert all(one == "committed" or one.startswith("rolled-back") for one in told)
    assert seen(postgresql_url, "SELECT count(*) FROM notes") == [(40 * committed,)]
    assert seen(postgresql_url, "SELECT count(DISTINCT coins) FROM pots") == [(1,)]
    wait_for(postgresql_url, IN_TRANSACTION, count=0)
