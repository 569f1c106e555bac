"""
What a batch saves an ordinary FastAPI app, whose handlers are not changed, under uvicorn.

100 creates: as separate requests on a kept-alive connection, as one batch, and by a bulk endpoint
written by hand, in turn. *Own*: the handler opens a session, adds, flushes and commits.
*Dependency*: the session comes from a ``yield`` dependency, and the row is refreshed after the
commit. PostgreSQL is beside the app, and 1 and 10 ms each way from it (``benchmarks/link.py``,
which also counts the round trips to the database).

Milliseconds a create, medians over rounds. Run it with ``python -m benchmarks.library``.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import sqlalchemy as sa

from atomicbatch.model import Call
from benchmarks import calls, servers
from benchmarks.bars import met, reached
from benchmarks.connection import Connection, check_committed, check_ok
from benchmarks.link import Link, link
from benchmarks.machine import described, load
from benchmarks.report import Report, Table, add_option
from tests import databases

COUNT = 100
DRIVERS = {
    "psycopg": "postgresql+psycopg",
    "psycopg async": "postgresql+psycopg_async",
    "psycopg2": "postgresql+psycopg2",
    "asyncpg": "postgresql+asyncpg",
}
KINDS = {"own": "/simple", "dependency": "/items"}
# Of psycopg, by the kind of handler: separate / batch at least, by milliseconds each way.
LEAST_RATIOS = {"own": {0: 1.2, 1: 1.7, 10: 2.5}, "dependency": {0: 1.2, 1: 1.5, 10: 2.2}}
MOST_TRIPS = {"own": 1.05, "dependency": 2.05}
MOST_FIXED = 2
HEADS_OF_TIMES = ("ms a create", "separate", "batch", "bulk", "separate / batch", "at least", "")
HEADS_OF_TRIPS = ("round trips", "a request", "a call", "at most", "", "a batch", "at most", "")
Act = Callable[[], None]


class Ways(NamedTuple):
    """Three ways of doing the same creates."""

    separate: Act
    batch: Act
    bulk: Act


def creates(path: str, count: int) -> list[Call]:
    """Creates by the app's handler at ``path``."""
    bodies = [json.dumps({"name": f"item {n}", "stock": n}).encode() for n in range(count)]
    return [Call("POST", path.encode(), b"", calls.JSON, body) for body in bodies]


def ways(connection: Connection, path: str, count: int) -> Ways:
    """The requests are written before the clock runs."""
    asked = creates(path, count)
    singles, together = [calls.plain(call) for call in asked], calls.batch(asked)
    rows = b"[" + b",".join(call.body for call in asked) + b"]"
    bulk = calls.posted("/items/bulk", b"application/json", rows)

    def separately() -> None:
        for single in singles:
            check_ok(connection.exchange(single))

    return Ways(
        separately,
        lambda: check_committed(connection.exchange(together)),
        lambda: check_ok(connection.exchange(bulk)),
    )


def milliseconds(found: Ways, rounds: int) -> list[float]:
    """A create, each way."""
    times: tuple[list[float], ...] = ([], [], [])
    for _ in range(rounds):
        for act, taken in zip(found, times, strict=True):
            start = time.perf_counter()
            act()
            taken.append((time.perf_counter() - start) / COUNT * 1000)
    return [statistics.median(taken) for taken in times]


def trips(proxy: Link, act: Act) -> int:
    """How often the app waits for its database."""
    before = proxy.trips()
    act()
    return proxy.trips() - before


class Tables(NamedTuple):
    """What a create takes, and how often it waits for the database."""

    times: Table
    trips: Table

    def add_times(self, name: str, taken: list[float], least: float | None = None) -> None:
        """Separate, batch and bulk; ``least`` is what separate / batch has to reach."""
        ratio = taken[0] / taken[1]
        bar = ("", "") if least is None else (f"{least:g}", reached(ratio, least))
        self.times.add(name, *(f"{one:.2f}" for one in taken), f"{ratio:.2f}", *bar)

    def add_trips(self, name: str, kind: str, counted: Trips, *, has_bars: bool) -> None:
        """Of a request, of a call in a batch of 100, and what a batch takes besides."""
        most = MOST_TRIPS[kind]
        bars = (
            (
                f"{most:g}",
                met(counted.call, most),
                f"{MOST_FIXED:g}",
                met(counted.fixed, MOST_FIXED),
            )
            if has_bars
            else ("",) * 4
        )
        request, call, fixed = f"{counted.request:.2f}", f"{counted.call:.2f}", str(counted.fixed)
        self.trips.rows.append([name, request, call, *bars[:2], fixed, *bars[2:]])


class Trips(NamedTuple):
    """Round trips to the database."""

    request: float
    call: float
    fixed: int


def count_trips(proxy: Link, connection: Connection, path: str) -> Trips:
    """Compare a batch of 100 with one of 50."""
    of_100, of_50 = (ways(connection, path, count) for count in (COUNT, COUNT // 2))
    for act in (of_100.batch, of_50.batch):
        act()
    acts = (of_100.separate, of_100.batch, of_50.batch)
    separate, whole, half = (trips(proxy, act) for act in acts)
    return Trips(separate / COUNT, whole / COUNT, 2 * half - whole)


def on_sqlite(rounds: int, tables: Tables) -> None:
    """``def`` handlers on a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.sqlite"

        def stored() -> int:
            with closing(sqlite3.connect(path)) as connection:
                return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])

        with (
            servers.uvicorn_app(f"sqlite:///{path}") as server,
            closing(Connection(server.port)) as connection,
        ):
            for kind, target in KINDS.items():
                found = ways(connection, target, COUNT)
                milliseconds(found, 1)
                before = stored()
                tables.add_times(f"SQLite, {kind}", milliseconds(found, rounds))
                if stored() - before != 3 * rounds * COUNT:
                    raise SystemExit("rows are missing")


def on_postgresql(
    driver: str, url: sa.URL, rounds: int, delays: Sequence[int], tables: Tables
) -> None:
    """One driver, beside the database and at a distance."""
    has_bars = driver in ("psycopg", "psycopg async")
    with ExitStack() as stack:
        assert url.port is not None
        proxy = stack.enter_context(link(url.port))
        url = url.set(drivername=DRIVERS[driver])
        near, far = (
            stack.enter_context(closing(Connection(server.port)))
            for server in (
                stack.enter_context(servers.uvicorn_app(shown(url))),
                stack.enter_context(servers.uvicorn_app(shown(url.set(port=proxy.port)))),
            )
        )
        for kind, path in KINDS.items():
            for connection in (near, far):
                milliseconds(ways(connection, path, COUNT), 1)
            counted = count_trips(proxy, far, path)
            tables.add_trips(f"{driver}, {kind}", kind, counted, has_bars=has_bars)
            for delay in delays:
                proxy.set_delay(delay)
                found = ways(far if delay else near, path, COUNT)
                taken = milliseconds(found, max(1, rounds if delay < 5 else rounds // 5))
                proxy.set_delay(0)
                least = LEAST_RATIOS[kind].get(delay) if has_bars else None
                tables.add_times(f"{driver}, {kind}, {delay} ms", taken, least)


def shown(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="with 10 ms a fifth of them")
    parser.add_argument("--driver", action="append", choices=DRIVERS, help="default: all")
    parser.add_argument("--delay", action="append", type=int, help="default: 0, 1 and 10")
    add_option(parser)
    arguments = parser.parse_args()
    report = Report("library", f"{described()}, SQLAlchemy {sa.__version__}")
    tables = Tables(
        report.table("library.times", HEADS_OF_TIMES), report.table("library.trips", HEADS_OF_TRIPS)
    )
    tables.times.show()
    on_sqlite(arguments.rounds, tables)
    with databases.postgresql(durable=True) as server:
        url = sa.make_url(f"{server}/postgres")
        with psycopg.connect(shown(url), autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE items (id SERIAL PRIMARY KEY, name TEXT NOT NULL, stock INTEGER)"
            )
        for driver in arguments.driver or DRIVERS:
            delays = arguments.delay or (0, 1, 10)
            on_postgresql(driver, url, arguments.rounds, delays, tables)
    tables.trips.show()
    print(f"\nload {load():.1f}")
    report.save(arguments.json)


if __name__ == "__main__":
    main()
