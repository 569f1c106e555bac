"""A table in a database of each family, made once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.drivers.lines import run

TABLES = {
    "sqlite": ["CREATE TABLE item (name VARCHAR(60) PRIMARY KEY)"],
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
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Gives the URL of the database of a family; ``item`` is empty."""
    urls: dict[str, str] = {}

    def database(family: str) -> str:
        if family not in urls:
            urls[family] = _create(family, request, tmp_path_factory)
            run(urls[family], *TABLES[family])
        run(urls[family], "DELETE FROM item")
        return urls[family]

    return database


def _create(
    family: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    if family == "sqlite":
        path: Path = tmp_path_factory.mktemp("drivers") / "drivers.sqlite"
        run(f"sqlite:///{path}", "PRAGMA journal_mode=WAL")
        return f"sqlite:///{path}"
    fixture = {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[family]
    server = sa.make_url(request.getfixturevalue(fixture))
    first = server.set(database={"postgresql": "postgres", "mysql": "mysql"}[family])
    run(first.render_as_string(hide_password=False), "CREATE DATABASE drivers")
    return server.set(database="drivers").render_as_string(hide_password=False)
