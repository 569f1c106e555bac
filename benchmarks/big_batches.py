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
from benchmarks.bars import verdict
from benchmarks.connection import Connection, check_committed
from benchmarks.pairs import KINDS, Side, add_options, sides, title

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


def measure(database: str, arguments: argparse.Namespace) -> None:
    """Print a line for each kind of batch."""
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
            text = "".join(f"{cell:>10.1f}" for cells in medians.values() for cell in cells)
            if "before" in medians:
                ratio = medians["after"][1] / medians["before"][1]
                text += f"{ratio:>8.2f}   {verdict(round(ratio, 2), 1.0)}"
            print(f"{database:<12}{kind:<8}{text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(title(arguments))
    print(f"MiB; batches of {COUNT} calls")
    print(f"{'':<20}{'after':>10}{'':>10}{'before':>10}")
    print(f"{'':<20}" + f"{'idle':>10}{'peak':>10}" * 2 + f"{'times':>8}")
    for database in KINDS:
        measure(database, arguments)


if __name__ == "__main__":
    main()
