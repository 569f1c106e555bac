"""Dialects: what SQLAlchemy's dialects tell of a database, and of an engine's connections."""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.pool import PoolProxiedConnection

from atomicbatch.errors import NotBatchableError
from atomicbatch.sql.statements import Family

_FAMILIES = {
    "sqlite": Family.SQLITE,
    "postgresql": Family.POSTGRESQL,
    "cockroachdb": Family.POSTGRESQL,
    "mysql": Family.MYSQL,
    "mariadb": Family.MYSQL,
}


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
