"""COMMIT goes wrong under the server: its answer never says what the database does not hold."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atomicbatch.wire.batch import write_batch
from tests.databases import free_port
from tests.disks import FaultyDisk
from tests.proxies import At, Fault, flipped, proxied
from tests.server.conftest import Serve
from tests.server.served import call, make_shop, seen
from tests.transactions.sqlalchemy.test_commit_faults import no_length, out_of_step

IDS = "SELECT id FROM items WHERE id > 3 ORDER BY id"


def item(number: int) -> dict[str, Any]:
    return {"id": number, "sku": f"new {number}", "name": "new"}


@pytest.fixture(params=["postgresql", "mysql"])
def server_database(request: pytest.FixtureRequest) -> str:
    """A shop in each kind of database that is reached by a connection that may be lost."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    make_shop(url)
    return url


@pytest.mark.parametrize("at", At)
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET])
def test_the_connection_is_lost_at_commit(
    server_database: str, serve: Serve, fault: Fault, at: At
) -> None:
    """A batch and a plain request say that nobody knows; the next one has a new connection."""
    url = server_database
    with proxied(url) as (proxy, through):
        shop = serve(through)
        # Each thread its connection, before anything goes wrong.
        assert shop.request("POST", "/v1/api/items", item(4)).status_code == 201
        proxy.when(b"COMMIT", fault, at=at)
        response, _ = shop.batch(
            call("POST", "/v1/api/items", item(5)), call("POST", "/v1/api/items", item(6))
        )
        assert proxy.happened.is_set()
        check_unknown(response)
        proxy.when(b"COMMIT", fault, at=at)
        check_unknown(shop.request("POST", "/v1/api/items", item(7)))
        assert proxy.happened.is_set()
        proxy.resume()
        assert shop.request("POST", "/v1/api/items", item(8)).status_code == 201
        stored = [(4,), (8,)] if at is At.REQUEST else [(number,) for number in range(4, 9)]
        assert seen(url, IDS) == stored
        shop.client.close()


def check_unknown(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["batch-outcome"] == "unknown"
    assert "retry-after" not in response.headers
    assert response.json()["type"] == "urn:atomicbatch:problem:outcome-unknown"


def another_word(answer: bytes) -> bytes:
    """PostgreSQL: a well-formed answer, but to what?"""
    return answer.replace(b"COMMIT", b"SELECT")


@pytest.mark.parametrize(
    ("kind", "garble"),
    [
        *(("postgresql", garble) for garble in (flipped, no_length, another_word)),
        ("mysql", out_of_step),
    ],
)
def test_the_answer_to_commit_is_garbled(
    kind: str, garble: Callable[[bytes], bytes], serve: Serve, request: pytest.FixtureRequest
) -> None:
    """What nobody can read is no refusal; the connection is never used again."""
    url: str = request.getfixturevalue(f"{kind}_url")
    make_shop(url)
    with proxied(url) as (proxy, through):
        shop = serve(through)
        assert shop.request("POST", "/v1/api/items", item(4)).status_code == 201
        proxy.when(b"COMMIT", Fault.GARBLE, at=At.ANSWER, garble=garble)
        response, _ = shop.batch(
            call("POST", "/v1/api/items", item(5)), call("POST", "/v1/api/items", item(6))
        )
        check_unknown(response)
        assert shop.request("POST", "/v1/api/items", item(7)).status_code == 201
        assert seen(url, IDS) == [(4,), (5,), (6,), (7,)]


@contextlib.contextmanager
def served_by_a_process(path: Path, disk: FaultyDisk) -> Iterator[httpx.Client]:
    """The command itself, on a disk that may fail; killed at the end, as by a power cut."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "atomicbatch", "serve", str(path), "--port", str(port)],
        env=disk.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline, "the server did not answer"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def send(client: httpx.Client, *numbers: int) -> httpx.Response:
    content_type, body = write_batch(
        [call("POST", "/v1/api/items", item(number)) for number in numbers]
    )
    headers = {"content-type": content_type.decode()}
    return client.post("/v1/api/batch", content=body, headers=headers)


def stored(path: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [int(number) for (number,) in connection.execute(IDS)]


def test_sqlite_cannot_sync_at_commit(sqlite_path: Path, tmp_path: Path) -> None:
    """The frame that commits is in the file, and after a power cut the rows are there: unknown."""
    make_shop(f"sqlite:///{sqlite_path}")
    disk = FaultyDisk(tmp_path, "-wal")
    cut_off = tmp_path / "cut off"
    with served_by_a_process(sqlite_path, disk) as client:
        # Else there is no WAL yet, whose head would be what cannot be synced.
        assert send(client, 4).headers["batch-outcome"] == "committed"
        disk.fail("sync")
        with contextlib.closing(sqlite3.connect(sqlite_path)) as other:
            assert [number for (number,) in other.execute(IDS)] == [4]
            check_unknown(send(client, 5, 6))
            assert [number for (number,) in other.execute(IDS)] == [4]  # as if rolled back
            # What the next start would find; the shared memory is not on the disk.
            for suffix in ("", "-wal"):
                shutil.copy(f"{sqlite_path}{suffix}", f"{cut_off}{suffix}")
        assert stored(cut_off) == [4, 5, 6]
        check_unknown(client.post("/v1/api/items", json=item(7)))
        disk.mend()
        assert send(client, 8).headers["batch-outcome"] == "committed"
    assert {4, 8} <= set(stored(sqlite_path)) <= {4, 5, 6, 7, 8}


def test_sqlite_has_no_room_at_commit(sqlite_path: Path, tmp_path: Path) -> None:
    """SQLite says so before it writes the frame that commits: a rollback, and told as one."""
    make_shop(f"sqlite:///{sqlite_path}")
    disk = FaultyDisk(tmp_path, "-wal")
    with served_by_a_process(sqlite_path, disk) as client:
        disk.fail("full")
        response = send(client, 4, 5)
        assert response.headers["batch-outcome"] == "rolled-back; failed=commit; status=507"
        assert "unless" not in response.text
        assert client.post("/v1/api/items", json=item(6)).status_code == 507
        disk.mend()
        assert send(client, 7, 8).headers["batch-outcome"] == "committed"
    assert stored(sqlite_path) == [7, 8]
