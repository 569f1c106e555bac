"""What no audit hook sees is kept out, and engines on the same drivers are not."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from atomicbatch.doctor import Verdict, examine
from tests.doctor.conftest import by_operation

pytestmark = pytest.mark.slow
_APP = """
from contextlib import asynccontextmanager
import asyncpg, psycopg, psycopg2
import sqlalchemy as sa
from psycopg2 import connect
from sqlalchemy.ext.asyncio import create_async_engine
from fastapi import FastAPI
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

URL = {url!r}
INSERT = "INSERT INTO item VALUES ('x')"
engines = {{name: sa.create_engine(URL.replace("postgresql", f"postgresql+{{name}}"))
           for name in ("psycopg", "psycopg2")}}
async_engines = {{name: create_async_engine(URL.replace("postgresql", f"postgresql+{{name}}"))
                 for name in ("psycopg", "asyncpg")}}

@asynccontextmanager
async def lifespan(app):
    yield
    for engine in async_engines.values():
        await engine.dispose()
    for engine in engines.values():
        engine.dispose()

app = FastAPI(lifespan=lifespan)

@app.post("/engine/{{name}}")
def by_engine(name: str):
    with engines[name].begin() as connection:
        connection.execute(sa.text(INSERT))

@app.post("/async/{{name}}")
async def by_async_engine(name: str):
    async with async_engines[name].begin() as connection:
        await connection.execute(sa.text(INSERT))

@app.post("/psycopg")
def by_psycopg():
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(INSERT)

@app.post("/psycopg-async")
async def by_async_psycopg():
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        await connection.execute(INSERT)

@app.post("/psycopg2")
def by_psycopg2():
    connection = connect(URL)
    connection.cursor().execute(INSERT)
    connection.commit()

@app.post("/asyncpg")
async def by_asyncpg():
    connection = await asyncpg.connect(URL)
    try:
        await connection.execute(INSERT)
    finally:
        await connection.close()

engines_only = AtomicBatch(app, transaction=SQLAlchemyTransaction())
"""


def test_drivers_on_postgresql(
    postgresql_url: str, write_app: Callable[[str], str], tmp_path: Path
) -> None:
    """
    Each is safe, by itself and below an engine, and nothing is stored.

    If the app's own batches are for engines alone, the guard refuses what a driver writes.
    """
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("CREATE TABLE item (name text)")
        name = write_app(_APP.format(url=postgresql_url))
        calls = tmp_path / "calls.http"
        paths = ["engine/psycopg", "engine/psycopg2", "async/psycopg", "async/asyncpg"]
        paths += ["psycopg", "psycopg-async", "psycopg2", "asyncpg"]
        calls.write_text("\n###\n".join(f"POST /{path}" for path in paths))
        found = by_operation(examine(f"{name}:app", http_file=calls))
        assert found == {f"POST /{path}": (Verdict.SAFE, []) for path in paths}
        found = by_operation(examine(f"{name}:engines_only", http_file=calls))
        for path in paths[:4]:
            assert found[f"POST /{path}"] == (Verdict.SAFE, []), path
        for path in paths[4:]:
            verdict, (reason,) = found[f"POST /{path}"]
            driver = path.removesuffix("-async")
            assert verdict is Verdict.UNSAFE
            assert reason.startswith("a handler writes (INSERT) to ")
            assert f" by {driver}, at " in reason
        assert other.execute("SELECT * FROM item").fetchall() == []


_MYSQL = """
from contextlib import asynccontextmanager
import aiomysql, asyncmy, pymysql
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from fastapi import FastAPI

ARGUMENTS = {arguments!r}
DB = {database!r}
INSERT = "INSERT INTO item VALUES ('x')"

@asynccontextmanager
async def lifespan(app):
    app.state.pool = await aiomysql.create_pool(minsize=1, db=DB, **ARGUMENTS)
    yield
    app.state.pool.close()
    await app.state.pool.wait_closed()

app = FastAPI(lifespan=lifespan)

@app.post("/pymysql")
def by_pymysql():
    with pymysql.connect(database=DB, **ARGUMENTS) as connection:
        connection.cursor().execute(INSERT)
        connection.commit()

@app.post("/mysqlclient")
def by_mysqlclient():
    import MySQLdb
    connection = MySQLdb.connect(database=DB, **ARGUMENTS)
    connection.cursor().execute(INSERT)
    connection.commit()
    connection.close()

@app.post("/aiomysql")
async def by_aiomysql():
    async with aiomysql.connect(db=DB, **ARGUMENTS) as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT)
        await connection.commit()

@app.post("/pool")
async def by_pool():
    async with app.state.pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT)
        await connection.commit()

@app.post("/asyncmy")
async def by_asyncmy():
    async with asyncmy.connect(db=DB, **ARGUMENTS) as connection, connection.cursor() as cursor:
        await cursor.execute(INSERT)
        await connection.commit()

@app.post("/on-loop")
async def by_a_sync_driver():
    by_pymysql()

engines_only = AtomicBatch(app, transaction=SQLAlchemyTransaction())
"""


def test_drivers_on_mysql(mysql_url: str, write_app: Callable[[str], str], tmp_path: Path) -> None:
    """Each may open its connection in the call, and takes part."""
    url = sa.make_url(mysql_url)
    arguments: dict[str, Any] = {
        "host": url.host or "localhost",
        "port": url.port or 3306,
        "user": url.username,
        "password": url.password or "",
        **url.query,
    }
    with pymysql.connect(**arguments, database=url.database, autocommit=True) as other:
        cursor = other.cursor()
        cursor.execute("CREATE TABLE item (name text)")
        name = write_app(_MYSQL.format(arguments=arguments, database=url.database))
        calls = tmp_path / "calls.http"
        paths = ["pymysql", "aiomysql", "pool", "asyncmy", "on-loop"]
        if find_spec("MySQLdb"):  # which has to be compiled for some Pythons
            paths.append("mysqlclient")
        calls.write_text("\n###\n".join(f"POST /{path}" for path in paths))
        found = by_operation(examine(f"{name}:app", http_file=calls))
        assert found == {f"POST /{path}": (Verdict.SAFE, []) for path in paths}
        found = by_operation(examine(f"{name}:engines_only", http_file=calls))
        for verdict, (reason, *_) in found.values():
            assert (verdict, reason.partition(" to ")[0]) == (
                Verdict.UNSAFE,
                "a handler writes (INSERT)",
            )
        cursor.execute("SELECT * FROM item")
        assert cursor.fetchall() == ()


_AIOSQLITE = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///one.sqlite")
INSERT = "INSERT INTO item VALUES ('x')"

@asynccontextmanager
async def lifespan(app):
    import aiosqlite
    async with aiosqlite.connect("two.sqlite") as app.state.opened:
        await app.state.opened.execute("CREATE TABLE item (name TEXT)")
        # Kept by the driver for the next time, as far as it is asked to.
        await app.state.opened.execute(INSERT)
        await app.state.opened.rollback()
        async with engine.begin() as connection:
            await connection.execute(sa.text("CREATE TABLE item (name TEXT)"))
        yield
        async with app.state.opened.execute("SELECT * FROM item") as found:
            app.state.found = await found.fetchall()
    async with engine.begin() as connection:
        app.state.found += (await connection.execute(sa.text("SELECT * FROM item"))).all()
    await engine.dispose()

app = FastAPI(lifespan=lifespan)

async def by_engine():
    async with engine.begin() as connection:
        await connection.execute(sa.text(INSERT))

@app.post("/engine")
async def engine_only():
    await by_engine()

@app.post("/both")
async def both():
    await by_engine()
    await app.state.opened.execute(INSERT)
    await app.state.opened.commit()

@app.get("/read")
async def read():
    await (await app.state.opened.execute("SELECT * FROM item")).fetchall()

@app.get("/again")
async def again():
    await read()

@app.post("/engine-again")
async def engine_again():
    await by_engine()
"""


def test_aiosqlite(write_app: Callable[[str], str]) -> None:
    """A connection that was open before takes part, in its own thread, as an engine's does."""
    name = write_app(_AIOSQLITE)
    found = by_operation(examine(f"{name}:app"))
    for operation in ("POST /engine", "POST /engine-again", "GET /read", "GET /again"):
        assert found[operation] == (Verdict.SAFE, []), operation
    verdict, (reason, _) = found["POST /both"]
    assert (verdict, reason.partition(",")[0]) == (Verdict.UNSAFE, "it changes 2 databases")
    assert sys.modules[name].app.state.found == []


def test_aiosqlite_beside_engines(write_app: Callable[[str], str]) -> None:
    """If the app's own batches are for engines alone, writes are refused and reads are told."""
    name = write_app(_AIOSQLITE + _ENGINES_ONLY)
    found = by_operation(examine(f"{name}:engines_only"))
    assert found["POST /engine"] == (Verdict.SAFE, [])
    verdict, (reason, *_) = found["POST /both"]
    assert verdict is Verdict.UNSAFE
    assert reason.startswith("a handler writes (INSERT) to two.sqlite by aiosqlite")
    verdict, (reason,) = found["GET /read"]
    assert verdict is Verdict.WARNING
    assert reason.startswith("reads from two.sqlite by aiosqlite by a connection that takes no")
    assert sys.modules[name].app.state.found == []


_ENGINES_ONLY = """
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engines_only = AtomicBatch(app, transaction=SQLAlchemyTransaction())
"""


_THREADS = """
import asyncio, threading, time
from concurrent.futures import ThreadPoolExecutor
from fastapi import FastAPI
import sqlalchemy as sa

engine = sa.create_engine("sqlite:///one.sqlite")
app = FastAPI()
left = ThreadPoolExecutor()
with engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE item (name)"))

def late():
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO item VALUES ('late')"))

@app.get("/timer")
def timer():
    threading.Timer(0.3, late).start()

@app.get("/joined")
def joined():
    one = threading.Thread(target=late)
    one.start()
    one.join()

@app.get("/pools")
async def pools():
    await asyncio.to_thread(late)
    left.submit(late).result()
"""


def test_threads(write_app: Callable[[str], str]) -> None:
    """Only what runs on after its call counts; that it fails then is not printed."""
    found = by_operation(examine(f"{write_app(_THREADS)}:app"))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()  # what it raises would fail this test
    verdict, (reason,) = found.pop("GET /timer")
    assert verdict is Verdict.WARNING
    assert reason.startswith("leaves a thread running (late), which goes")
    assert found == {"GET /joined": (Verdict.SAFE, []), "GET /pools": (Verdict.SAFE, [])}
    with closing(sqlite3.connect("one.sqlite")) as connection:
        assert connection.execute("SELECT * FROM item").fetchall() == []
