"""Lines: a connection of each driver on a real database, used by threads that wait for it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa

from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.known import ASYNC, SYNC

SYNC_NAMES = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymysql": "mysql",
    "mysqlclient": "mysql",
}
ASYNC_NAMES = {
    "aiosqlite": "sqlite",
    "psycopg async": "postgresql",
    "asyncpg": "postgresql",
    "aiomysql": "mysql",
    "asyncmy": "mysql",
}
# Each driver, and those that begin transactions by themselves also in that mode.
LINES = {
    **SYNC_NAMES,
    **ASYNC_NAMES,
    "psycopg2, no autocommit": "postgresql",
    "psycopg, no autocommit": "postgresql",
    "pymysql, no autocommit": "mysql",
    "mysqlclient, no autocommit": "mysql",
    "aiomysql, no autocommit": "mysql",
    "asyncmy, no autocommit": "mysql",
}
BEGIN = {
    "sqlite": ["BEGIN IMMEDIATE"],
    "postgresql": ["BEGIN"],
    "mysql": ["START TRANSACTION"],
}


class Line:
    """
    One connection.

    Args:
        name: A key of ``LINES``.
        url: The database.
        options: More for the driver's ``connect``.

    Attributes:
        driver: Our module for the driver.
        connection: The driver's own.
    """

    def __init__(self, name: str, url: str, **options: Any) -> None:
        self.name = name
        self.family = LINES[name]
        self.url = sa.make_url(url)
        self.autocommit = "no autocommit" not in name
        base = name.partition(",")[0]
        self._runner = asyncio.Runner() if base in ASYNC_NAMES else None
        self.driver: SyncDriver | AsyncDriver = (
            ASYNC[base.partition(" ")[0]] if self._runner else SYNC[base]
        )
        self.connection = self._wait(self._connect(base, options))
        if self.family == "mysql":
            # Some drivers have it on, whatever they are told.
            self._wait(self.connection.autocommit(self.autocommit))

    def _connect(self, base: str, options: dict[str, Any]) -> Any:
        url = self.url
        if base == "sqlite3":
            return sqlite3.connect(
                str(url.database), isolation_level=None, check_same_thread=False, **options
            )
        if base == "aiosqlite":
            return importlib.import_module(base).connect(
                str(url.database), isolation_level=None, check_same_thread=False, **options
            )
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        if base == "psycopg":
            return psycopg.connect(plain, autocommit=self.autocommit, **options)
        if base == "psycopg async":
            return psycopg.AsyncConnection.connect(plain, autocommit=self.autocommit, **options)
        if base == "psycopg2":
            connection = importlib.import_module(base).connect(plain, **options)
            connection.autocommit = self.autocommit
            return connection
        if base == "asyncpg":
            return importlib.import_module(base).connect(plain, **options)
        keywords = {
            "host": url.host,
            "port": url.port,
            "user": url.username,
            "password": url.password or "",
            **options,
        }
        if base == "mysqlclient":
            module: Any = importlib.import_module("MySQLdb")
            return module.connect(**keywords, database=url.database, ssl_mode="DISABLED")
        if base == "pymysql":
            return pymysql.connect(**keywords, database=url.database, ssl_disabled=True)
        return importlib.import_module(base).connect(**keywords, db=url.database)

    def _wait(self, result: Any) -> Any:
        if self._runner is None or not inspect.isawaitable(result):
            return result

        async def wait() -> Any:
            return await result

        return self._runner.run(wait())

    def begin(self) -> None:
        """Begin a transaction, as the driver would have it."""
        if self.autocommit:
            self.send(*BEGIN[self.family])

    def send(self, *texts: str) -> None:
        self._wait(self.driver.send(self.connection, texts))

    def ask(self, text: str) -> Any:
        return self._wait(self.driver.ask(self.connection, text))

    def state(self) -> State:
        return self.driver.state(self.connection)

    def commit(self) -> None:
        self._wait(self.driver.commit(self.connection))

    def commit_after(self, *texts: str) -> None:
        driver: Any = self.driver
        self._wait(driver.commit_after(self.connection, texts))

    def rollback(self) -> None:
        self._wait(self.driver.rollback(self.connection))

    def elsewhere(self, text: str, seconds: float) -> None:
        """Run a statement on another connection, which only MySQL's drivers ask for."""
        run(self.url.render_as_string(hide_password=False), text)

    def close(self) -> None:
        if self._runner is None:
            self.connection.close()
            return
        with self._runner as runner:
            if hasattr(self.connection, "terminate"):
                self.connection.terminate()  # it may have been cut off
                return
            closed = self.connection.close()
            if inspect.isawaitable(closed):
                runner.run(_finish(closed))

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _finish(awaitable: Any) -> None:
    await awaitable


def run(url: str, *texts: str) -> Sequence[Sequence[Any]]:
    """Run statements on a connection that knows nothing of ours; return the rows of the last."""
    made = sa.make_url(url)
    family = made.get_backend_name()
    name = {"sqlite": "sqlite3", "postgresql": "psycopg"}.get(family, "pymysql")
    with Line(name, url) as line, closing(line.connection.cursor()) as cursor:
        for text in texts:
            cursor.execute(text)
        return list(cursor.fetchall()) if cursor.description else []
