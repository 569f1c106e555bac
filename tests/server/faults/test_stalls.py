"""
A database that falls silent, a lock that somebody holds: clients hear in time, and only the truth.

Between the server and the database is a proxy that stops at a chosen moment. What is stored is
looked at through a connection that does not go through it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.http.serve import database_url as server_url
from tests.proxies import At, Fault, Proxy, proxied
from tests.server.conftest import Serve
from tests.server.served import Served, call, make_shop, on_its_own, seen

LIMIT = Limits(timeout_seconds=1.5)
# The promise is limit + 1 s. The rest is for a machine that does other things beside.
AT_MOST = 1.5 + 1.0 + 2.5
BATCH = (
    call("POST", "/v1/api/items", {"sku": "new", "name": "New"}),
    call("PATCH", "/v1/api/items/1", {"note": "changed"}),
)
# Its answer is waited for, so that BEGIN has been answered too.
AWAITED = call("GET", "/v1/api/items?id=eq.1", headers=[(b"prefer", b"count=exact")])
STORED = "SELECT count(*) FROM items WHERE sku = 'new' OR note = 'changed'"


class Stalled:
    """A shop served through a proxy."""

    def __init__(self, served: Served, proxy: Proxy, url: str) -> None:
        self.served, self.proxy, self.url = served, proxy, url

    def stored(self) -> int:
        return int(seen(self.url, STORED)[0][0])

    def timed(self, *calls: Any) -> tuple[httpx.Response, float]:
        start = time.monotonic()
        response, _ = self.served.batch(*calls)
        return response, time.monotonic() - start


@contextmanager
def stalled(url: str, serve: Serve, **options: Any) -> Iterator[Stalled]:
    make_shop(url)
    with proxied(url) as (proxy, through):
        yield Stalled(serve(through, limits=LIMIT, **options), proxy, url)
        proxy.resume()


@pytest.fixture(params=["postgresql", "mysql"])
def server_database(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind that is reached by a network."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


WORDS = {
    "begin": {"postgresql": b"BEGIN ISOLATION", "mysql": b"START TRANSACTION"},
    "statement": {"postgresql": b"INSERT INTO", "mysql": b"INSERT INTO"},
    "second statement": {"postgresql": b"UPDATE ", "mysql": b"UPDATE "},
    "commit": {"postgresql": b"COMMIT", "mysql": b"COMMIT"},
}


@pytest.mark.slow
@pytest.mark.parametrize("at", [At.REQUEST, At.ANSWER], ids=["unsent", "unanswered"])
@pytest.mark.parametrize("stage", ["begin", "statement", "second statement", "commit"])
def test_a_database_that_falls_silent(
    stage: str, at: At, server_database: str, serve: Serve
) -> None:
    """A batch is told as rolled back before COMMIT, as unknown after; the server goes on."""
    with stalled(server_database, serve) as shop:
        assert shop.served.batch(call("GET", "/v1/api/items/1"))[0].status_code == 200
        shop.proxy.when(WORDS[stage][shop.served.kind], Fault.STOP, at=at)
        response, seconds = shop.timed(AWAITED, *BATCH)
        assert shop.proxy.happened.is_set()
        assert seconds < AT_MOST
        if stage == "commit":
            assert response.headers["batch-outcome"] == "unknown"
            assert response.status_code == 503
            assert "retry-after" not in response.headers
        elif stage == "begin":
            assert response.headers["batch-outcome"] == "not-started"
            assert response.status_code == 504
        else:
            outcome = response.headers["batch-outcome"]
            # On PostgreSQL both travel together: the first that is not answered is to blame.
            together = shop.served.kind == "postgresql"
            blamed = {"statement": 2, "second statement": 2 if together else 3}[stage]
            assert outcome == f"rolled-back; failed={blamed}; status=504"
        shop.proxy.resume()
        again, _ = shop.timed(call("PATCH", "/v1/api/items/2", {"note": "again"}))
        assert again.headers["batch-outcome"] == "committed"
        assert shop.stored() == (2 if stage == "commit" else 0), "the connection was there still"


@pytest.mark.slow
def test_a_database_that_falls_silent_at_rollback(server_database: str, serve: Serve) -> None:
    """A batch that has failed is told as rolled back also where ROLLBACK is not answered."""
    with stalled(server_database, serve) as shop:
        shop.proxy.when(b"ROLLBACK", Fault.STOP, at=At.REQUEST)
        response, seconds = shop.timed(*BATCH, call("GET", "/v1/api/items/999"))
        assert shop.proxy.happened.is_set()
        assert seconds < AT_MOST
        assert response.headers["batch-outcome"].startswith("rolled-back; failed=3; status=")
        shop.proxy.resume()
        assert shop.stored() == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["silence", "stop"])
def test_a_database_that_does_not_take_connections(
    how: str, server_database: str, serve: Serve
) -> None:
    """While it connects, too, the limit holds: for batches, plain requests, and many of them."""
    with stalled(
        server_database, serve, server_limits=ServerLimits(max_readers=2, max_writers=2)
    ) as shop:
        getattr(shop.proxy, how)()
        response, seconds = shop.timed(*BATCH)
        assert (response.status_code, response.headers["batch-outcome"]) == (504, "not-started")
        assert seconds < AT_MOST
        told: list[tuple[int, float]] = []

        def get() -> None:
            start = time.monotonic()
            status = shop.served.request("GET", "/v1/api/items").status_code
            told.append((status, time.monotonic() - start))

        threads = [threading.Thread(target=get) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert {status for status, _ in told} <= {503, 504}
        assert max(seconds for _, seconds in told) < AT_MOST
        shop.proxy.resume()
        again, _ = shop.timed(*BATCH)
        assert again.headers["batch-outcome"] == "committed"
        assert shop.served.request("GET", "/v1/api/items/1").status_code == 200


@pytest.mark.slow
def test_threads_that_hang_are_replaced(server_database: str, serve: Serve) -> None:
    """A pool whose every thread has been given up works again at once."""
    with stalled(server_database, serve, server_limits=ServerLimits(max_writers=2)) as shop:
        for _ in range(3):
            shop.proxy.when(b"UPDATE ", Fault.STOP, at=At.REQUEST)
            response, seconds = shop.timed(AWAITED, *BATCH)
            assert response.headers["batch-outcome"].endswith("status=504")
            assert seconds < AT_MOST
            shop.proxy.resume()
        again, _ = shop.timed(*BATCH)
        assert again.headers["batch-outcome"] == "committed"


@pytest.mark.slow
def test_a_row_that_somebody_else_holds(server_database: str, serve: Serve) -> None:
    """Waiting for a row ends with the limit, and is not held up by the lock."""
    make_shop(server_database)
    served = serve(server_database, limits=LIMIT)
    engine = sa.create_engine(server_url(server_database), poolclass=sa.NullPool)
    with engine.connect() as holder:
        holder.exec_driver_sql("UPDATE items SET note = 'held' WHERE id = 1")
        start = time.monotonic()
        response, _ = served.batch(*BATCH)
        assert time.monotonic() - start < AT_MOST
        assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=504"
        start = time.monotonic()
        assert served.request("PATCH", "/v1/api/items/1", {"note": "x"}).status_code == 504
        assert time.monotonic() - start < AT_MOST
        holder.rollback()
    assert seen(server_database, STORED) == [(0,)]
    assert served.batch(*BATCH)[0].headers["batch-outcome"] == "committed"


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.slow
def test_the_write_lock_of_another_program(sqlite_path: Path, serve: Serve) -> None:
    """Waiting for SQLite's write lock ends with the limit, and readers do not wait for it."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    served = serve(url, limits=LIMIT)
    with write_lock(sqlite_path):
        start = time.monotonic()
        response, _ = served.batch(*BATCH)
        assert time.monotonic() - start < AT_MOST
        assert response.headers["batch-outcome"] == "not-started"
        assert response.status_code in (503, 504)
        start = time.monotonic()
        assert served.request("GET", "/v1/api/items/1").status_code == 200
        assert time.monotonic() - start < 1
    assert seen(url, STORED) == [(0,)]
    assert served.batch(*BATCH)[0].headers["batch-outcome"] == "committed"


SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000000)"


@pytest.mark.slow
def test_a_slow_statement_after_waiting_for_the_lock(sqlite_path: Path, serve: Serve) -> None:
    """An interrupt that comes while BEGIN waits is not lost: the statement never runs."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    on_its_own(
        url,
        f"CREATE TRIGGER slow BEFORE UPDATE ON items BEGIN SELECT ({SLOW} SELECT max(i) FROM n);"
        " END",
    )
    served = serve(url, limits=LIMIT)
    told: list[int] = []

    def patch() -> None:
        told.append(served.request("PATCH", "/v1/api/items/1", {"note": "x"}).status_code)

    thread = threading.Thread(target=patch)
    with write_lock(sqlite_path):
        thread.start()
        time.sleep(LIMIT.timeout_seconds + 0.3)  # the limit, which is tested
    start = time.monotonic()
    assert served.request("POST", "/v1/api/items", {"sku": "s", "name": "n"}).status_code == 201
    assert time.monotonic() - start < 1.4, "a statement ran whose time was over before it began"
    thread.join(60)
    assert told[0] in (503, 504)


@pytest.mark.slow
def test_readers_do_not_wait_for_writers(server_database: str, serve: Serve) -> None:
    """Batches that wait for one row take all writers' threads; GETs are answered at once."""
    make_shop(server_database)
    served = serve(
        server_database,
        limits=Limits(timeout_seconds=25),
        server_limits=ServerLimits(max_writers=3, max_waiting=3),
    )
    engine = sa.create_engine(server_url(server_database), poolclass=sa.NullPool)
    told: list[httpx.Response] = []
    refused = threading.Semaphore(0)

    def patch() -> None:
        with httpx.Client(base_url=served.address, timeout=60) as client:
            told.append(client.patch("/v1/api/items/1", json={"note": "x"}))
            refused.release()

    with engine.connect() as holder:
        holder.exec_driver_sql("UPDATE items SET note = 'held' WHERE id = 1")
        threads = [threading.Thread(target=patch) for _ in range(10)]
        for thread in threads:
            thread.start()
        # Three wait for the row and three for a thread; the others are refused.
        assert all(refused.acquire(timeout=15) for _ in range(4))
        start = time.monotonic()
        assert served.request("GET", "/v1/api/items/2").status_code == 200
        assert served.request("GET", "/v1/api/order_lines").status_code == 200
        assert time.monotonic() - start < 5
        for answer in told:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["limit"] == "max_waiting"
        holder.rollback()
    for thread in threads:
        thread.join(60)
    assert sorted(answer.status_code for answer in told) == [200] * 6 + [503] * 4


@pytest.mark.slow
def test_a_statement_whose_client_is_gone(server_database: str, serve: Serve) -> None:
    """A plain request that waits for a row is interrupted when its client hangs up."""
    make_shop(server_database)
    served = serve(server_database, server_limits=ServerLimits(max_writers=1))
    engine = sa.create_engine(server_url(server_database), poolclass=sa.NullPool)
    with engine.connect() as holder:
        holder.exec_driver_sql("UPDATE items SET note = 'held' WHERE id = 1")
        with pytest.raises(httpx.ReadTimeout):
            httpx.patch(f"{served.address}/v1/api/items/1", json={"note": "x"}, timeout=0.5)
        start = time.monotonic()
        assert served.request("PATCH", "/v1/api/items/2", {"note": "y"}).status_code == 200
        assert time.monotonic() - start < 5, "the only writer waited for the row still"
        holder.rollback()
