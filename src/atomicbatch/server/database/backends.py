"""Backends: which one serves a URL."""

from __future__ import annotations

import sqlalchemy as sa

from atomicbatch.server.database.backend import Backend
from atomicbatch.server.database.mariadb import MariaDBBackend
from atomicbatch.server.database.postgresql import PostgreSQLBackend
from atomicbatch.server.database.sqlite import SQLiteBackend
from atomicbatch.server.dialect import MARIADB, MYSQL, POSTGRESQL, SQLITE, Dialect


def backend_for(url: sa.URL, *, read_only: bool) -> Backend:
    """
    The backend for a URL whose driver is chosen already.

    Raises:
        ValueError: No such kind of database is served.
    """
    name = url.get_backend_name()
    if name == "sqlite":
        return SQLiteBackend(url, read_only=read_only)
    if name == "postgresql":
        return PostgreSQLBackend(url, read_only=read_only)
    if name in ("mysql", "mariadb"):
        return MariaDBBackend(url, read_only=read_only)
    raise ValueError(f"{name} databases are not served; SQLite, PostgreSQL, MariaDB and MySQL are")


def dialect_of(engine: sa.Engine) -> Dialect:
    """The dialect of a connected engine: MySQL lacks RETURNING, which MariaDB has."""
    if engine.dialect.name == "sqlite":
        return SQLITE
    if engine.dialect.name == "postgresql":
        return POSTGRESQL
    return MARIADB if getattr(engine.dialect, "is_mariadb", False) else MYSQL
