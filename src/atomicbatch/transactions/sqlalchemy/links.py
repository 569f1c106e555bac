"""
Links: which driver an engine's connections are of, and how the join uses and stops one.

All that a driver itself can do is in ``atomicbatch/drivers/``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Dialect
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import await_only, greenlet_spawn

from atomicbatch.drivers import pep249
from atomicbatch.drivers.driver import AsyncDriver, Driver, Elsewhere, SyncDriver
from atomicbatch.drivers.known import ASYNC, SYNC
from atomicbatch.drivers.stopper import Stopper

Sender: TypeAlias = Callable[[Sequence[str]], None]
"""Runs SQL without parameters or rows."""
# Where SQLAlchemy's name for a driver is not pip's.
_NAMES = {"mysqldb": "mysqlclient"}


def driver_of(dialect: Dialect) -> Driver:
    """The module for the driver of an engine; of one that we do not know, PEP 249 alone."""
    if dialect.is_async:
        return _async_driver(dialect) or pep249
    return _sync_driver(dialect)


def _sync_driver(dialect: Dialect) -> SyncDriver:
    if dialect.name == "sqlite":
        return SYNC["sqlite3"]  # sqlcipher3 and its like are made from it
    return SYNC.get(_NAMES.get(dialect.driver, dialect.driver), pep249)


def _async_driver(dialect: Dialect) -> AsyncDriver | None:
    return ASYNC.get(dialect.driver)


def sender_of(dialect: Dialect, fairy: PoolProxiedConnection) -> Sender:
    """
    Make what runs SQL of ours on a connection of a pool, in as few round trips as possible.

    It must be called inside the transaction only after a statement has gone through the
    connection itself, since some drivers send BEGIN just then.
    """
    connection: Any = fairy.driver_connection
    if not dialect.is_async:
        return partial(_sync_driver(dialect).send, connection)
    driver = _async_driver(dialect)
    if driver is None:
        return partial(pep249.send, fairy)
    send = driver.send
    return lambda texts: await_only(send(connection, texts))


def stopper_of(dialect: Dialect, pool: Pool, fairy: PoolProxiedConnection) -> Stopper:
    """
    Make what stops the statements of a connection of a pool, or cuts it off, from any thread.

    Args:
        dialect: Of the connection.
        pool: Where it comes from; another like it is made for MySQL's KILL QUERY.
        fairy: The connection.
    """
    return Stopper(driver_of(dialect), fairy.driver_connection, _elsewhere(dialect, pool))


def _elsewhere(dialect: Dialect, pool: Pool) -> Elsewhere | None:
    """Make what runs a statement on another connection, which is made as the pool makes its own."""
    if dialect.driver == "pymysql":
        return None  # our module makes a copy, which knows a time limit

    def run(text: str) -> None:
        creator: Any = pool._creator
        with closing(creator()) as other:
            pep249.send(other, [text])

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
