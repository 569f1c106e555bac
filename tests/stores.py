"""A database of each kind with a table ``t``, and what it holds as others see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from atomicbatch.guard.watch import aside

_connect: Any = sqlite3.connect


class Store(NamedTuple):
    """One database."""

    url: str
    rows: Callable[[], list[str]]
    """The names in ``t``, in order, by a connection of its own."""


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Store:
    path = str(tmp_path / "others.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(99) NOT NULL)")

    def rows() -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM t ORDER BY id")]

    return Store(path, rows)


@pytest.fixture(scope="session")
def _postgresql(postgresql_server: str, worker_name: str) -> str:
    url = f"{postgresql_server}/guard_{worker_name}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE guard_{worker_name}")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t (id serial PRIMARY KEY, name varchar(99) NOT NULL)")
    return url


@pytest.fixture
def postgresql_store(_postgresql: str) -> Iterator[Store]:
    with psycopg.connect(_postgresql, autocommit=True) as connection:
        connection.execute("TRUNCATE t")

        def rows() -> list[str]:
            with aside():
                return [name for (name,) in connection.execute("SELECT name FROM t ORDER BY id")]

        yield Store(_postgresql, rows)


@pytest.fixture
def mariadb_store(mysql_url: str) -> Iterator[Store]:
    parts = urlsplit(mysql_url)
    with pymysql.connect(
        host=parts.hostname or "",
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path.strip("/"),
        autocommit=True,
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE t (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(99) NOT NULL)"
        )

        def rows() -> list[str]:
            with aside():
                cursor.execute("SELECT name FROM t ORDER BY id")
                return [name for (name,) in cursor.fetchall()]

        yield Store(mysql_url, rows)
