"""SQLAlchemy's handlers on SQLite, by the drivers' doors alone: without the door of its engines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import hook
from tests.transactions.sqlalchemy.oracle import check
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle import FastAPIFront, cases
from tests.transactions.sqlalchemy.worlds import DRIVERS, Database, World


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    path: Path = tmp_path_factory.mktemp("through") / "join.sqlite"
    made = Database("sqlite", sa.make_url(f"sqlite:///{path}"))
    made.run("PRAGMA journal_mode=WAL")
    made.create()
    return made


@pytest.fixture(autouse=True)
def _without_the_door_of_engines(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # A traceback that is kept for the report would keep connections from going back to the pool.
    caplog.set_level(logging.CRITICAL, "atomicbatch")
    hook.uninstall()
    yield
    hook.install()


@pytest.mark.parametrize(
    ("driver", "pattern"),
    [case for case in cases() if DRIVERS[str(case.values[0])] == "sqlite"],
)
def test_alone_and_in_batches(driver: str, pattern: Pattern, database: Database) -> None:
    """All patterns do in a batch what they do alone, also those that the engines' door refuses."""
    database.reset()
    world = World(driver, database)
    faithful = replace(pattern, refused=())
    transaction: Any = DriverTransaction()
    asyncio.run(check(world, faithful, FastAPIFront(world, faithful, transaction)))
