"""The oracle (see oracle.py) over Flask, with one driver of each family."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from atomicbatch import Call
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.transactions.sqlalchemy.oracle import Databases, check, named_in_turn
from tests.transactions.sqlalchemy.patterns import PATTERNS, Pattern
from tests.transactions.sqlalchemy.worlds import Item, World
from tests.wsgi.asking import Answer, ask, environ_of, serve

DRIVERS = {"pysqlite": "sqlite", "psycopg": "postgresql", "pymysql": "mysql"}


def app_of(world: World, pattern: Pattern) -> Flask:
    """An app whose handlers know nothing of batches."""
    app = Flask("oracle")

    @app.errorhandler(Exception)
    def failed(error: Exception) -> ResponseReturnValue:
        return {"error": type(error).__name__}, 500

    @app.post("/items")
    def add() -> ResponseReturnValue:
        with Session(world.engine) as session:
            session.add(Item(name=request.args["name"], n=0))
            session.commit()
        return {"name": request.args["name"]}, 201

    @app.post("/run")
    def run() -> ResponseReturnValue:
        return jsonify(pattern.act(world))

    @app.post("/fail")
    def fail() -> ResponseReturnValue:
        return "no", 409

    return app


class FlaskFront:
    """A Flask app, and AtomicBatch before it; each request in a thread, as servers have it."""

    def __init__(self, world: World, pattern: Pattern) -> None:
        app: Any = app_of(world, pattern)
        transaction = SQLAlchemyTransaction(*named_in_turn(world, pattern))
        self._plain = app.wsgi_app
        self._app = app.wsgi_app = AtomicBatch(app.wsgi_app, transaction=transaction)

    async def alone(self, one: Call) -> Answer:
        return await self._serve(self._plain, one)

    async def plainly(self, one: Call) -> Answer:
        return await self._serve(self._app, one)

    async def batch(self, *calls: Call) -> Answer:
        return await asyncio.to_thread(ask, self._app, *calls)

    async def _serve(self, app: Any, one: Call) -> Answer:
        environ = environ_of(one.path.decode(), method=one.method, query=one.query)
        return (await asyncio.to_thread(serve, app, environ)).answer


@pytest.mark.parametrize(
    ("driver", "pattern"),
    [
        # Each with half of the drivers, in turn; by ASGI, with all.
        pytest.param(
            driver,
            pattern,
            id=f"{driver}-{pattern.name}",
            marks=pytest.mark.prove if (turn + len(pattern.name)) % 2 else (),
        )
        for turn, (driver, family) in enumerate(DRIVERS.items())
        for pattern in PATTERNS
        if family in pattern.families
    ],
)
def test_alone_and_in_batches(driver: str, pattern: Pattern, databases: Databases) -> None:
    """A handler's reply and rows are the same in a batch; a batch that fails leaves no row."""
    world = World(driver, databases(DRIVERS[driver]))
    asyncio.run(check(world, pattern, FlaskFront(world, pattern)))
