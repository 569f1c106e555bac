"""A table in a database of each family, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.drivers.lines import run

TABLES = {
    "sqlite": [
        "CREATE TABLE item (name VARCHAR(60) PRIMARY KEY)",
        "CREATE TABLE strict (name VARCHAR(60) NOT NULL)",
    ],
    "postgresql": [
        "CREATE TABLE item (name VARCHAR(60) PRIMARY KEY)",
        "CREATE TABLE late (name VARCHAR(60) REFERENCES item DEFERRABLE INITIALLY DEFERRED)",
    ],
    "mysql": [
        "CREATE TABLE item (name VARCHAR(60) PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE simple (name VARCHAR(60)) ENGINE=MyISAM",
    ],
}


@pytest.fixture(scope="session")
def drivers_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_name: str
) -> Callable[[str], str]:
    """Gives the URL of the database of a family; ``item`` is empty."""
    urls: dict[str, str] = {}

    def database(family: str) -> str:
        if family not in urls:
            if family == "sqlite":
                path: Path = tmp_path_factory.mktemp("drivers") / "drivers.sqlite"
                urls[family] = f"sqlite:///{path}"
                run(urls[family], "PRAGMA journal_mode=WAL")
            else:
                urls[family] = _create(family, request, f"drivers_{worker_name}")
            run(urls[family], *TABLES[family])
        run(urls[family], "DELETE FROM item")
        return urls[family]

    return database


def _create(family: str, request: pytest.FixtureRequest, name: str) -> str:
    fixture = {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[family]
    server = sa.make_url(request.getfixturevalue(fixture))
    first = server.set(database={"postgresql": "postgres", "mysql": "mysql"}[family])
    run(first.render_as_string(hide_password=False), f"CREATE DATABASE {name}")
    return server.set(database=name).render_as_string(hide_password=False)
