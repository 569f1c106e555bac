"""
What it costs in-process to make unmodified handlers atomic.

- join: one SQLAlchemy transaction, in SQLite's memory so that no disk hides the difference: as it
  is without us, with us outside of batches, and inside a batch;
- dispatch: one call to a bare Starlette route.

All of one table in one run; microseconds, medians over rounds. Run it with
``python -m benchmarks.join``. What it saves is in ``benchmarks/library.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from atomicbatch import Batch, Call
from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.scope import Target
from atomicbatch.guard import Allowed, guarded
from atomicbatch.limits import Limits
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction, hook
from benchmarks.machine import described
from benchmarks.report import Report, add_option

BATCH = Batch((Call("POST", b"/", b"", (), b""),))


def microseconds(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count * 1e6


def join(rounds: int, report: Report) -> None:
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

    shown = report.table("join", ("µs for one transaction", "without", "outside", "in a batch"))
    shown.show()
    for name, run in (("Core, insert", core), ("ORM, insert", orm), ("Core, select", read)):
        times: dict[str, list[float]] = {"without": [], "outside": [], "in a batch": []}
        microseconds(run, 300)
        for _ in range(rounds):
            hook.uninstall()
            times["without"].append(microseconds(run, 300))
            hook.install()
            times["outside"].append(microseconds(run, 300))
            times["in a batch"].append(asyncio.run(inside(run)))
        shown.add(name, *(f"{statistics.median(found):.1f}" for found in times.values()))
    engine.dispose()


def dispatch(rounds: int, report: Report) -> None:
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
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(asyncio.run(way()))
    table = report.table("dispatch", ("µs", *ways))
    table.show()
    table.add("one bare route", *(f"{statistics.median(found):.1f}" for found in times.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    add_option(parser)
    arguments = parser.parse_args()
    report = Report("join", f"{described()}, SQLAlchemy {sa.__version__}")
    join(arguments.rounds, report)
    dispatch(arguments.rounds, report)
    report.save(arguments.json)


if __name__ == "__main__":
    main()
