"""What differs between drivers: how savepoints are sent fastest, what their connections say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

from atomicbatch.errors import NotBatchableError
from atomicbatch.sql.statements import Family
from atomicbatch.transactions.sqlalchemy.links import async_driver, sync_driver

_FAMILIES = {
    "sqlite": Family.SQLITE,
    "postgresql": Family.POSTGRESQL,
    "cockroachdb": Family.POSTGRESQL,
    "mysql": Family.MYSQL,
    "mariadb": Family.MYSQL,
}
Runner = Callable[[Sequence[str]], None]


def family_of(dialect: Dialect) -> Family:
    """
    Tell which SQL a dialect speaks about transactions.

    Raises:
        NotBatchableError: None that we know.
    """
    family = _FAMILIES.get(dialect.name)
    if family is None:
        raise NotBatchableError(
            f"batches work on SQLite, PostgreSQL, CockroachDB, MariaDB and MySQL, "
            f"not on {dialect.name!r}"
        )
    return family


def runner_of(dialect: Dialect, connection: PoolProxiedConnection) -> Runner:
    """
    Make a function that runs SQL without parameters or rows, in as few round trips as possible.

    It must be called inside the transaction only after a statement has gone through the
    connection itself, since some drivers send BEGIN just then.
    """
    driver: Any = connection.driver_connection
    if not dialect.is_async:
        return partial(sync_driver(dialect).send, driver)
    awaited = async_driver(dialect)
    if awaited is None:
        return partial(run_plainly, connection)
    send = awaited.send
    return lambda texts: await_only(send(driver, texts))


def run_plainly(connection: PoolProxiedConnection, texts: Sequence[str]) -> None:
    """Run SQL through a cursor, one statement at a time."""
    cursor = connection.cursor()
    try:
        for text in texts:
            cursor.execute(text)
    finally:
        cursor.close()


def value_of(connection: PoolProxiedConnection, text: str) -> Any:
    """Run a query; return the first column of its one row."""
    cursor = connection.cursor()
    try:
        cursor.execute(text)
        row = cursor.fetchone()
    finally:
        cursor.close()
    return None if row is None else row[0]


def is_autocommit(dialect: Dialect, connection: PoolProxiedConnection) -> bool:
    """Tell whether statements on this connection commit by themselves, as it is now."""
    if dialect.name == "sqlite":
        driver: Any = connection.driver_connection
        # Python 3.12 added the attribute autocommit; before it, isolation_level alone told.
        mode = getattr(driver, "autocommit", -1)
        return mode is True or (mode is not False and driver.isolation_level is None)
    if hasattr(dialect, "detect_autocommit_setting"):
        return bool(dialect.detect_autocommit_setting(connection.dbapi_connection))  # type: ignore[arg-type]
    # SQLAlchemy before 2.0.42 leaves it to the driver.
    known: Any = connection.dbapi_connection
    if dialect.name in ("mysql", "mariadb"):
        return bool(connection.driver_connection.get_autocommit())  # type: ignore[union-attr]
    return bool(known.autocommit)


def level_of(dialect: Dialect) -> str | None:
    """Tell the isolation level that connections of an engine have, where it is known."""
    # Where create_engine(isolation_level=...) ends up; there is no public name for it.
    chosen = getattr(dialect, "_on_connect_isolation_level", None)
    level = chosen if chosen not in (None, "AUTOCOMMIT") else dialect.default_isolation_level
    return str(level) if level else None


def buffered(cursor_class: Any) -> Any:
    """Replace a class of cursors that leave their rows in the server by its plain twin."""
    name = getattr(cursor_class, "__name__", "")
    if not name.startswith("SS"):
        return cursor_class
    return getattr(sys.modules[cursor_class.__module__], name[2:])
