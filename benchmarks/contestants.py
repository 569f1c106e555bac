"""
Who takes part in the benchmark of the server, on each database.

- batch: all calls in one batch request;
- separate: one plain request for each call, one after another on one kept-alive connection;
- raw: the driver doing the same statements in one transaction, in this process; on PostgreSQL
  also in psycopg's pipeline mode;
- PocketBase: the same creates by its batch API. Its COMMITs are not synced (synchronous=NORMAL),
  and it cannot read in a batch.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from atomicbatch.model import Call
from benchmarks import calls, servers
from benchmarks.connection import Connection, check_committed, check_ok
from benchmarks.raw_drivers import RawPsycopg, RawPyMySQL, RawSqlite, Run, make_table
from benchmarks.rounds import Contestant
from tests import databases

MOST_SEPARATE = 200
"""Requests in one round: what one costs does not depend on how many there are."""
Prepare = Callable[[Sequence[Call]], Run]


class Database(NamedTuple):
    """A database of ours, and who does the same without us."""

    address: str
    """What ``atomicbatch serve`` is told."""
    others: list[Contestant[Call]]


def over_http(
    connection: Connection, write: Callable[[Sequence[Call]], bytes], check: Callable[[bytes], None]
) -> Prepare:
    """Do the calls in one request."""

    def prepare(asked: Sequence[Call]) -> Run:
        request = write(asked)
        return lambda: check(connection.exchange(request))

    return prepare


def separately(connection: Connection) -> Prepare:
    """Do the calls in as many requests."""

    def prepare(asked: Sequence[Call]) -> Run:
        requests = [calls.plain(call) for call in asked]

        def act() -> None:
            for request in requests:
                check_ok(connection.exchange(request))

        return act

    return prepare


@contextmanager
def our_server(
    address: str, *, checkout: Path | None, content_ids: bool
) -> Iterator[list[Contestant[Call]]]:
    """Our server, and the two ways of asking it."""
    with (
        servers.atomicbatch_server(address, checkout=checkout) as server,
        closing(Connection(server.port)) as connection,
    ):
        cpu = partial(servers.cpu_seconds, server.pid)
        write = partial(calls.batch, content_ids=content_ids)
        yield [
            Contestant("batch", over_http(connection, write, check_committed), cpu),
            Contestant("separate", separately(connection), cpu, MOST_SEPARATE),
        ]


@contextmanager
def on_sqlite(rng: random.Random) -> Iterator[Database]:
    """A file, ``sqlite3`` and PocketBase."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        rows = calls.some_rows(rng)
        for file in ("ours", "raw"):
            make_table(f"sqlite:///{folder / file}.sqlite", "items", rows)
        raw = stack.enter_context(closing(RawSqlite(folder / "raw.sqlite")))
        others = [Contestant("raw", raw.prepare)]
        program = servers.pocketbase_program()
        if program is None:
            print("PocketBase is missing: pip install --group bench")
        else:
            server = stack.enter_context(servers.pocketbase(program, folder / "pocketbase"))
            connection = stack.enter_context(closing(Connection(server.port)))
            prepare = over_http(connection, calls.pocketbase_batch, check_ok)
            cpu = partial(servers.cpu_seconds, server.pid)
            others.append(Contestant("PocketBase", prepare, cpu))
        yield Database(str(folder / "ours.sqlite"), others)


@contextmanager
def on_postgresql(rng: random.Random) -> Iterator[Database]:
    """A server of its own, and psycopg in two ways."""
    with databases.postgresql(durable=True) as server, ExitStack() as stack:
        url, rows = f"{server}/postgres", calls.some_rows(rng)
        for table in ("items", "raw", "pipelined"):
            make_table(url, table, rows)
        raw = stack.enter_context(closing(RawPsycopg(url, "raw")))
        pipelined = stack.enter_context(closing(RawPsycopg(url, "pipelined")))
        ways = {"raw": raw.one_by_one, "raw pipeline": pipelined.pipelined}
        yield Database(url, [Contestant(name, way) for name, way in ways.items()])


@contextmanager
def on_mariadb(rng: random.Random) -> Iterator[Database]:
    """A server of its own, and PyMySQL."""
    with databases.mariadb(durable=True) as server, ExitStack() as stack:
        url, rows = f"{server}/bench", calls.some_rows(rng)
        engine = sa.create_engine(server.replace("mysql:", "mysql+pymysql:"))
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE bench")
        engine.dispose()
        for table in ("items", "raw"):
            make_table(url, table, rows)
        raw = stack.enter_context(closing(RawPyMySQL(url, "raw")))
        yield Database(url, [Contestant("raw", raw.prepare)])


DATABASES: dict[str, Callable[[random.Random], AbstractContextManager[Database]]] = {
    "SQLite": on_sqlite,
    "PostgreSQL": on_postgresql,
    "MariaDB": on_mariadb,
}
