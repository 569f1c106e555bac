"""
Where ``atomicbatch serve`` spends the time of a call: its CPU time by the stages of a batch.

The server runs with clocks in it (``benchmarks/timed_server.py``) and is asked over a socket by one
client. What no clock sees is HTTP, the event loop, the way to the worker thread and back, and the
access log. Statements are what the server's process does itself to run them: on SQLite that is the
database, on PostgreSQL it is the driver, and the database's own work and the waiting for it are
not in it. Run it with ``python -m benchmarks.stages``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import calls
from benchmarks.bars import Cell
from benchmarks.connection import Connection, check_committed
from benchmarks.machine import load
from benchmarks.pairs import KINDS, Side, add_options, sides, title
from benchmarks.report import Report

CELLS: list[Cell] = [
    ("create", 1), ("create", 100), ("create", 1000), ("create", 10_000), ("mix", 100),
]  # fmt: skip
HTTP = "HTTP, loop, threads, log"
ROWS = (
    "wire: read", "plan", "statements", "finish", "engine", "transaction", "wire: write", HTTP,
)  # fmt: skip
REQUESTS = 20
"""Different batches, used again and again."""


class Timed:
    """A server with clocks in it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer().rsplit(":", 1)[1])

    def ask(self, command: str) -> dict[str, float]:
        """Reset the clocks, or tell nanoseconds since then."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        told: dict[str, float] = json.loads(self._answer())
        return told

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def timed_server(side: Side) -> Iterator[Timed]:
    """Run a source tree's server with clocks in it."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "timed_server.py"), "serve", side.address, "--port", "0"]
    command += ["--limit", "max_calls=10000", "--limit", "max_body_bytes=64000000"]
    command += ["--limit", "timeout_seconds=300"]
    environment = dict(os.environ)
    if side.tree is not None:
        environment["PYTHONPATH"] = str(side.tree / "src")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield Timed(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def stages(server: Timed, cell: Cell, rounds: int) -> dict[str, float]:
    """Microseconds of CPU a call: medians over rounds, each of about a quarter of a second."""
    kind, count = cell
    rng = random.Random(7)
    requests = [
        calls.batch(calls.KINDS[kind](count, rng)) for _ in range(max(2, REQUESTS // count))
    ]
    found: list[dict[str, float]] = []
    with closing(Connection(server.port)) as connection:
        for number in range(rounds + 1):
            server.ask("reset")
            batches, until = 0, time.perf_counter() + 0.25
            while time.perf_counter() < until:
                check_committed(connection.exchange(requests[batches % len(requests)]))
                batches += 1
            told = server.ask("tell")
            if number:
                found.append({name: value / 1000 / count / batches for name, value in told.items()})
    told = {name: statistics.median(one[name] for one in found) for name in found[0]}
    within = sum(told[name] for name in ("plan", "statements", "finish", "transaction"))
    told["engine"] = told["execute"] - within
    told[HTTP] = told["all"] - told["execute"] - told["wire: read"] - told["wire: write"]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    report = Report("stages", title(arguments))
    print("microseconds of the server's CPU a call")
    for database in KINDS:
        with sides(database, arguments) as both:
            heads = [f"{kind} {count:,}" for kind, count in CELLS]
            tables = {
                side.name: report.table(
                    f"stages.{database}.{side.name}", (f"{database}, {side.name}", *heads)
                )
                for side in both
            }
            found: dict[str, list[dict[str, float]]] = {side.name: [] for side in both}
            for cell in CELLS:
                for side in both:
                    with timed_server(side) as server:
                        found[side.name].append(stages(server, cell, arguments.rounds))
        for name, table in tables.items():
            for row in (*ROWS, "all"):
                table.rows.append([row, *(f"{told[row]:.1f}" for told in found[name])])
            table.show()
    print(f"\nload {load():.1f}")
    report.save(arguments.json)


if __name__ == "__main__":
    main()
