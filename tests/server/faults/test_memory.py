"""Replies longer than ``max_reply_bytes`` are refused before they are in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.wire.batch import write_batch
from benchmarks.memory import fill, peak_mib
from tests.server.served import call, seen

MIB = 2**20
LIMIT = MIB
# Three times the limit, and what a request takes that has nothing to do with it.
AT_MOST_MIB = 3 + 5
RETURNED = {"prefer": "return=representation"}


@contextmanager
def served(url: str) -> Iterator[tuple[httpx.Client, int]]:
    command = [sys.executable, "-m", "atomicbatch", "serve", url, "--port", "0", "--quiet"]
    command += ["--limit", f"max_reply_bytes={LIMIT}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            with httpx.Client(base_url=address, timeout=60) as client:
                yield client, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_rows_and_values_that_are_too_many(database_url: str) -> None:
    """GET, PATCH and DELETE of 30 MB of rows, or of one row of 12 MB, stay within the bound."""
    url = server_url(database_url)
    fill(url, "many", 3000, 10_000)
    fill(url, "huge", 1, 12_000_000)
    with served(database_url) as (client, pid):
        for table in ("many", "huge"):  # whatever comes with the first requests is there then
            client.get(f"/v1/api/{table}?select=id,note").raise_for_status()
            client.patch(
                f"/v1/api/{table}?id=gte.0", json={"note": 5}, headers={"prefer": "return=minimal"}
            ).raise_for_status()
        before = peak_mib(pid)
        for table in ("many", "huge"):
            path = f"/v1/api/{table}"
            content_type, body = write_batch(
                [call("GET", f"{path}?limit=50"), call("GET", f"{path}?limit=60")]
            )
            answers = {
                "GET": client.get(path),
                "GET limit": client.get(f"{path}?limit=1000"),
                "GET one": client.get(f"{path}/0"),
                "PATCH": client.patch(f"{path}?id=gte.0", json={"note": 6}, headers=RETURNED),
                "PATCH one": client.patch(f"{path}/0", json={"note": 6}),
                "DELETE": client.request("DELETE", f"{path}?id=gte.0", headers=RETURNED),
                "DELETE one": client.request("DELETE", f"{path}/0", headers=RETURNED),
            }
            if table == "many":  # a single row of it may be sent
                for name in ("GET one", "PATCH one", "DELETE one"):
                    assert answers.pop(name).status_code == 200
            for name, answer in answers.items():
                assert answer.status_code == 413, name
                assert answer.json()["limit"] == "max_reply_bytes", name
            batch = client.post(
                "/v1/api/batch", content=body, headers={"content-type": content_type.decode()}
            )
            failed = {"many": 2, "huge": 1}[table]
            assert batch.headers["batch-outcome"] == f"rolled-back; failed={failed}; status=413"
            used = peak_mib(pid) - before
            assert used < AT_MOST_MIB, f"{table}: {used} MiB"
        some = client.get("/v1/api/many?id=lt.50&select=id")
        assert some.status_code == 200, "the server goes on"
    assert seen(database_url, "SELECT count(*), min(note), max(note) FROM many")[0] == (2999, 5, 5)
    assert seen(database_url, "SELECT count(*), max(note) FROM huge")[0] == (1, 5)


@pytest.mark.slow
def test_what_fits_is_sent(database_url: str) -> None:
    """Rows that come to just under the limit are sent whole, whatever their sizes."""
    url = server_url(database_url)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    fill(url, "docs", 700, 1000)
    with engine.begin() as connection:
        longer = {"sqlite": "hex(zeroblob(100000))"}.get(engine.name, "repeat('y', 200000)")
        connection.exec_driver_sql(f"UPDATE docs SET body = {longer} WHERE id = 350")
    with served(database_url) as (client, _):
        for method, body in (("GET", None), ("PATCH", {"note": 1}), ("DELETE", None)):
            answer = client.request(
                method,
                "/v1/api/docs?id=gte.0",
                json=body,
                headers=RETURNED if method != "GET" else {},
            )
            assert answer.status_code == 200
            assert {row["id"]: len(row["body"]) for row in answer.json()} == {
                number: 200_000 if number == 350 else 1000 for number in range(700)
            }


@pytest.mark.slow
def test_a_few_rows_that_are_long(database_url: str) -> None:
    """A page of few rows is read in another way: long values and long filters fit there too."""
    fill(server_url(database_url), "docs", 30, 20_000)
    with served(database_url) as (client, _):
        page = client.get("/v1/api/docs?order=id&limit=5&offset=20")
        assert page.status_code == 200
        assert [(row["id"], len(row["body"])) for row in page.json()] == [
            (number, 20_000) for number in range(20, 25)
        ]
        assert client.get(f"/v1/api/docs?body=eq.{'z' * 20_000}&limit=5").json() == []
        same = client.get(f"/v1/api/docs?body=neq.{'z' * 20_000}&limit=1&select=id")
        assert same.status_code == 200


@pytest.mark.slow
def test_a_long_response_of_a_batch(sqlite_path: Path) -> None:
    """A response of several hundred kilobytes arrives whole, and what it says is stored."""
    url = f"sqlite:///{sqlite_path}"
    fill(server_url(url), "docs", 300, 1000)
    content_type, body = write_batch(
        [call("PATCH", "/v1/api/docs?id=lt.300", {"note": 2}), call("GET", "/v1/api/docs")]
    )
    with served(url) as (client, _):
        response = client.post(
            "/v1/api/batch", content=body, headers={"content-type": content_type.decode()}
        )
    assert response.headers["batch-outcome"] == "committed"
    assert len(response.content) > 2 * 300 * 1000
    assert seen(url, "SELECT count(*) FROM docs WHERE note = 2") == [(300,)]
