"""PostgreSQL: drivers that no audit hook sees are kept out, and engines on them are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

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
    await connection.execute(INSERT)
"""


def test_drivers_on_postgresql(
    postgresql_url: str, write_app: Callable[[str], str], tmp_path: Path
) -> None:
    """Each driver by itself is unsafe, each below an engine is safe, and nothing is stored."""
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("CREATE TABLE item (name text)")
        name = write_app(_APP.format(url=postgresql_url))
        calls = tmp_path / "calls.http"
        paths = ["engine/psycopg", "engine/psycopg2", "async/psycopg", "async/asyncpg"]
        paths += ["psycopg", "psycopg-async", "psycopg2", "asyncpg"]
        calls.write_text("\n###\n".join(f"POST /{path}" for path in paths))
        found = by_operation(examine(f"{name}:app", http_file=calls))
        for path in paths[:4]:
            assert found[f"POST /{path}"] == (Verdict.SAFE, []), path
        for path in paths[4:7]:
            verdict, (reason,) = found[f"POST /{path}"]
            driver = path.removesuffix("-async")
            assert verdict is Verdict.UNSAFE
            assert reason.startswith(f"uses a database by {driver} itself (refused here)")
        verdict, (reason,) = found["POST /asyncpg"]
        assert (verdict, reason.startswith("talks to ")) == (Verdict.UNSAFE, True)
        assert other.execute("SELECT * FROM item").fetchall() == []
