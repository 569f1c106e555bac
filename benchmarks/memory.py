"""
What a reply costs the server in memory, beside ``max_reply_bytes``.

For each database a table of many rows and one of few but large values; GET of all rows, PATCH and
DELETE that return them, each with more rows than may be sent (413) and with as many as may be.
Printed is the server's peak memory less what it had before, in MiB, and as a multiple of the limit.

Run it with ``python -m benchmarks.memory``.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import sqlalchemy as sa

from atomicbatch.server.sample import create_sample
from benchmarks.contention import own_database
from tests import databases

MIB = 2**20
MINIMAL = {"prefer": "return=minimal"}


@contextmanager
def served(url: str, limit: int) -> Iterator[tuple[httpx.Client, int]]:
    """``atomicbatch serve``, and its process id."""
    command = [sys.executable, "-m", "atomicbatch", "serve", url, "--port", "0", "--quiet"]
    command += ["--limit", f"max_reply_bytes={limit}", "--limit", "timeout_seconds=120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            yield httpx.Client(base_url=address, timeout=130), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def peak_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def fill(url: sa.URL, name: str, rows: int, size: int) -> None:
    """A table of ``rows`` texts of ``size`` bytes."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    kind = "LONGTEXT" if engine.name == "mysql" else "TEXT"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, note INTEGER, body {kind})"
        )
        if engine.name == "mysql":
            is_mariadb = getattr(connection.dialect, "is_mariadb", False)
            most = "max_recursive_iterations" if is_mariadb else "cte_max_recursion_depth"
            connection.exec_driver_sql(f"SET SESSION {most} = 4294967295")
        text = {"sqlite": f"hex(zeroblob({size // 2}))"}.get(engine.name, f"repeat('x', {size})")
        connection.exec_driver_sql(
            f"INSERT INTO {name} WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
            f" WHERE i < {rows - 1}) SELECT i, 0, {text} FROM n"
        )


def requests(limit: int) -> Iterator[tuple[str, str, int, int, int, bool]]:
    """Name, method, rows, bytes a row, rows asked for, whether it may be sent."""
    for method in ("GET", "PATCH", "DELETE"):
        rows = 2 * limit // 1000
        yield f"{method} 1 kB rows, twice too many", method, rows, 1000, rows, False
        yield (
            f"{method} 1 kB rows, as many as fit",
            method,
            rows,
            1000,
            limit * 9 // 10 // 1040,
            True,
        )
    rows = max(4, 2 * limit // (3 * MIB))
    for method in ("GET", "PATCH", "DELETE"):
        yield (
            f"{method} 3 MiB rows, too many",
            method,
            rows,
            3 * MIB,
            rows,
            limit > 12 * MIB and False,
        )


def ask(client: httpx.Client, method: str, table: str, count: int) -> httpx.Response:
    target = f"/v1/api/{table}?id=lt.{count}"
    headers = {"prefer": "return=representation"}
    if method == "PATCH":
        return client.patch(target, json={"note": 1}, headers=headers)
    return client.request(method, target, headers=headers)


def measure(url: sa.URL, name: str, limit: int) -> None:
    shown = url.render_as_string(hide_password=False)
    for title, method, rows, size, count, fits in requests(limit):
        fill(url, "docs", rows, size)
        with served(shown, limit) as (client, pid):
            # What each thread and SQLite's cache of pages take is there before.
            for start in range(0, min(rows, 2000), 100):
                page = f"/v1/api/docs?id=gte.{start}&limit=100&select=id,note"
                client.get(page).raise_for_status()
            client.patch("/v1/api/docs?id=gte.0", json={"note": 2}, headers=MINIMAL)
            idle = peak_mib(pid)
            status = ask(client, method, "docs", count).status_code
            used = peak_mib(pid) - idle
            client.close()
        told = "" if (status < 300) == fits and status in (200, 413) else "  UNEXPECTED"
        print(
            f"{name:<11}{limit // MIB:>4} MiB  {title:<38}{status:>5}{idle:>8.0f}{used:>8.1f}"
            f"{used / (limit / MIB):>7.1f}{told}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, action="append", help="MiB; default: 1 and 64")
    parser.add_argument("--database", action="append", help="default: all three")
    arguments = parser.parse_args()
    chosen = arguments.database or ["SQLite", "PostgreSQL", "MariaDB"]
    print(f"{'':<11}{'limit':>8}  {'':<38}{'':>5}{'idle':>8}{'more':>8}{'times':>7}")
    for limit in arguments.limit or [1, 64]:
        if "SQLite" in chosen:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "memory.sqlite"
                create_sample(path)
                measure(sa.make_url(f"sqlite:///{path}"), "SQLite", limit * MIB)
        if "PostgreSQL" in chosen:
            with databases.postgresql() as server:
                url = sa.make_url(server).set(drivername="postgresql+psycopg")
                measure(own_database(url), "PostgreSQL", limit * MIB)
        if "MariaDB" in chosen:
            with databases.mariadb() as server:
                url = sa.make_url(server).set(drivername="mysql+pymysql")
                measure(own_database(url), "MariaDB", limit * MIB)


if __name__ == "__main__":
    main()
