"""Kill -9 of the server in the middle of batches: each batch is there whole, or not at all."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest

from atomicbatch.server.http.serve import serve
from atomicbatch.wire.batch import write_batch
from tests.server.served import call, on_its_own, seen

KILLS = [15, pytest.param(200, marks=pytest.mark.prove)]
ENTRIES = 30
TOTAL = 4000

BANK = (
    "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
    (
        "CREATE TABLE entries (transfer VARCHAR(40) NOT NULL, line INTEGER NOT NULL,"
        " account INTEGER NOT NULL REFERENCES accounts (id), amount INTEGER NOT NULL,"
        " PRIMARY KEY (transfer, line))"
    ),
    "INSERT INTO accounts VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000)",
)


@dataclass
class Told:
    """What the clients were told."""

    committed: set[str] = field(default_factory=set)
    sent: int = 0
    cut_off: int = 0


class Server:
    """Server processes, one after another on one port, forked from one that has imported all."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["atomicbatch.server.http.serve"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @contextlib.contextmanager
    def running(self) -> Iterator[BaseProcess]:
        process = self._context.Process(target=serve, args=(self._url,), kwargs={"port": self.port})
        process.start()
        try:
            self._wait(process)
            yield process
        finally:
            process.kill()
            process.join()

    def _wait(self, process: BaseProcess) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert process.is_alive(), "the server did not start"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.002)
        raise AssertionError("the server did not answer")


def transfer(client: httpx.Client, name: str, rng: random.Random) -> httpx.Response:
    """Read two accounts, then move money between them in one batch, with many entries."""
    source, target = rng.sample([1, 2, 3, 4], 2)
    amount = rng.randint(1, 5) * (ENTRIES // 2)
    read = {n: client.get(f"/v1/api/accounts/{n}") for n in (source, target)}

    def move(account: int, change: int) -> Any:
        tag = read[account].headers["etag"].encode()
        body = {"balance": read[account].json()["balance"] + change}
        return call("PATCH", f"/v1/api/accounts/{account}", body, [(b"if-match", tag)])

    lines = []
    for line in range(ENTRIES):
        account, sign = (source, -1) if line % 2 else (target, 1)
        entry = {"transfer": name, "line": line, "account": account}
        entry["amount"] = sign * amount // (ENTRIES // 2)
        lines.append(call("POST", "/v1/api/entries", entry))
    half = len(lines) // 2
    content_type, body = write_batch(
        [*lines[:half], move(source, -amount), *lines[half:], move(target, amount)]
    )
    headers = {"content-type": content_type.decode()}
    return client.post("/v1/api/batch", content=body, headers=headers)


def work(port: int, told: Told, seed: int, committing: threading.Event, prefix: str) -> None:
    """Send transfers until the server is gone; tell when the first is committed."""
    rng = random.Random(seed)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        for number in range(10_000):
            name = f"{prefix}-{number}"
            try:
                response = transfer(client, name, rng)
            except (httpx.TransportError, KeyError):
                told.cut_off += 1
                return
            told.sent += 1
            outcome = response.headers.get("batch-outcome", "")
            if outcome == "committed":
                told.committed.add(name)
                committing.set()


def check(url: str, told: Told) -> int:
    """The bank's invariants, in one snapshot; how many transfers there are."""
    ((balances, entries, transfers, torn),) = seen(
        url,
        "SELECT (SELECT sum(balance) FROM accounts),"
        " (SELECT coalesce(sum(amount), 0) FROM entries),"
        " (SELECT count(DISTINCT transfer) FROM entries),"
        f" (SELECT count(*) FROM (SELECT transfer FROM entries GROUP BY transfer"
        f" HAVING count(*) <> {ENTRIES}) AS t)",
    )
    assert balances == TOTAL, "money came or went"
    assert entries == 0
    assert torn == 0, "a batch is there in part"
    wrong = seen(
        url,
        "SELECT a.id FROM accounts a WHERE a.balance <> 1000 +"
        " (SELECT coalesce(sum(e.amount), 0) FROM entries e WHERE e.account = a.id)",
    )
    assert wrong == [], "a balance does not fit its entries"
    stored = {name for (name,) in seen(url, "SELECT DISTINCT transfer FROM entries")}
    assert told.committed <= stored, "a batch that was answered with committed is gone"
    return int(transfers)


def kill_many_times(url: str, kills: int) -> None:
    on_its_own(url, *BANK)
    server, told, rng = Server(url), Told(), random.Random(20261124)
    in_the_middle = 0
    for turn in range(kills):
        committing = threading.Event()
        with server.running() as process:
            threads = [
                threading.Thread(
                    target=work, args=(server.port, told, rng.random(), committing, f"{turn}-{n}")
                )
                for n in range(2)
            ]
            for thread in threads:
                thread.start()
            assert committing.wait(20)
            time.sleep(rng.uniform(0.005, 0.06))  # the random moment, not a synchronisation
            process.kill()
            process.join()
            for thread in threads:
                thread.join(30)
        unknown = check(url, told) - len(told.committed)
        in_the_middle = max(in_the_middle, unknown)
    assert len(told.committed) >= kills, "too few batches to mean anything"
    assert told.cut_off == 2 * kills, "each kill must cut its clients off"


@pytest.mark.slow
@pytest.mark.parametrize("kills", KILLS)
def test_kill_on_sqlite(sqlite_path: Path, kills: int) -> None:
    """After each kill the bank's invariants hold on SQLite."""
    kill_many_times(f"sqlite:///{sqlite_path}", kills)


@pytest.mark.slow
@pytest.mark.parametrize("kills", KILLS)
def test_kill_on_postgresql(postgresql_url: str, kills: int) -> None:
    """After each kill the bank's invariants hold on PostgreSQL."""
    kill_many_times(postgresql_url, kills)
