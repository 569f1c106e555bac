"""Connections from before the guard are looked for, and watched as far as that is possible."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import Batch, doors
from atomicbatch.asgi import AtomicBatch
from atomicbatch.doors import earlier
from atomicbatch.guard.watch import unwatched
from tests.guard.test_watch import batch, details, opened
from tests.stores import Store


@pytest.fixture
def _unguarded() -> Iterator[None]:
    """The drivers are as they were, until somebody makes an AtomicBatch."""
    doors.uninstall()
    yield
    doors.install()
    unwatched.clear()


@pytest.mark.usefixtures("_unguarded")
def test_psycopg2(
    postgresql_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cursors of an older connection ask; while there is one, little is said to be undone."""
    with closing(psycopg2.connect(postgresql_store.url)) as kept:
        assert type(kept) is psycopg2.extensions.connection

        def insert(name: str) -> None:
            with kept, kept.cursor() as cursor:
                cursor.execute("INSERT INTO t (name) VALUES (%s)", [name])

        async def go() -> None:
            async with opened(insert, tmp_path) as shop:
                with caplog.at_level(logging.WARNING):
                    earlier.look()
                assert "psycopg2's to guard" in caplog.text
                answer = await batch(shop.app, "/own/a", "/strange/b")
                assert answer.statuses == [424, 501]
                assert "in the batch's transaction is undone" in details(answer)[0]
                assert "by psycopg2" in details(answer)[1]

        asyncio.run(go())
    assert postgresql_store.rows() == []


@pytest.mark.usefixtures("_unguarded")
def test_what_is_no_stranger(sqlite_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Connections of SQLAlchemy's pools, and those that ask by themselves, are not named."""
    engine = sa.create_engine(f"sqlite:///{sqlite_store.url}")
    pooled = engine.connect()
    doors.install()
    with closing(sqlite3.connect(sqlite_store.url)), caplog.at_level(logging.WARNING):
        earlier.look()
    assert Path(sqlite_store.url).name not in caplog.text
    pooled.close()
    engine.dispose()


@pytest.mark.usefixtures("_unguarded")
@pytest.mark.parametrize("why", ["own", "allowed", "logged"])
def test_sqlite3_that_may(why: str, sqlite_store: Store) -> None:
    """An older connection of an adapter's, one that is allowed by name, one of a log's handler."""
    with closing(sqlite3.connect(sqlite_store.url)) as kept:

        class Adapter:
            outside = ("others.sqlite", sqlite_store.url) if why == "allowed" else ()

            @asynccontextmanager
            async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Any]:
                yield kept if why == "own" else None
                kept.commit()

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                kept.execute("INSERT INTO t (name) VALUES ('x')")

        logger = logging.getLogger("tests.guard.early")
        logger.propagate = False
        handler = Handler()
        logger.addHandler(handler)

        async def write(request: Request) -> Response:
            if why == "logged":
                logger.warning("x")
            else:
                kept.execute("INSERT INTO t (name) VALUES ('x')")
            return JSONResponse({}, 201)

        app = AtomicBatch(
            Starlette(routes=[Route("/write", write, methods=["POST"])]), transaction=Adapter()
        )
        earlier.look()
        answer = asyncio.run(batch(app, "/write"))
        assert answer.outcome == "committed"
        logger.removeHandler(handler)
    assert sqlite_store.rows() == ["x"]


@pytest.mark.usefixtures("_unguarded")
def test_sqlite3(sqlite_store: Store, tmp_path: Path) -> None:
    """A write on an older connection of this thread is stopped, and the batch says why."""
    with closing(sqlite3.connect(sqlite_store.url)) as kept:
        kept.row_factory = sqlite3.Row

        async def insert(name: str) -> None:
            kept.execute("SELECT * FROM t")
            kept.execute("INSERT INTO t (name) VALUES (?)", [name])
            kept.commit()

        async def go() -> Any:
            async with opened(insert, tmp_path) as shop:
                earlier.look()
                return await batch(shop.app, "/own/a", "/swallowed/b", "/own/c")

        answer = asyncio.run(go())
        assert answer.statuses[1] == 501
        why = details(answer)[1]
        assert "takes no part in the batch" in why
        assert "test_earlier.py:" in why
        assert "others.sqlite" in why
        assert details(answer)[0].endswith("in the batch's transaction is undone")
        assert sqlite_store.rows() == []
        # Outside of batches it goes on as before.
        kept.execute("INSERT INTO t (name) VALUES ('d')")
        kept.commit()
    assert sqlite_store.rows() == ["d"]


WRITES = (
    "INSERT INTO t (name) VALUES ('x')",
    "INSERT INTO t (name) VALUES ('x') RETURNING id",
    "REPLACE INTO t VALUES (1, 'x')",
    "INSERT INTO t (name) SELECT name FROM t",
    "UPDATE t SET name = 'x'",
    "DELETE FROM t",
    "CREATE TABLE x (a)",
    "CREATE INDEX x ON t (name)",
    "CREATE VIEW x AS SELECT 1",
    "ALTER TABLE t RENAME TO x",
    "DROP TABLE t",
    "PRAGMA user_version = 7",
    "REINDEX",
    "VACUUM",
    "INSERT INTO t (name) VALUES ('x'); INSERT INTO t (name) VALUES ('y')",
)


@pytest.mark.usefixtures("_unguarded")
@pytest.mark.parametrize("level", ["", None], ids=["late", "auto"])
@pytest.mark.parametrize("sql", WRITES)
def test_sqlite3_is_stopped(sql: str, level: str | None, tmp_path: Path) -> None:
    """Whatever it would write, nothing of it is in the file, and the connection can be used."""
    file = tmp_path / "kept.sqlite"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        other.execute("INSERT INTO t (name) VALUES ('old')")
    before = file.read_bytes()
    with closing(sqlite3.connect(file, isolation_level=level)) as kept:  # type: ignore[arg-type]

        async def write(_: Request) -> Response:
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                (kept.executescript if ";" in sql else kept.execute)(sql)
            kept.commit()
            return JSONResponse({}, 201)

        class Adapter:
            outside = ()

            @asynccontextmanager
            async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Any]:
                yield None

        routes = [Route("/write", write, methods=["POST"])]
        app = AtomicBatch(Starlette(routes=routes), transaction=Adapter())
        earlier.look()
        answer = asyncio.run(batch(app, "/write"))
        assert answer.outcome == "rolled-back; failed=1; status=501", answer.body
        assert file.read_bytes() == before
        assert kept.execute("SELECT name FROM t").fetchall() == [("old",)]
