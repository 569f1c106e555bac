"""
What becomes of batches that all want the same few rows.

Sixty clients send batches; each batch reads two of ten rows and changes them, SERIALIZABLE. Told
are the share of batches that were committed, how many a second, and how long the slowest took.

- server: ``atomicbatch serve`` in a process of its own, over real sockets;
- library: an app with SQLAlchemy's async engine behind ``AtomicBatch``, in this process;
- hidden: the same, but the calls' paths do not tell which of the ten rows they want.

Run it with ``python -m benchmarks.contention``.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import httpx
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from atomicbatch.asgi import AtomicBatch
from atomicbatch.model import Call
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wire.batch import write_batch
from tests import databases

JSON = ((b"content-type", b"application/json"),)
Clients = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


class Figures(NamedTuple):
    """What became of all batches."""

    committed: float
    """The share of them."""
    a_second: float
    """Committed."""
    slowest_seconds: float
    attempts: float
    most_attempts: int


def batch_of(rng: random.Random, rows: int) -> tuple[bytes, bytes]:
    """Read two rows, then change both."""
    paths = [b"/v1/api/counters/%d" % n for n in rng.sample(range(rows), 2)]
    calls = [Call("GET", path, b"", (), b"") for path in paths]
    body = b'{"value":%d}' % rng.randrange(10**6)
    calls += [Call("PATCH", path, b"", JSON, body) for path in paths]
    return write_batch(calls)


async def crowd(clients: Clients, rows: int, count: int, batches: int) -> Figures:
    """Send all batches."""
    outcomes: collections.Counter[str] = collections.Counter()
    attempts: list[int] = []
    waits: list[float] = []

    async def one(number: int, client: httpx.AsyncClient) -> None:
        rng = random.Random(number)
        for _ in range(batches):
            content_type, body = batch_of(rng, rows)
            start = time.perf_counter()
            response = await client.post(
                "/v1/api/batch", content=body, headers={"content-type": content_type.decode()}
            )
            waits.append(time.perf_counter() - start)
            outcome = response.headers.get("batch-outcome", str(response.status_code))
            outcomes[outcome.partition(";")[0]] += 1
            attempts.append(int(response.headers.get("batch-attempts", 1)))

    async with clients() as client:
        (await client.get("/v1/api/counters/1")).raise_for_status()
        start = time.perf_counter()
        await asyncio.gather(*(one(number, client) for number in range(count)))
        seconds = time.perf_counter() - start
    committed, total = outcomes["committed"], sum(outcomes.values())
    return Figures(
        committed / total, committed / seconds, max(waits), sum(attempts) / total, max(attempts)
    )


def make_rows(url: sa.URL, rows: int) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS counters")
        connection.exec_driver_sql(
            "CREATE TABLE counters (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)"
        )
        for number in range(rows):
            connection.exec_driver_sql(f"INSERT INTO counters VALUES ({number}, 0)")


@contextmanager
def served(url: str, *options: str) -> Iterator[Clients]:
    """``atomicbatch serve`` in a process of its own."""
    command = [sys.executable, "-m", "atomicbatch", "serve", url, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        limits = httpx.Limits(max_connections=200)
        try:
            yield lambda: httpx.AsyncClient(base_url=address, timeout=90, limits=limits)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def joined(url: sa.URL, rows: int) -> Clients:
    """An app with an async engine behind AtomicBatch."""
    engine = create_async_engine(
        url, isolation_level="SERIALIZABLE", pool_size=20, max_overflow=0, pool_timeout=60
    )
    table = sa.Table("counters", sa.MetaData(), sa.Column("id"), sa.Column("value"))

    async def read(request: Request) -> JSONResponse:
        async with AsyncSession(engine) as session:
            where = table.c.id == request.path_params["id"] % rows
            value = await session.scalar(sa.select(table.c.value).where(where))
        return JSONResponse({"value": value})

    async def change(request: Request) -> JSONResponse:
        value: Any = (await request.json())["value"]
        async with AsyncSession(engine) as session:
            where = table.c.id == request.path_params["id"] % rows
            await session.execute(sa.update(table).where(where).values(value=value))
            await session.commit()
        return JSONResponse({"value": value})

    app = Starlette(
        routes=[
            Route("/v1/api/counters/{id:int}", read, methods=["GET"]),
            Route("/v1/api/counters/{id:int}", change, methods=["PATCH"]),
        ]
    )
    batched = AtomicBatch(app, transaction=SQLAlchemyTransaction())

    @asynccontextmanager
    async def client() -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(batched)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as made:
            yield made
        await engine.dispose()

    return client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--batches", type=int, default=10, help="for each client")
    arguments = parser.parse_args()
    logging.disable()

    def run(name: str, clients: Clients, url: sa.URL, paths: int = 0) -> None:
        make_rows(url, arguments.rows)
        paths = paths or arguments.rows
        figures = asyncio.run(crowd(clients, paths, arguments.clients, arguments.batches))
        print(
            f"{name:<28}{figures.committed:>10.1%}{figures.a_second:>12.0f}"
            f"{figures.slowest_seconds:>12.2f}{figures.attempts:>10.2f}{figures.most_attempts:>6}",
            flush=True,
        )

    print(f"{arguments.clients} clients, {arguments.rows} rows, {arguments.batches} batches each")
    print(f"{'':<28}{'committed':>10}{'a second':>12}{'slowest s':>12}{'attempts':>10}{'most':>6}")
    kinds = {
        "PostgreSQL": (databases.postgresql, "postgresql+psycopg", "postgresql+psycopg"),
        "MariaDB": (databases.mariadb, "mysql+pymysql", "mysql+asyncmy"),
    }
    for name, (start, driver, asynchronous) in kinds.items():
        with start() as server:
            url = own_database(sa.make_url(server).set(drivername=driver))
            make_rows(url, arguments.rows)
            with served(url.render_as_string(hide_password=False)) as clients:
                run(f"{name}, server", clients, url)
            clients = joined(url.set(drivername=asynchronous), arguments.rows)
            run(f"{name}, library", clients, url)
            run(f"{name}, library, hidden", clients, url, 10**6)


def own_database(server: sa.URL) -> sa.URL:
    first = "postgres" if server.drivername.startswith("postgresql") else None
    engine = sa.create_engine(
        server.set(database=first), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE contention")
    return server.set(database="contention")


if __name__ == "__main__":
    main()
