"""
gevent makes greenlets of threads: batches of a WSGI app are whole even so, or refused.

What holds for which driver is a table in docs/how-to/flask.md.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from tests.stores import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stores(
    sqlite_store: Store, postgresql_store: Store, mariadb_store: Store
) -> Iterator[dict[str, Store]]:
    """Each with a table ``n`` of one row as well."""
    parts = urlsplit(mariadb_store.url)
    with (
        closing(sqlite3.connect(sqlite_store.url)) as lite,
        closing(psycopg.connect(postgresql_store.url)) as postgresql,
        closing(
            pymysql.connect(
                host=parts.hostname or "",
                port=parts.port or 0,
                user=parts.username,
                password=parts.password or "",
                database=parts.path.strip("/"),
            )
        ) as mariadb,
    ):
        connections: tuple[Any, ...] = (lite, postgresql, mariadb)
        for connection in connections:
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE n (n INTEGER)")
            cursor.execute("INSERT INTO n VALUES (0)")
            connection.commit()
        yield {"sqlite": sqlite_store, "postgresql": postgresql_store, "mariadb": mariadb_store}
        for connection in connections:
            connection.rollback()
            connection.cursor().execute("DROP TABLE n")
            connection.commit()


def run_program(module: str, *args: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def run(mode: str, stores: dict[str, Store]) -> dict[str, dict[str, list[str]]]:
    urls = [store.url for store in stores.values()]
    return run_program("tests.beside.under_gevent", mode, *urls)


def rows(stores: dict[str, Store]) -> list[str]:
    return sorted(name for store in stores.values() for name in store.rows())


def test_batches_in_greenlets(stores: dict[str, Store]) -> None:
    """What is stored is the union of what was committed, and nobody waits for ever."""
    told = run("green", stores)
    assert [one["refused"] for one in told.values()] == [[]] * 7
    stored = [name for one in told.values() for name in one["stored"]]
    assert all(one["stored"] for one in told.values())
    assert rows(stores) == sorted(stored)


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("late", "gevent.monkey.patch_all() was called after atomicbatch was imported"),
        pytest.param("half", "gevent has patched sockets but not threads", marks=pytest.mark.prove),
        ("untracked", "gevent does not keep track of who starts a greenlet"),
    ],
)
def test_gevent_that_is_not_whole(mode: str, why: str, stores: dict[str, Store]) -> None:
    """Locks would stop all greenlets, or some are not seen: no batch begins; requests go on."""
    told = run(mode, stores)
    for one in told.values():
        assert [why in text for text in one["refused"]] == [True]
    assert rows(stores) == sorted(name for one in told.values() for name in one["stored"])


def test_drivers_that_stop_all_greenlets(stores: dict[str, Store]) -> None:
    """A plain request that waits for a batch would stop that batch: they are refused by name."""
    told = run("blocking", stores)
    wanted = {
        "psycopg2": "psycogreen.gevent.patch_psycopg()",
        "mysqlclient": "use PyMySQL",
        "sqlite-engine": "give DriverTransaction() in place of SQLAlchemyTransaction()",
        "psycopg2-engine": "psycogreen.gevent.patch_psycopg()",
        "mysqlclient-engine": "use PyMySQL",
    }
    assert told.keys() == wanted.keys()
    for way, one in told.items():
        assert one["refused"]
        assert all(wanted[way] in text for text in one["refused"]), way
        assert all("under gevent" in text for text in one["refused"]), way
    assert rows(stores) == sorted(name for one in told.values() for name in one["stored"])


def test_greenlets_that_handlers_start(stores: dict[str, Store]) -> None:
    """They work for the batch, in whatever way they were started; also once it is over."""
    told = run_program("tests.beside.spawning_under_gevent", *(one.url for one in stores.values()))
    batches = {name: end for name, end in told.items() if name.endswith(" ended")}
    drivers = ("sqlite3", "psycopg", "pymysql")
    assert len(batches) == len(drivers) * 14 * 2
    assert batches == {name: how_it_ends(name) for name in batches}
    refused = {name for name, error in told.items() if error == "TransactionError"}
    assert refused == {f"{driver}-outliving-fails" for driver in drivers}
    alone = [name for name, status in told.items() if status == "200"]
    assert len(alone) == len(drivers) * 14
    committed = [name.removesuffix(" ended") for name, end in batches.items() if end == "committed"]
    assert rows(stores) == sorted(alone + committed)
    assert told["trace"] == "None", "it goes with the last greenlet of a batch"


def how_it_ends(name: str) -> str:
    if "-threadpool" in name:
        return "rolled-back; failed=1; status=501"
    return "committed" if "-commits " in name else "rolled-back; failed=2; status=409"
