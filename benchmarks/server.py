"""
What a call costs on ``atomicbatch serve``, over a real socket, beside what users would do else.

Everything is measured in one run on one SQLite file with default durability:

- floor: raw ``sqlite3`` doing the same statements in one transaction, in this process;
- separate: one plain request for each call, one after another on one kept-alive connection;
- batch: all calls in one batch request.

Figures are microseconds a call, medians over rounds. Run it with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    price NUMERIC(10, 2) NOT NULL,
    stock INTEGER NOT NULL CHECK (stock >= 0)
);
"""
BOUNDARY = b"batch_benchmark"

Part = tuple[str, str, dict[str, object] | None]


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Client:
    """The least that can speak HTTP/1.1: what is measured is the server, not the client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> bytes:
        """Send a whole request, return the whole response."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(262144)
        head, _, body = received.partition(b"\r\n\r\n")
        lowered = head.lower()
        start = lowered.index(b"content-length:") + 15 if b"content-length:" in lowered else -1
        missing = (int(lowered[start:].split(b"\r\n")[0]) if start >= 0 else 0) - len(body)
        chunks = [received]
        while missing > 0:
            chunks.append(self._socket.recv(262144))
            missing -= len(chunks[-1])
        return b"".join(chunks)


def http(part: Part) -> bytes:
    """A plain request for one call."""
    method, target, value = part
    body = b"" if value is None else json.dumps(value).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def batch(parts: list[Part]) -> bytes:
    """A batch request for many calls, as a client of ours would write it."""
    chunks = []
    for number, (method, target, value) in enumerate(parts):
        body = b"" if value is None else json.dumps(value).encode()
        head = f"{method} {target} HTTP/1.1\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        chunks.append(
            b"--%b\r\nContent-Type: application/http\r\nContent-ID: <%d>\r\n\r\n%b\r\n%b\r\n"
            % (BOUNDARY, number, head.encode(), body)
        )
    chunks.append(b"--%b--\r\n" % BOUNDARY)
    body = b"".join(chunks)
    return (
        b"POST /v1/api/batch HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/mixed; boundary=%b\r\nContent-Length: %d\r\n\r\n%b"
        % (BOUNDARY, len(body), body)
    )


def creates(count: int) -> list[Part]:
    return [
        ("POST", "/v1/api/items", {"name": f"item {n}", "price": "9.99", "stock": n})
        for n in range(count)
    ]


def mixed(count: int) -> list[Part]:
    """Create, read, update, list in turn; reads and updates go to rows made beforehand."""
    parts: list[Part] = []
    for n in range(count // 4):
        parts += [
            ("POST", "/v1/api/items", {"name": f"item {n}", "price": "9.99", "stock": n}),
            ("GET", f"/v1/api/items/{n + 1}", None),
            ("PATCH", f"/v1/api/items/{n + 1}", {"stock": n + 7}),
            ("GET", f"/v1/api/items?stock=gte.{n}&order=id&limit=5", None),
        ]
    return parts


def floor_creates(connection: sqlite3.Connection, count: int) -> Callable[[], None]:
    sql = "INSERT INTO items (name, price, stock) VALUES (?, ?, ?)"
    rows = [(f"item {n}", 9.99, n) for n in range(count)]

    def run() -> None:
        connection.execute("BEGIN IMMEDIATE")
        for row in rows:
            connection.execute(sql, row)
        connection.execute("COMMIT")

    return run


def floor_mixed(connection: sqlite3.Connection, count: int) -> Callable[[], None]:
    def run() -> None:
        connection.execute("BEGIN IMMEDIATE")
        for n in range(count // 4):
            connection.execute(
                "INSERT INTO items (name, price, stock) VALUES (?, ?, ?)", (f"item {n}", 9.99, n)
            )
            connection.execute("SELECT * FROM items WHERE id = ?", (n + 1,)).fetchone()
            connection.execute("UPDATE items SET stock = ? WHERE id = ?", (n + 7, n + 1))
            connection.execute(
                "SELECT * FROM items WHERE stock >= ? ORDER BY id LIMIT 5", (n,)
            ).fetchall()
        connection.execute("COMMIT")

    return run


@contextmanager
def server(path: Path) -> Iterator[tuple[Client, int]]:
    """A server of its own on ``path``: a client and its process id."""
    command = [sys.executable, "-m", "atomicbatch", "serve", str(path), "--port", "0"]
    command += ["--limit", "max_calls=10000", "--limit", "max_body_bytes=20000000"]
    quiet = subprocess.DEVNULL  # the access log is written, as it is by default, and not shown
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Client(int(line.rsplit(":", 1)[1])), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def microseconds_a_call(run: Callable[[], object], calls: int, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / calls * 1e6


def peak_rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def measure(client: Client, raw: sqlite3.Connection, name: str, calls: int, rounds: int) -> int:
    """Print one row; returns the size of the batch request in bytes."""
    make, floor = {"create": (creates, floor_creates), "mixed": (mixed, floor_mixed)}[name]
    parts = make(calls)
    one_by_one = [http(part) for part in parts[:200]]
    request = batch(parts)
    rounds = rounds * 5 if calls == 1 else rounds

    def separately() -> None:
        for single in one_by_one:
            client.exchange(single)

    def together() -> None:
        response = client.exchange(request)
        if b"batch-outcome: committed" not in response[:2000].lower():
            raise SystemExit(response[:2000].decode())

    together()
    figures = (
        microseconds_a_call(floor(raw, calls), calls, rounds),
        microseconds_a_call(separately, len(one_by_one), rounds if calls == 1 else 3),
        microseconds_a_call(together, calls, rounds),
    )
    print(f"{name:<8} {calls:>6} " + " ".join(f"{f:>10.1f}" for f in figures), flush=True)
    return len(request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "bench.sqlite", Path(folder) / "floor.sqlite"
        for file in (path, other):
            with closing(connect(file)) as made:
                made.executescript(SCHEMA)
                made.executemany(
                    "INSERT INTO items (name, price, stock) VALUES (?, ?, ?)",
                    [(f"item {n}", 9.99, n) for n in range(2500)],
                )
        python, cores = sys.version.split()[0], os.cpu_count()
        print(f"Python {python}, SQLite {sqlite3.sqlite_version}, {cores} cores")
        print("microseconds a call, median")
        print(f"{'':<8} {'calls':>6} {'floor':>10} {'separate':>10} {'batch':>10}")
        with closing(connect(other)) as raw, server(path) as (client, pid):
            idle = peak_rss_mib(pid)
            for name in ("create", "mixed"):
                for calls in (
                    (1, 10, 100, 1000, 10000) if name == "create" else (10, 100, 1000, 10000)
                ):
                    size = measure(client, raw, name, calls, rounds)
            print(f"10000 calls are {size / 2**20:.1f} MiB; the server's peak memory was")
            print(
                f"{idle:.0f} MiB before the first batch and {peak_rss_mib(pid):.0f} MiB after all"
            )


if __name__ == "__main__":
    main()
