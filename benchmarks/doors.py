"""
What the drivers' doors cost: a statement outside of batches, and round trips inside of one.

``python -m benchmarks.doors`` starts PostgreSQL and MariaDB. Outside: the best of several rounds,
of which every second one has the doors; the process's own time, so that servers on the same machine
do not blur it, beside what the whole statement takes. Inside: what a proxy counts between the app
and its database, for handlers that know nothing of batches.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from atomicbatch import doors
from benchmarks.bars import MOST_DOOR, met
from benchmarks.door_handlers import HANDLERS, trips_alone, trips_in_a_batch
from benchmarks.link import link
from benchmarks.machine import described
from benchmarks.report import Report, Table, add_option
from tests.servers import KINDS

ROUNDS = 3


class Cost(NamedTuple):
    """Microseconds of one run: the process's own, and by the clock."""

    own: float
    whole: float

    def better(self, other: Cost | None) -> Cost:
        """The best of both."""
        return self if other is None else Cost(min(self.own, other.own), min(self.whole, other[1]))


Costs = dict[str, Cost]


def cost(act: Callable[[], object], count: int) -> Cost:
    """The best of some rounds, for one of ``count`` runs."""
    best = None
    for _ in range(ROUNDS):
        start, clock = time.process_time(), time.perf_counter()
        for _ in range(count):
            act()
        own, whole = time.process_time() - start, time.perf_counter() - clock
        best = Cost(own / count * 1e6, whole / count * 1e6).better(best)
    assert best is not None
    return best


async def cost_async(act: Callable[[], Awaitable[object]], count: int) -> Cost:
    """The async twin."""
    best = None
    for _ in range(ROUNDS):
        start, clock = time.process_time(), time.perf_counter()
        for _ in range(count):
            await act()
        own, whole = time.process_time() - start, time.perf_counter() - clock
        best = Cost(own / count * 1e6, whole / count * 1e6).better(best)
    assert best is not None
    return best


def of_sqlite() -> Costs:
    """A SELECT in memory, and opening a file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO t VALUES (1, 'a')")
        cursor = connection.cursor()
        sql = "SELECT name FROM t WHERE n = ?"
        found = {
            "sqlite3, connection.execute": cost(
                lambda: connection.execute(sql, (1,)).fetchone(), 20000
            ),
            "sqlite3, cursor.execute": cost(lambda: cursor.execute(sql, (1,)).fetchone(), 20000),
        }
    found["sqlite3, connect and close"] = cost(lambda: sqlite3.connect(":memory:").close(), 2000)
    return found


async def of_aiosqlite() -> Costs:
    """A SELECT in memory."""
    import aiosqlite

    async with aiosqlite.connect(":memory:") as connection:
        act = lambda: connection.execute_fetchall("SELECT 1")  # noqa: E731
        return {"aiosqlite": await cost_async(act, 1000)}


async def of_postgresql(url: str) -> Costs:
    """A SELECT that finds nothing to do."""
    import asyncpg
    import psycopg
    import psycopg2

    found = {}
    with psycopg.connect(url, autocommit=True) as one:
        found["psycopg"] = cost(lambda: one.execute("SELECT %s", (1,)), 1000)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        act = lambda: other.execute("SELECT %s", (1,))  # noqa: E731
        found["psycopg, async"] = await cost_async(act, 1000)
    with closing(psycopg2.connect(url)) as two, two.cursor() as cursor:
        found["psycopg2"] = cost(partial(cursor.execute, "SELECT %s", (1,)), 1000)
    three = await asyncpg.connect(url)
    fetch = lambda: three.fetch("SELECT $1::int", 1)  # noqa: E731
    found["asyncpg"] = await cost_async(fetch, 1000)
    await three.close()
    return found


async def of_mysql(url: str) -> Costs:
    """As well."""
    import aiomysql
    import asyncmy
    import MySQLdb
    import pymysql

    parts = urlsplit(url)
    of: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    of["password"] = parts.password or ""
    found = {}
    for name, module in (("PyMySQL", pymysql), ("mysqlclient", MySQLdb)):
        connection: Any = module.connect(**of)
        cursor = connection.cursor()
        found[name] = cost(partial(cursor.execute, "SELECT %s", (1,)), 1000)
        connection.close()
    for name, library in (("aiomysql", aiomysql), ("asyncmy", asyncmy)):
        link_: Any = await library.connect(**of)
        async with link_.cursor() as reader:
            act = partial(reader.execute, "SELECT %s", (1,))
            found[name] = await cost_async(act, 500)
        link_.close()
    return found


async def costs(postgresql: str, mariadb: str) -> Costs:
    """Everything, as it is now."""
    found = of_sqlite() | await of_aiosqlite()
    found |= await of_postgresql(postgresql) | await of_mysql(mariadb)
    logger = logging.getLogger("benchmark")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    found["a line of logging"] = cost(lambda: logger.warning("x"), 20000)
    return found


def measure_outside(rounds: int, table: Table, *urls: str) -> None:
    """Without the doors and with them, in turn."""
    asyncio.run(costs(*urls))  # imports, and what they fill
    without: Costs = {}
    with_doors: Costs = {}
    for _ in range(rounds):
        for best in (without, with_doors):
            (doors.install if best is with_doors else doors.uninstall)()
            for name, found in asyncio.run(costs(*urls)).items():
                best[name] = found.better(best.get(name))
    doors.install()
    for name, found in with_doors.items():
        before = without[name]
        more = found.own - before.own
        # Of statements; connecting is none.
        bar = None if "connect and" in name else MOST_DOOR.get(name.partition(",")[0])
        verdict = ("", "")
        if bar is not None:
            most = bar.microseconds or bar.share * before.whole
            verdict = (f"{most:.1f}", met(round(more, 1), most))
        figures = (before.own, found.own, more)
        table.add(name, *(f"{figure:.1f}" for figure in figures), f"{before.whole:.0f}", *verdict)


def measure_inside(table: Table, urls: dict[str, str]) -> None:
    """Round trips of each handler: alone, and as a call of a batch."""
    for name, handler in HANDLERS.items():
        parts = urlsplit(urls[handler.server])
        with link(parts.port or 0) as proxy:
            url = urls[handler.server].replace(f":{parts.port}", f":{proxy.port}")
            alone = trips_alone(handler, url, proxy.trips)
            joined, fixed = trips_in_a_batch(handler, url, proxy.trips)
        more = (joined - alone) / handler.statements
        figures = (f"{alone:.2f}", f"{joined:.2f}", f"{fixed:.1f}", f"{more:+.2f}")
        table.add(name, *figures, "1.00", met(round(more, 2), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    add_option(parser)
    arguments = parser.parse_args()
    # With its servers, on one processor: a process that is woken on another one takes twice as
    # long, and which it is would count for more than the doors.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report("doors", described(None))
    with ExitStack() as stack:
        urls = {kind: stack.enter_context(start()) for kind, start in KINDS.items()}
        urls["postgresql"] += "/postgres"
        columns = ("µs", "without", "with", "more", "statement", "bar", "")
        outside = report.table("doors.outside", columns)
        outside.show()
        measure_outside(arguments.rounds, outside, urls["postgresql"], urls["mariadb"])
        columns = ("round trips", "alone", "in a batch", "fixed", "more a statement", "bar", "")
        inside = report.table("doors.trips", columns)
        inside.show()
        measure_inside(inside, urls)
    report.save(arguments.json)


if __name__ == "__main__":
    main()
