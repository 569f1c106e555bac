"""Doors are there whatever was imported before the guard, after it, or inside a call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import WITH_MYSQLCLIENT

BEFORE = """
import asyncio, sqlite3, sys
from sqlite3 import connect
import asyncpg, aiosqlite, psycopg, psycopg2, pymysql, aiomysql, asyncmy
""" + ("import MySQLdb.connections\n" if WITH_MYSQLCLIENT else "")
GO = """
import asyncio, sqlite3, sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.asgi.asking import ask, call
from atomicbatch.asgi import AtomicBatch

path = sys.argv[1]


class Nothing:
    '''An adapter of the user's own.'''

    def begin(self, batch, *, deadline):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass


app = Starlette(routes=[Route("/write", lambda request: write(), methods=["POST"])])
batches = AtomicBatch(app, transaction=Nothing())


def send():
    answer = asyncio.run(ask(batches, call("POST", "/write")))
    assert answer.outcome == "rolled-back; failed=1; status=501", answer
    reply = answer.replies[0].body.decode()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,), "stored"
    connection.close()
    return reply
"""
LATER = """
def write():
    import peewee

    db = peewee.SqliteDatabase(path)
    with db.connection_context():
        db.execute_sql("INSERT INTO t (name) VALUES ('a')")
    return JSONResponse({})


assert "peewee" not in sys.modules and "aiosqlite" not in sys.modules
assert "by peewee (sqlite3)" in send()


def write():
    return asyncio.run(later())


async def later():
    import aiosqlite

    async with aiosqlite.connect(path) as connection:
        await connection.execute("INSERT INTO t (name) VALUES ('a')")
        await connection.commit()
    return JSONResponse({})


assert "by aiosqlite" in send()
print("done")
"""
BY_NAME = """
def write():
    connection = connect(path)
    connection.execute("INSERT INTO t (name) VALUES ('a')")
    connection.commit()
    return JSONResponse({})


assert "by sqlite3" in send()

from atomicbatch import patches

changed = {
    f"{getattr(one.owner, '__module__', '')}.{one.owner.__name__}.{one.name}".lstrip(".")
    for one in patches.changes()
    if one.why == "what takes no part in a batch is refused"
}
expected = {
    "sqlite3.connect", "__main__.connect", "aiosqlite.core.Connection._execute",
    "asyncpg.protocol.protocol.Protocol.prepare", "psycopg._cursor_base.BaseCursor._execute_gen",
    "psycopg2._connect", "pymysql.connections.Connection._execute_command",
    "aiomysql.connection.Connection._execute_command",
    "asyncmy.connection.Connection._execute_command",
}
if "MySQLdb" in sys.modules:
    expected.add("MySQLdb.connections.Connection.query")
assert expected <= changed, expected - changed
print("done")
"""
KEPT = """
kept = connect(path)
open_elsewhere = []
import threading
thread = threading.Thread(target=lambda: open_elsewhere.append(connect(path)))
thread.start()
thread.join()
"""
EARLY = """
import logging

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("atomicbatch").addHandler(handler)


async def write_early(request):
    kept.execute("INSERT INTO t (name) VALUES ('a')")
    return JSONResponse({})


async def read_early(request):
    kept.execute("SELECT * FROM t").fetchall()
    return JSONResponse({})


app.routes.append(Route("/early", write_early, methods=["POST"]))
app.routes.append(Route("/read", read_early, methods=["POST"]))
assert asyncio.run(ask(batches, call("POST", "/read"))).outcome == "committed"
answer = asyncio.run(ask(batches, call("POST", "/early")))
assert answer.outcome == "rolled-back; failed=1; status=501", answer
assert b"opened before AtomicBatch was made" in answer.replies[0].body, answer
warnings = [text for text in said if "opened before AtomicBatch was made" in text]
assert "sqlite3's to others.sqlite" in warnings[0] and "another thread" in warnings[0], said
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [GO + LATER, BEFORE + GO + BY_NAME, BEFORE + "path = sys.argv[1]\n" + KEPT + GO + EARLY],
    ids=["imported in a call", "imported by name before", "opened before"],
)
def test_whatever_came_first(script: str, sqlite_store: tuple[str, object]) -> None:
    """An import in a call, one before AtomicBatch by name, and connections opened before it."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, sqlite_store[0]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=root,
    )
    assert done.stdout == "done\n", done.stderr
