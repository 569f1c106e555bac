"""Worlds: an engine on a real database, and a way to look at the database without it."""

from __future__ import annotations

import importlib.util
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.databases import DIALECT

SYNC = {
    "pysqlite": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymysql": "mysql",
}
ASYNC = {
    "aiosqlite": "sqlite",
    "asyncpg": "postgresql",
    "psycopg_async": "postgresql",
    "asyncmy": "mysql",
    "aiomysql": "mysql",
}
# CockroachDB's dialect, where it is installed, against PostgreSQL: its server is in no registry.
if importlib.util.find_spec("sqlalchemy_cockroachdb"):
    SYNC |= {"cockroachdb-psycopg": "postgresql"}
    ASYNC |= {"cockroachdb-asyncpg": "postgresql"}
DRIVERS = SYNC | ASYNC


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(60), unique=True)
    n: Mapped[int] = mapped_column(default=0)


items: Any = Item.__table__
SEED = [("one", 10), ("two", 20)]

_SCHEMA = {
    "sqlite": "id INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "id SERIAL PRIMARY KEY",
    "mysql": "id INTEGER PRIMARY KEY AUTO_INCREMENT",
}
_COLUMNS = "name VARCHAR(60) NOT NULL UNIQUE, n INTEGER NOT NULL DEFAULT 0 CHECK (n > -1000)"


@dataclass
class Database:
    """A real database; everything here goes through connections of its own."""

    family: str
    url: sa.URL
    _kept: Any = field(default=None, init=False, repr=False, compare=False)

    def connect(self) -> Any:
        url = self.url
        if self.family == "sqlite":
            assert url.database is not None
            return sqlite3.connect(
                url.database, isolation_level=None, timeout=0.5, check_same_thread=False
            )
        if self.family == "postgresql":
            return psycopg.connect(
                url.set(drivername="postgresql").render_as_string(hide_password=False),
                autocommit=True,
            )
        return pymysql.connect(
            host=url.host or "",
            port=url.port or 0,
            user=url.username,
            password=url.password or "",
            database=url.database,
            autocommit=True,
            ssl_disabled=True,  # else it reads the system's certificates each time
        )

    def run(self, *texts: str) -> list[tuple[Any, ...]]:
        """Run statements; return the rows of the last."""
        with closing(self.connect()) as connection:
            return _rows(connection, texts)

    def _run_kept(self, *texts: str) -> list[tuple[Any, ...]]:
        """The same by a connection that is kept: a new one takes PostgreSQL 7 ms."""
        if self._kept is None:
            self._kept = self.connect()
        try:
            return _rows(self._kept, texts)
        except (psycopg.OperationalError, pymysql.OperationalError):
            self.close()  # a test may have ended it; the next one is new
            return self.run(*texts)

    def close(self) -> None:
        """Close what is kept."""
        if self._kept is not None:
            with suppress(pymysql.Error):  # it is closed already
                self._kept.close()
            self._kept = None

    def create(self) -> None:
        self.run(f"CREATE TABLE item ({_SCHEMA[self.family]}, {_COLUMNS})")

    def reset(self) -> None:
        """Back to the seed, ids included."""
        values = ", ".join(f"('{name}', {n})" for name, n in SEED)
        insert = f"INSERT INTO item (name, n) VALUES {values}"
        if self.family == "sqlite":
            self.run("DELETE FROM item", "DELETE FROM sqlite_sequence", insert)
        elif self.family == "postgresql":
            # In a seventh of TRUNCATE's time; the lock waits for whoever has it open, as that does.
            again = "SELECT setval(pg_get_serial_sequence('item', 'id'), 1, false)"
            lock = "LOCK TABLE item IN ACCESS EXCLUSIVE MODE"
            self._run_kept(f"{lock}; DELETE FROM item; {again}; {insert}")
        else:
            self._run_kept("TRUNCATE item", insert)

    def rows(self) -> list[tuple[str, int]]:
        """What is stored, by name."""
        query = "SELECT name, n FROM item"
        rows = self.run(query) if self.family == "sqlite" else self._run_kept(query)
        return sorted((str(name), int(n)) for name, n in rows)


def _rows(connection: Any, texts: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The rows of the last."""
    with closing(connection.cursor()) as cursor:
        for text in texts:
            cursor.execute(text)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def _without_tls(_: object, __: object, ___: object, parameters: dict[str, Any]) -> None:
    """Reading the system's certificates takes PyMySQL longer than most tests."""
    parameters["ssl_disabled"] = True


@dataclass
class World:
    """An engine of one driver on a database."""

    driver: str
    database: Database
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = self.url
        if self.is_async:
            self.async_engine: AsyncEngine = create_async_engine(url, **self.options)
            self.engine = self.async_engine.sync_engine
        else:
            self.engine = sa.create_engine(url, **self.options)
            if self.driver == "pymysql":
                sa.event.listen(self.engine, "do_connect", _without_tls)

    @property
    def family(self) -> str:
        return self.database.family

    @property
    def is_async(self) -> bool:
        return self.driver in ASYNC

    @property
    def url(self) -> sa.URL:
        dialect = DIALECT if self.family == "mysql" else self.family
        driver = self.driver.removesuffix("_async")
        if driver.startswith("cockroachdb-"):
            dialect, driver = driver.split("-")
        return self.database.url.set(drivername=f"{dialect}+{driver}")

    def checked_out(self) -> int:
        count: Any = getattr(self.engine.pool, "checkedout", lambda: 0)
        return int(count())

    async def dispose(self) -> None:
        if self.is_async:
            await self.async_engine.dispose()
        else:
            self.engine.dispose()


class SomebodyElse:
    """A thread that no batch knows, as another program would be; a context manager."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], object], threading.Event] | None]
        self._asked = queue.SimpleQueue()
        # Started before the batch: threads that a call starts are part of it.
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> SomebodyElse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._thread.join()

    def do(self, act: Callable[[], object]) -> None:
        """Let it act, and wait until it has."""
        done = threading.Event()
        self._asked.put((act, done))
        assert done.wait(30), "it did not come back"

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            act, done = asked
            act()
            done.set()
