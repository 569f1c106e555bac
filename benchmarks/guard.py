"""
What the guard costs statements outside of batches.

``python -m benchmarks.guard [POSTGRESQL_URL MYSQL_URL]`` prints the best of several rounds, of
which every second one has the guard. The process's own time, so that servers on the same machine
do not blur it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from atomicbatch import doors

ROUNDS = 3


def microseconds(act: Callable[[], object], count: int) -> float:
    """The best of some rounds, for one of ``count`` runs."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(count):
            act()
        best = min(best, time.process_time() - start)
    return best / count * 1e6


async def microseconds_async(act: Callable[[], Awaitable[object]], count: int) -> float:
    """The async twin."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(count):
            await act()
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def of_sqlite() -> dict[str, float]:
    """An INSERT and a SELECT in memory, and opening a file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO t VALUES (1, 'a')")
        cursor = connection.cursor()
        found = {
            "sqlite3 connection.execute": microseconds(
                lambda: connection.execute("SELECT name FROM t WHERE n = ?", (1,)).fetchone(), 20000
            ),
            "sqlite3 cursor.execute": microseconds(
                lambda: cursor.execute("SELECT name FROM t WHERE n = ?", (1,)).fetchone(), 20000
            ),
        }
    found["sqlite3 connect"] = microseconds(lambda: sqlite3.connect(":memory:").close(), 2000)
    return found


async def of_aiosqlite() -> dict[str, float]:
    """A SELECT in memory."""
    import aiosqlite

    async with aiosqlite.connect(":memory:") as connection:
        act = lambda: connection.execute_fetchall("SELECT 1")  # noqa: E731
        return {"aiosqlite execute": await microseconds_async(act, 1000)}


async def of_postgresql(url: str) -> dict[str, float]:
    """A SELECT that finds nothing to do."""
    import asyncpg
    import psycopg
    import psycopg2

    found = {}
    with psycopg.connect(url, autocommit=True) as one:
        found["psycopg execute"] = microseconds(lambda: one.execute("SELECT %s", (1,)), 1000)
    with closing(psycopg2.connect(url)) as two, two.cursor() as cursor:
        found["psycopg2 execute"] = microseconds(partial(cursor.execute, "SELECT %s", (1,)), 1000)
    three = await asyncpg.connect(url)
    act = lambda: three.fetch("SELECT $1::int", 1)  # noqa: E731
    found["asyncpg fetch"] = await microseconds_async(act, 1000)
    await three.close()
    return found


async def of_mysql(url: str) -> dict[str, float]:
    """As well."""
    import aiomysql
    import asyncmy
    import MySQLdb
    import pymysql

    parts = urlsplit(url)
    of: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    of["password"] = parts.password or ""
    found = {}
    for name, module in (("pymysql", pymysql), ("mysqlclient", MySQLdb)):
        connection: Any = module.connect(**of)
        cursor = connection.cursor()
        found[f"{name} execute"] = microseconds(partial(cursor.execute, "SELECT %s", (1,)), 1000)
        connection.close()
    for name, library in (("aiomysql", aiomysql), ("asyncmy", asyncmy)):
        link: Any = await library.connect(**of)
        async with link.cursor() as reader:
            act = partial(reader.execute, "SELECT %s", (1,))
            found[f"{name} execute"] = await microseconds_async(act, 500)
        link.close()
    return found


async def measure(urls: list[str]) -> dict[str, float]:
    """Everything, as it is now."""
    found = of_sqlite() | await of_aiosqlite()
    if urls:
        found |= await of_postgresql(urls[0]) | await of_mysql(urls[1])
    logger = logging.getLogger("benchmark")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    found["a line of logging"] = microseconds(lambda: logger.warning("x"), 20000)
    return found


def main() -> None:
    """Print a table: without the guard, with it."""
    urls = sys.argv[1:]
    asyncio.run(measure(urls))  # imports, and what they fill
    without: dict[str, float] = {}
    guarded: dict[str, float] = {}
    for _ in range(7):
        for best in (without, guarded):
            (doors.install if best is guarded else doors.uninstall)()
            for name, value in asyncio.run(measure(urls)).items():
                best[name] = min(value, best.get(name, value))
    print(f"{'microseconds':<28}{'without':>10}{'with':>10}{'more':>8}")
    for name, value in guarded.items():
        print(f"{name:<28}{without[name]:>10.2f}{value:>10.2f}{value - without[name]:>8.2f}")


if __name__ == "__main__":
    main()
