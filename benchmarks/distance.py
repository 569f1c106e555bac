"""
How long a batch waits for a PostgreSQL server at a distance: ``atomicbatch serve`` behind a link.

The wait is what a batch takes longer than without the delay, in round trips of the link; beside it
what the proxy has counted, which is more where the server sends on while answers come in. Run it
with ``python -m benchmarks.distance``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from benchmarks import calls, servers
from benchmarks.bars import MOST_TRIPS, Cell, met
from benchmarks.connection import Connection, check_committed
from benchmarks.link import Link, link, round_trip_ms
from benchmarks.machine import described, load
from benchmarks.raw_drivers import make_table
from benchmarks.report import Report, Table, add_option
from tests import databases

CELLS: list[Cell] = [("create", 1), ("create", 10), *MOST_TRIPS]
MOST_SECONDS = 20
"""One kind of batches takes no longer: where each call is a round trip, 1000 calls take 20 s."""


def milliseconds(connection: Connection, cell: Cell, rounds: int, rng: random.Random) -> float:
    """What a batch takes: the median."""
    kind, count = cell
    found: list[float] = []
    deadline = time.monotonic() + MOST_SECONDS
    while len(found) < rounds and (not found or time.monotonic() < deadline):
        request = calls.batch(calls.KINDS[kind](count, rng))
        start = time.perf_counter()
        check_committed(connection.exchange(request))
        found.append((time.perf_counter() - start) * 1000)
    return statistics.median(found)


def trips_of_one(proxy: Link, connection: Connection, cell: Cell, rng: random.Random) -> int:
    """What the proxy counts for a batch."""
    before = proxy.trips()
    milliseconds(connection, cell, 1, rng)
    return proxy.trips() - before


def measure(
    proxy: Link, connection: Connection, delay: float, trip: float, rounds: int, table: Table
) -> None:
    """Add a row for each kind of batch; ``trip`` is what the delay adds to a round trip, in ms."""
    rng = random.Random(7)
    for cell in CELLS:
        proxy.set_delay(0)
        milliseconds(connection, cell, 2, rng)
        near = milliseconds(connection, cell, rounds, rng)
        proxy.set_delay(delay)
        far = milliseconds(connection, cell, rounds, rng)
        counted = trips_of_one(proxy, connection, cell, rng)
        waits, most = (far - near) / trip, MOST_TRIPS.get(cell)
        bar = ("", "") if most is None else (f"{most:g}", met(round(waits, 1), most))
        name = f"{cell[0]} {cell[1]:,}"
        table.add(name, f"{near:.1f}", f"{far:.1f}", f"{waits:.1f}", str(counted), *bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--delay", type=float, default=10.0, help="milliseconds each way")
    parser.add_argument("--checkout", type=Path, help="measure the code of this source tree")
    add_option(parser)
    arguments = parser.parse_args()
    report = Report("distance", described(arguments.checkout))
    trip, own = round_trip_ms(arguments.delay), round_trip_ms(0)
    print(f"{arguments.delay:g} ms each way: a round trip takes {trip:.1f} ms, else {own:.2f}")
    heads = ("", "near, ms", "far, ms", "waits", "counted", "at most", "")
    table = report.table("distance", heads)
    table.show()
    with databases.postgresql(durable=True) as server:
        url = sa.make_url(f"{server}/postgres")
        assert url.port is not None
        make_table(str(url), "items", calls.some_rows(random.Random(1)))
        with link(url.port) as proxy:
            through = url.set(port=proxy.port).render_as_string(hide_password=False)
            with (
                servers.atomicbatch_server(through, checkout=arguments.checkout) as ours,
                closing(Connection(ours.port)) as connection,
            ):
                measure(proxy, connection, arguments.delay, trip - own, arguments.rounds, table)
    print(f"load {load():.1f}")
    report.save(arguments.json)


if __name__ == "__main__":
    main()
