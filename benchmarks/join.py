"""
What it costs to make unmodified handlers atomic, and what it saves.

- join: one SQLAlchemy transaction, in SQLite's memory so that no disk hides the difference: as it
  is without us, with us outside of batches, and inside a batch;
- dispatch: one call to a bare Starlette route, in-process;
- fastapi: an ordinary app under uvicorn over a real socket: 100 creates as separate requests on a
  kept-alive connection, as one batch, and by a bulk endpoint written by hand.

All of one table in one run; microseconds, medians over rounds. Run it with ``make bench``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from atomicbatch import Batch, Call
from atomicbatch.asgi.dispatch import Dispatcher, Target
from atomicbatch.guard import Allowed, guarded
from atomicbatch.limits import Limits
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction, hook
from benchmarks.server import Client, Part, batch, http
from tests import databases

BATCH = Batch((Call("POST", b"/", b"", (), b""),))


def microseconds(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count * 1e6


def join(rounds: int) -> None:
    """One transaction: without us, with us outside of a batch, in a batch."""
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    metadata = sa.MetaData()
    table = sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String),
    )
    metadata.create_all(engine)

    class Item:
        pass

    sa.orm.registry().map_imperatively(Item, table)
    insert, select = sa.insert(table).values(name="x"), sa.select(table.c.name).limit(1)

    def core() -> None:
        with engine.begin() as connection:
            connection.execute(insert)

    def orm() -> None:
        with Session(engine) as session:
            item: Any = Item()
            item.name = "x"
            session.add(item)
            session.commit()

    def read() -> None:
        with engine.connect() as connection:
            connection.execute(select).all()

    transaction = SQLAlchemyTransaction()

    async def inside(run: Callable[[], object]) -> float:
        begun = transaction.begin(BATCH, deadline=time.monotonic() + 600)
        async with begun as joined, joined.call():
            return microseconds(run, 300)

    print(f"{'one transaction':<24}{'without':>10}{'outside':>10}{'in a batch':>12}")
    for name, run in (("Core, insert", core), ("ORM, insert", orm), ("Core, select", read)):
        times: dict[str, list[float]] = {"without": [], "outside": [], "in a batch": []}
        microseconds(run, 300)
        for _ in range(rounds):
            hook.uninstall()
            times["without"].append(microseconds(run, 300))
            hook.install()
            times["outside"].append(microseconds(run, 300))
            times["in a batch"].append(asyncio.run(inside(run)))
        medians = [statistics.median(found) for found in times.values()]
        print(f"{name:<24}{medians[0]:>10.1f}{medians[1]:>10.1f}{medians[2]:>12.1f}")
    engine.dispose()


def dispatch(rounds: int) -> None:
    """One call to a bare route."""

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello", hello)])
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/hello",
        "raw_path": b"/hello",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
        "extensions": {},
    }
    call = Call("GET", b"/hello", b"", ((b"host", b"localhost"),), b"")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    async def directly() -> float:
        start = time.perf_counter()
        for _ in range(1000):
            await app(dict(scope), receive, send)
        return (time.perf_counter() - start) * 1e3

    async def dispatched() -> float:
        dispatcher = Dispatcher(Target(app, "", True), scope, Limits())
        start = time.perf_counter()
        for _ in range(1000):
            await dispatcher.perform(call)
        return (time.perf_counter() - start) * 1e3

    async def in_a_batch() -> float:
        transaction = SQLAlchemyTransaction()
        async with guarded(
            transaction.begin(BATCH, deadline=time.monotonic() + 600), Allowed()
        ) as watch:
            dispatcher = Dispatcher(Target(app, "", True), scope, Limits(), watch)
            start = time.perf_counter()
            for _ in range(1000):
                await dispatcher.perform(call)
            return (time.perf_counter() - start) * 1e3

    ways = {"directly": directly, "as a call": dispatched, "as a joined call": in_a_batch}
    print(f"{'one bare route':<24}" + "".join(f"{name:>18}" for name in ways))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(asyncio.run(way()))
    print(" " * 24 + "".join(f"{statistics.median(found):>18.1f}" for found in times.values()))


@contextmanager
def uvicorn(url: str) -> Iterator[Client]:
    """The app under uvicorn, one process."""
    port = databases.free_port()
    here = Path(__file__).parent
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port)]
    command += ["--log-level", "warning", "--no-access-log", "--app-dir", str(here)]
    environment = {**os.environ, "BENCHMARK_DATABASE": url}
    with subprocess.Popen(command, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client = Client(port)
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def creates(path: str, count: int) -> list[Part]:
    return [("POST", path, {"name": f"item {n}", "stock": n}) for n in range(count)]


def fastapi(name: str, url: str, stored: Callable[[], int], rounds: int) -> None:
    """100 creates, three ways, side by side, by two kinds of handlers."""
    with uvicorn(url) as client:
        for path, kind in (("/simple", "own session"), ("/items", "dependency")):
            compare(f"{name}, {kind}", path, client, stored, rounds)


def compare(name: str, path: str, client: Client, stored: Callable[[], int], rounds: int) -> None:
    count = 100
    parts = creates(path, count)
    singles = [http(part) for part in parts]
    together = batch(parts)
    body = json.dumps([value for _, _, value in parts]).encode()
    bulk = (
        b"POST /items/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )

    def separately() -> None:
        for single in singles:
            if not client.exchange(single).startswith(b"HTTP/1.1 201"):
                raise SystemExit("a request has failed")

    def in_one_batch() -> None:
        response = client.exchange(together)
        if b"batch-outcome: committed" not in response[:2000].lower():
            raise SystemExit(response[:2000].decode())

    def by_hand() -> None:
        if not client.exchange(bulk).startswith(b"HTTP/1.1 201"):
            raise SystemExit("the bulk request has failed")

    ways = {"separate": separately, "batch": in_one_batch, "bulk": by_hand}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for act in ways.values():
        act()
    before = stored()
    for _ in range(rounds):
        for way, act in ways.items():
            start = time.perf_counter()
            act()
            times[way].append((time.perf_counter() - start) / count * 1e6)
    if stored() - before != 3 * rounds * count:
        raise SystemExit("rows are missing")
    separate, one_batch, one_bulk = (statistics.median(found) for found in times.values())
    ratio = f"{separate / one_batch:.1f}x"
    print(f"{name:<34}{separate:>10.0f}{one_batch:>10.0f}{one_bulk:>10.0f}{ratio:>18}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(
        f"Python {platform.python_version()}, SQLAlchemy {sa.__version__}, {os.cpu_count()} cores"
    )
    print("microseconds, median")
    join(rounds)
    print()
    dispatch(rounds)
    print()
    print(
        f"{'100 creates, each':<34}{'separate':>10}{'batch':>10}{'bulk':>10}{'separate/batch':>18}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.sqlite"

        def in_sqlite() -> int:
            with sqlite3.connect(path) as connection:
                return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])

        fastapi("SQLite, def", f"sqlite:///{path}", in_sqlite, rounds)
    with databases.postgresql(durable=True) as server:
        url = f"{server}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE items (id SERIAL PRIMARY KEY, name TEXT NOT NULL, stock INTEGER)"
            )

            def in_postgresql() -> int:
                row = connection.execute("SELECT count(*) FROM items").fetchone()
                return int(row[0]) if row else 0

            asynchronous = url.replace("postgresql:", "postgresql+asyncpg:")
            fastapi("PostgreSQL, async def", asynchronous, in_postgresql, rounds)


if __name__ == "__main__":
    main()
