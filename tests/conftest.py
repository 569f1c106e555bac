"""Fixtures for all tests: a fresh database of each kind."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from tests import databases

pytest_plugins = ["tests.stores"]
pytest.register_assert_rewrite("tests.endpoints")

_numbers = itertools.count(1)


def _started(server: AbstractContextManager[str]) -> Iterator[str]:
    try:
        url = server.__enter__()
    except databases.MissingServerError as error:
        # In CI a database that is not tested is a failure.
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    try:
        yield url
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server of the tests' own."""
    yield from _started(databases.postgresql())


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    """A MariaDB server of the tests' own."""
    yield from _started(databases.mariadb())


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """An empty SQLite file."""
    path = tmp_path / "test.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return path


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """An empty PostgreSQL database."""
    name = f"test{next(_numbers)}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgresql_server}/{name}"


@pytest.fixture
def mysql_url(mariadb_server: str) -> str:
    """An empty MariaDB database."""
    name, url = f"test{next(_numbers)}", sa.make_url(mariadb_server)
    with (
        closing(
            pymysql.connect(
                host=url.host or "",
                port=url.port or 0,
                user=url.username,
                password=url.password or "",
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return f"{mariadb_server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind in turn, as ``atomicbatch serve`` takes it."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
