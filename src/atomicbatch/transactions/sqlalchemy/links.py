"""
Links: which driver an engine's connections are of, and what makes another connection like them.

Everything else about a driver's connection is in ``atomicbatch/drivers/``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from atomicbatch.drivers import aiosqlite, pep249
from atomicbatch.drivers.driver import AsyncDriver, Driver, Elsewhere, SyncDriver
from atomicbatch.drivers.known import ASYNC, SYNC
from atomicbatch.drivers.stopper import Stopper

# Where SQLAlchemy's name for a driver is not pip's.
_NAMES = {"mysqldb": "mysqlclient"}


def sync_driver(dialect: Dialect) -> SyncDriver:
    """The module for the driver of a sync engine; of one that we do not know, PEP 249 alone."""
    if dialect.name == "sqlite":
        return SYNC["sqlite3"]  # sqlcipher3 and its like are made from it
    return SYNC.get(_NAMES.get(dialect.driver, dialect.driver), pep249)


def async_driver(dialect: Dialect) -> AsyncDriver | None:
    """The module for the driver of an async engine, or None."""
    return ASYNC.get(dialect.driver)


class Link(Stopper):
    """
    Stops or cuts off a connection of a pool.

    Args:
        dialect: Of the connection.
        pool: Where it comes from; another like it is made for MySQL's KILL QUERY.
        fairy: The connection.
    """

    def __init__(self, dialect: Dialect, pool: Pool, fairy: PoolProxiedConnection) -> None:
        driver: Driver = sync_driver(dialect)
        if dialect.is_async:
            driver = async_driver(dialect) or pep249
        self._driver: Any = fairy.driver_connection
        super().__init__(driver, self._driver, _elsewhere(dialect, pool))

    def behind_statements(self, act: Callable[[sqlite3.Connection], object]) -> threading.Event:
        """Do something in the thread of an aiosqlite connection, after what runs there now."""
        return aiosqlite.behind_statements(self._driver, act)


def _elsewhere(dialect: Dialect, pool: Pool) -> Elsewhere | None:
    """Make what runs a statement on another connection, which is made as the pool makes its own."""
    if dialect.driver == "pymysql":
        return None  # our module makes a copy, which knows a time limit

    def run(text: str) -> None:
        creator: Any = pool._creator
        with closing(creator()) as other, closing(other.cursor()) as cursor:
            cursor.execute(text)

    async def run_on_a_loop(text: str, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await greenlet_spawn(run, text)

    def elsewhere(text: str, seconds: float) -> None:
        if dialect.is_async:
            # On an event loop of its own: that of the connection may be what stands still.
            asyncio.run(run_on_a_loop(text, seconds))
        else:
            run(text)

    return elsewhere
