"""One database of each kind for all tests by SQLAlchemy; each test starts from the seed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from tests.transactions.sqlalchemy.worlds import Database


def _create(url: sa.URL, family: str, worker_name: str) -> Database:
    name = f"join_{worker_name}"
    database = Database(family, url.set(database=name))
    if family == "postgresql":
        with psycopg.connect(
            url.set(database="postgres").render_as_string(hide_password=False), autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    else:
        mariadb = pymysql.connect(
            host=url.host or "",
            port=url.port or 0,
            user=url.username,
            password=url.password or "",
            autocommit=True,
        )
        with mariadb, mariadb.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    database.create()
    return database


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_name: str
) -> Iterator[Callable[[str], Database]]:
    """Gives the database of a family, started when it is first asked for."""
    started: dict[str, Database] = {}

    def database(family: str) -> Database:
        # The oracle collects garbage after each request. What is there before a test is none, and
        # by the end of a run it is so much that to look at it takes longer than the test.
        gc.collect()
        gc.freeze()
        if family not in started:
            if family == "sqlite":
                path: Path = tmp_path_factory.mktemp("join") / "join.sqlite"
                started[family] = Database(family, sa.make_url(f"sqlite:///{path}"))
                started[family].run("PRAGMA journal_mode=WAL")
                started[family].create()
            else:
                server = {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[family]
                url = sa.make_url(request.getfixturevalue(server))
                started[family] = _create(url, family, worker_name)
        started[family].reset()
        return started[family]

    yield database
    for one in started.values():
        one.close()
