"""
How many calls a second ``atomicbatch serve`` does for many clients at once, beside older code.

1, 8 and 32 clients send batches of 100 creates, each the next one when the last is answered. The
servers are asked in turn. Run it with ``python -m benchmarks.concurrency --baseline TREE``.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import statistics
import time
from contextlib import ExitStack

from benchmarks import calls, servers
from benchmarks.bars import reached
from benchmarks.connection import check_committed, missing_bytes
from benchmarks.machine import load
from benchmarks.pairs import KINDS, add_options, sides, title
from benchmarks.report import Report, Table

CLIENTS = (1, 8, 32)
COUNT = 100
LEAST_TIMES = 3.0
REQUESTS = 40
"""Different batches, used again and again: writing them is not measured."""


class Client:
    """One of many: its connection, and how much of its answer has come."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received: list[bytes] = []
        self._missing = 0

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there; True when the answer is whole."""
        data = self.socket.recv(262144)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._received.append(data)
        if len(self._received) == 1:
            check_committed(data)
            self._missing = missing_bytes(data)
        else:
            self._missing -= len(data)
        if self._missing > 0:
            return False
        self._received.clear()
        return True


def calls_a_second(port: int, clients: int, seconds: float, requests: list[bytes]) -> float:
    """Let so many clients send for so long."""
    done, sent = 0, 0
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for _ in range(clients):
            client = Client(port)
            stack.callback(client.socket.close)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send(requests[(sent := sent + 1) % REQUESTS])
        start = time.perf_counter()
        running = clients
        while running:
            for key, _ in selector.select():
                client = key.data
                if not client.receive():
                    continue
                done += 1
                if time.perf_counter() - start < seconds:
                    client.send(requests[(sent := sent + 1) % REQUESTS])
                else:
                    running -= 1
        return done * COUNT / (time.perf_counter() - start)


def measure(database: str, arguments: argparse.Namespace, table: Table) -> None:
    """Add a row for each number of clients."""
    rng = random.Random(7)
    requests = [calls.batch(calls.creates(COUNT, rng)) for _ in range(REQUESTS)]
    with sides(database, arguments) as both, ExitStack() as stack:
        ports = {
            side.name: stack.enter_context(
                servers.atomicbatch_server(side.address, checkout=side.tree)
            ).port
            for side in both
        }
        for clients in CLIENTS:
            found: dict[str, list[float]] = {name: [] for name in ports}
            for _ in range(arguments.rounds):
                for name, port in ports.items():
                    a_second = calls_a_second(port, clients, arguments.seconds, requests)
                    found[name].append(a_second)
            medians = {name: statistics.median(figures) for name, figures in found.items()}
            table.add(f"{database}, {clients} at once", *told(medians))


def told(medians: dict[str, float]) -> list[str]:
    """The columns of figures, and the bar."""
    after, before = medians["after"], medians.get("before")
    if before is None:
        return [f"{after:,.0f}", "", "", "", ""]
    verdict = reached(after / before, LEAST_TIMES)
    return [
        f"{after:,.0f}", f"{before:,.0f}", f"{after / before:.2f}", f"{LEAST_TIMES:g}", verdict,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    arguments = parser.parse_args()
    report = Report("concurrency", title(arguments))
    heads = ("calls a second", "after", "before", "times", "at least", "")
    table = report.table("concurrency", heads)
    table.show()
    for database in KINDS:
        measure(database, arguments, table)
    print(f"load {load():.1f}")
    report.save(arguments.json)


if __name__ == "__main__":
    main()
