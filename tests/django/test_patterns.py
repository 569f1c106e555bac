"""
What Django's users write is the same in a batch as alone, in each configuration of a project.

Each pattern is called alone, in a batch that commits, and in one that fails after it. Replies, rows
and functions for after COMMIT of the first two agree, and the third leaves nothing; the rows are
read through a connection of the tests' own. What is refused instead is listed with its reason.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from tests.databases import WITH_MYSQLCLIENT
from tests.django.patterns import table
from tests.django.patterns.expected import surprises
from tests.django.patterns.settings import (
    DRIVERS,
    GATEWAYS,
    WITH_POOL,
    Order,
    Variant,
    variants_of,
)

WSGI, ASGI, MIXED = GATEWAYS
PATTERNS = [name for patterns in table.sections().values() for name in patterns]
TREE = Path(__file__).parents[2]


def _without(driver: str) -> list[pytest.MarkDecorator]:
    missing = driver == "mysqlclient" and not WITH_MYSQLCLIENT
    return [pytest.mark.skip("mysqlclient is not installed")] if missing else []


# What reaches the driver in a way of its own. All else is Django's, whatever the driver is: it is
# tried on the other driver of the same database, and by "make prove" on this one, too.
_DRIVERS_OWN = """
atomic_raises nested set_rollback manual manual_implicit manual_forgotten savepoints
two_databases_one_read catches catches_nested catches_broken catches_bad_sql dangling
dangling_atomic swaps twice locks locks_in_other_ways bulk_more upserts iterates functions values
queries caches raw
raw_commit_inside raw_transaction raw_savepoint settings stricter raw_autocommit copies
temporary_table makes_table drivers_cursor drivers_commit second_connection second_alias closes
closes_last closes_inside state after streams thread async_gather async_streams async_insensitive
"""
# Each value of each option is among them.
FEW = [
    pytest.param(variant, only, id=variant.driver, marks=_without(variant.driver))
    for variant, only in (
        (Variant("sqlite3", MIXED, atomic=True), ()),
        (Variant("psycopg", ASGI, pool=WITH_POOL), ()),
        (Variant("psycopg2", MIXED, age=60, debug=True), tuple(_DRIVERS_OWN.split())),
        (Variant("pymysql", WSGI, atomic=True, age=60, debug=True), ()),
        (Variant("mysqlclient", ASGI), tuple(_DRIVERS_OWN.split())),
    )
]
_numbers = itertools.count(1)
MakeDatabases = Callable[[str], dict[str, str]]


@pytest.fixture
def databases(request: pytest.FixtureRequest, tmp_path: Path, worker_name: str) -> MakeDatabases:
    """Makes two empty databases for a driver."""

    def make(driver: str) -> dict[str, str]:
        names = [f"patterns_{worker_name}_{next(_numbers)}" for _ in range(2)]
        if driver == "sqlite3":
            found = [str(tmp_path / f"{name}.sqlite") for name in names]
        elif driver.startswith("psycopg"):
            found = _on_postgresql(request.getfixturevalue("postgresql_server"), names)
        else:
            found = _on_mariadb(request.getfixturevalue("mariadb_server"), names)
        return dict(zip(("default", "other"), found, strict=True))

    return make


def _on_postgresql(server: str, names: list[str]) -> list[str]:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
    return [f"{server}/{name}" for name in names]


def _on_mariadb(server: str, names: list[str]) -> list[str]:
    url = sa.make_url(server)
    with (
        pymysql.connect(
            host=url.host or "", port=url.port or 0, user=url.username, password=url.password or ""
        ) as connection,
        connection.cursor() as cursor,
    ):
        for name in names:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return [f"{server}/{name}" for name in names]


def run(order: Order) -> list[str]:
    """Let a process of its own run patterns, and a crowd; return what was not expected."""
    lines = told_by_child(order)
    crowd = [lines.pop()] if order.crowd else []
    assert [name for name, _ in lines] == [str(variant) for variant in order.variants]
    assert all(list(verdicts) == list(order.only or PATTERNS) for _, verdicts in lines)
    found = [
        surprise
        for variant, (_, verdicts) in zip(order.variants, lines, strict=True)
        for surprise in surprises(variant, verdicts)
    ]
    return found + [f"{name}: {problem}" for name, problems in crowd for problem in problems]


def told_by_child(order: Order) -> list[Any]:
    """Let a process of its own do what is ordered; return its lines of JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.django.patterns.child", order.text()],
        cwd=TREE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TREE / "src"), str(TREE)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_page_says_what_the_tests_demand() -> None:
    """It is written by ``python -m tests.django.patterns.table``, and names all patterns."""
    assert table.PAGE.read_text("utf-8") == table.page()
    views = Path(table.__file__).with_name("views.py").read_text("utf-8")
    assert len(PATTERNS) == len(set(PATTERNS)) == views.count("\n@pattern(")


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "only"), FEW)
def test_patterns(variant: Variant, only: tuple[str, ...], databases: MakeDatabases) -> None:
    """
    On each driver, behind each gateway.

    Then batches and plain requests at the same time: what is stored is what the answers say.
    """
    assert run(Order((variant,), databases(variant.driver), only, crowd=True)) == []


@pytest.mark.prove
def test_all_configurations(databases: MakeDatabases) -> None:
    """All drivers behind all gateways, with all options."""
    orders = [
        Order(
            tuple(one for one in variants_of(driver) if one.gateway == gateway), databases(driver)
        )
        for driver in DRIVERS
        if driver != "mysqlclient" or WITH_MYSQLCLIENT
        for gateway in GATEWAYS
    ]
    with ThreadPoolExecutor(os.cpu_count()) as processes:
        assert list(itertools.chain(*processes.map(run, orders))) == []
