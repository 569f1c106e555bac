"""
How much memory ``atomicbatch serve`` takes for batches of 10,000 calls, beside older code.

The peak of the process (``VmHWM``) before the first batch and after a few of them, in MiB; a server
of its own each time. Run it with ``python -m benchmarks.big_batches --baseline TREE``.
"""

from __future__ import annotations

import argparse
import random
import statistics
from contextlib import closing

from benchmarks import calls, servers
from benchmarks.bars import met
from benchmarks.connection import Connection, check_committed
from benchmarks.pairs import KINDS, Side, add_options, sides, title
from benchmarks.report import Report, Table

COUNT = 10_000
BATCHES = 3


def peaks(side: Side, kind: str, rng: random.Random) -> tuple[float, float]:
    """Of a new server: before, and after some batches."""
    with (
        servers.atomicbatch_server(side.address, checkout=side.tree) as server,
        closing(Connection(server.port)) as connection,
    ):
        check_committed(connection.exchange(calls.batch(calls.KINDS[kind](4, rng))))
        idle = servers.peak_mib(server.pid)
        for _ in range(BATCHES):
            request = calls.batch(calls.KINDS[kind](COUNT, rng))
            check_committed(connection.exchange(request))
        return idle, servers.peak_mib(server.pid)


def measure(database: str, arguments: argparse.Namespace, table: Table) -> None:
    """Add a row for each kind of batch."""
    rng = random.Random(7)
    with sides(database, arguments) as both:
        for kind in calls.KINDS:
            found: dict[str, list[tuple[float, float]]] = {side.name: [] for side in both}
            for _ in range(arguments.rounds):
                for side in both:
                    found[side.name].append(peaks(side, kind, rng))
            medians = {
                name: [statistics.median(column) for column in zip(*figures, strict=True)]
                for name, figures in found.items()
            }
            cells = [f"{mib:.1f}" for name in medians for mib in medians[name]]
            if "before" in medians:
                ratio = round(medians["after"][1] / medians["before"][1], 2)
                cells += [f"{ratio:.2f}", met(ratio, 1.0)]
            table.add(f"{database}, {kind}", *cells, *[""] * (6 - len(cells)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    report = Report("big_batches", title(arguments))
    print(f"MiB; batches of {COUNT} calls")
    heads = ("MiB", "idle", "peak", "idle before", "peak before", "times", "")
    table = report.table("big_batches", heads)
    table.show()
    for database in KINDS:
        measure(database, arguments, table)
    report.save(arguments.json)


if __name__ == "__main__":
    main()
