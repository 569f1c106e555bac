"""One batch by SQLAlchemy's engines and by drivers, or libraries on them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import peewee
import psycopg
import psycopg2
import pymysql
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from flask import Flask
from pymysql.constants import CLIENT
from sqlalchemy.ext.asyncio import create_async_engine

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch as WSGIBatch
from tests.asgi.asking import Answer, ask, call
from tests.databases import DIALECT
from tests.transactions.drivers.files import File
from tests.transactions.sqlalchemy.worlds import Database

INSERT = "INSERT INTO item (name) VALUES ('{}')"
COUNT = "SELECT count(*) FROM item"
Act = Callable[[], Any]


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "shop.sqlite")


def both(**options: Any) -> list[Any]:
    return [SQLAlchemyTransaction(**options), DriverTransaction()]


def app_of(**acts: Act) -> FastAPI:
    """An app with a path for each act, and one that fails."""
    app = FastAPI()
    for name, act in acts.items():
        app.post(f"/{name}")(act)

    @app.post("/fail")
    async def fail() -> None:
        raise HTTPException(409)

    return app


def send(app: Any, *names: str) -> Answer:
    return asyncio.run(ask(app, *(call("POST", f"/{name}") for name in names)))


class Shop:
    """One SQLite file, written by an engine, by sqlite3 and by peewee."""

    def __init__(self, file: File) -> None:
        self.engine = sa.create_engine(f"sqlite:///{file.path}")
        self.async_engine = create_async_engine(f"sqlite+aiosqlite:///{file.path}")
        self.peewee = peewee.SqliteDatabase(file.path)
        self._path = file.path

    def by_engine(self) -> int:
        with self.engine.begin() as connection:
            connection.execute(sa.text(INSERT.format("engine")))
            return int(connection.execute(sa.text(COUNT)).scalar_one())

    async def by_async_engine(self) -> int:
        async with self.async_engine.begin() as connection:
            await connection.execute(sa.text(INSERT.format("async engine")))
            return int((await connection.execute(sa.text(COUNT))).scalar_one())

    def by_sqlite3(self) -> int:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute(INSERT.format("sqlite3"))
            return int(connection.execute(COUNT).fetchone()[0])

    async def by_aiosqlite(self) -> int:
        async with aiosqlite.connect(self._path) as connection:
            await connection.execute(INSERT.format("aiosqlite"))
            await connection.commit()
            return int(next(iter(await connection.execute_fetchall(COUNT)))[0])

    def by_peewee(self) -> int:
        with self.peewee.connection_context(), self.peewee.atomic():
            execute: Any = self.peewee.execute_sql
            execute(INSERT.format("peewee"))
            return int(execute(COUNT).fetchone()[0])

    def acts(self) -> dict[str, Act]:
        names = ("engine", "async_engine", "sqlite3", "aiosqlite", "peewee")
        return {name: getattr(self, f"by_{name}") for name in names}


ORDERS = [
    ("engine", "sqlite3", "peewee", "aiosqlite", "async_engine"),
    ("async_engine", "peewee", "aiosqlite", "engine", "sqlite3"),
    ("sqlite3", "engine"),
    ("aiosqlite", "async_engine"),
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_all_or_nothing(order: tuple[str, ...], file: File) -> None:
    """Each sees what was written before it, whoever is first; all is stored, or nothing."""
    app = AtomicBatch(app_of(**Shop(file).acts()), transaction=both())
    answer = send(app, *order, "fail")
    assert answer.outcome.startswith("rolled-back"), answer.body
    assert len(file.rows()) == 2
    answer = send(app, *order)
    assert answer.outcome == "committed", answer.body
    counts = [int(reply.body) for reply in answer.replies]
    assert counts == list(range(3, 3 + len(order)))
    assert len(file.rows()) == 2 + len(order)


def test_the_adapters_in_either_order(file: File) -> None:
    """Which adapter is named first makes no difference."""
    app = AtomicBatch(app_of(**Shop(file).acts()), transaction=both()[::-1])
    assert send(app, "engine", "sqlite3", "fail").outcome.startswith("rolled-back")
    assert len(file.rows()) == 2


def test_wsgi(file: File) -> None:
    """WSGI apps as well; an async engine there is refused."""
    shop, flask = Shop(file), Flask("shop")
    for name in ("engine", "sqlite3", "peewee"):
        act = getattr(shop, f"by_{name}")
        flask.add_url_rule(f"/{name}", name, lambda act=act: str(act()), methods=["POST"])
    flask.add_url_rule(
        "/async", "async", lambda: str(asyncio.run(shop.by_async_engine())), methods=["POST"]
    )
    app: Any = flask
    app.wsgi_app = WSGIBatch(flask.wsgi_app, transaction=both())

    def batch(*names: str) -> Any:
        lines = [
            f"--b\r\nContent-Type: application/http\r\n\r\nPOST /{n} HTTP/1.1\r\n\r\n\r\n"
            for n in names
        ]
        return flask.test_client().post(
            "/v1/api/batch",
            data="".join(lines) + "--b--\r\n",
            content_type="multipart/mixed; boundary=b",
        )

    assert batch("engine", "sqlite3", "peewee").headers["Batch-Outcome"] == "committed"
    assert len(file.rows()) == 5
    assert "async engine" in batch("async").get_data(as_text=True)
    assert batch("engine", "nowhere").headers["Batch-Outcome"].startswith("rolled-back")
    assert len(file.rows()) == 5


def test_an_engine_that_is_outside(file: File, tmp_path: Path) -> None:
    """What goes through it is stored at once, and stays; so does what a driver writes by name."""
    other = File(tmp_path / "audit.sqlite")
    shop, audit = Shop(file), Shop(other)
    transaction: list[Any] = [
        SQLAlchemyTransaction(outside=(audit.engine, audit.async_engine)),
        DriverTransaction(outside=(other.path,)),
    ]
    app = app_of(
        **shop.acts(), log=audit.by_engine, log_async=audit.by_async_engine, note=audit.by_peewee
    )
    answer = send(
        AtomicBatch(app, transaction=transaction), "engine", "log", "log_async", "note", "fail"
    )
    assert answer.outcome == "rolled-back; failed=5; status=409", answer.body
    assert (len(file.rows()), len(other.rows())) == (2, 5)


def test_only_the_engines_that_are_named(file: File) -> None:
    """Another engine is refused; drivers, which have no names, are not."""
    shop = Shop(file)
    transaction: list[Any] = [SQLAlchemyTransaction(shop.engine), DriverTransaction()]
    app = AtomicBatch(app_of(**shop.acts()), transaction=transaction)
    assert send(app, "engine", "sqlite3").outcome == "committed"
    answer = send(app, "async_engine")
    assert answer.outcome.startswith("rolled-back; failed=1; status=501")
    assert b"was not given" in answer.body


def test_a_session_from_before_the_batch(file: File) -> None:
    """One whose transaction is open is refused; one that is at rest takes part."""
    shop = Shop(file)
    connection = shop.engine.connect()

    def write() -> str:
        connection.execute(sa.text(INSERT.format("kept")))
        connection.commit()
        return "done"

    app = AtomicBatch(app_of(write=write, **shop.acts()), transaction=both())
    with closing(connection):
        connection.execute(sa.text(INSERT.format("open")))
        answer = send(app, "write")
        assert answer.outcome.startswith("rolled-back; failed=1; status=501"), answer.body
        connection.rollback()
        assert send(app, "write", "engine", "fail").outcome.startswith("rolled-back")
        assert len(file.rows()) == 2
        assert send(app, "write", "engine").outcome == "committed"
        assert len(file.rows()) == 4


def test_options_that_contradict_each_other() -> None:
    """Two isolation levels are a mistake."""
    with pytest.raises(ValueError, match="isolation_level"):
        AtomicBatch(
            app_of(),
            transaction=[
                SQLAlchemyTransaction(isolation_level="SERIALIZABLE"),
                DriverTransaction(isolation_level="READ COMMITTED"),
            ],
        )


# Servers -----------------------------------------------------------------------------------------


def by_engine(url: sa.URL, **options: Any) -> Act:
    """What an engine of a driver inserts, sync or async."""
    if url.drivername.endswith("asyncpg"):
        async_engine = create_async_engine(url, poolclass=sa.NullPool)

        async def act_async() -> int:
            async with async_engine.begin() as connection:
                await connection.execute(sa.text(INSERT.format("engine")))
                return int((await connection.execute(sa.text(COUNT))).scalar_one())

        return act_async
    engine = sa.create_engine(url, poolclass=sa.NullPool, **options)

    def act() -> int:
        with engine.begin() as connection:
            connection.execute(sa.text(INSERT.format("engine")))
            return int(connection.execute(sa.text(COUNT)).scalar_one())

    return act


def by_driver(connect: Callable[[], Any]) -> Act:
    """What a driver inserts."""

    def act() -> int:
        with closing(connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(INSERT.format("driver"))
            cursor.execute(COUNT)
            (count,) = cursor.fetchone()
            connection.commit()
            return int(count)

    return act


def acts_on_postgresql(database: Database) -> dict[str, Act]:
    plain = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    drivers = {"psycopg": psycopg, "psycopg2": psycopg2}
    acts = {f"raw-{name}": by_driver(partial(m.connect, plain)) for name, m in drivers.items()}
    for driver in ("psycopg", "psycopg2", "asyncpg", "pg8000"):
        acts[driver] = by_engine(database.url.set(drivername=f"postgresql+{driver}"))
    return acts


def acts_on_mariadb(database: Database) -> dict[str, Act]:
    url, no_tls = database.url, {"ssl_disabled": True}
    options: dict[str, Any] = {"host": url.host, "port": url.port, "user": url.username}
    options |= {"password": url.password, "database": url.database, **no_tls}
    # As SQLAlchemy's count rows.
    alike = {**options, "client_flag": CLIENT.FOUND_ROWS}
    return {
        "raw-pymysql": by_driver(partial(pymysql.connect, **alike)),
        "pymysql": by_engine(url.set(drivername=f"{DIALECT}+pymysql"), connect_args=no_tls),
    }


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pymysql"])
def test_all_or_nothing_on_a_server(driver: str, databases: Callable[[str], Database]) -> None:
    """An engine and its driver share the transaction, in either order."""
    is_mysql = driver == "pymysql"
    database = databases("mysql" if is_mysql else "postgresql")
    acts = acts_on_mariadb(database) if is_mysql else acts_on_postgresql(database)
    app = AtomicBatch(app_of(**acts), transaction=both())
    for order in ((driver, f"raw-{driver}"), (f"raw-{driver}", driver)):
        database.reset()
        assert send(app, *order, "fail").outcome.startswith("rolled-back")
        assert len(database.rows()) == 2
        answer = send(app, *order)
        assert answer.outcome == "committed", answer.body
        assert [reply.body for reply in answer.replies] == [b"3", b"4"]
        assert len(database.rows()) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [("asyncpg", "raw-psycopg2"), ("psycopg", "raw-psycopg2"), ("pg8000", "raw-psycopg")],
)
def test_two_drivers_on_one_database(
    one: str, other: str, databases: Callable[[str], Database]
) -> None:
    """Whichever is second is refused at its first statement, also if one of them has no door."""
    database = databases("postgresql")
    app = AtomicBatch(app_of(**acts_on_postgresql(database)), transaction=both())
    for first, second in ((one, other), (other, one)):
        answer = send(app, first, second)
        assert answer.outcome.startswith("rolled-back; failed=2; status=501"), answer.body
        assert b"open in this batch by" in answer.replies[1].body
        assert b"use one driver for one database" in answer.replies[1].body
        assert len(database.rows()) == 2


def test_an_engine_whose_driver_has_no_door(
    file: File, databases: Callable[[str], Database]
) -> None:
    """It joins by the door of engines: alone, and beside a database that is only read."""
    database = databases("postgresql")

    def read() -> int:
        with closing(sqlite3.connect(file.path)) as connection:
            return int(connection.execute(COUNT).fetchone()[0])

    acts = {**acts_on_postgresql(database), **Shop(file).acts(), "read": read}
    app = AtomicBatch(app_of(**acts), transaction=both())
    assert send(app, "pg8000", "read", "fail").outcome.startswith("rolled-back")
    assert len(database.rows()) == 2
    answer = send(app, "read", "pg8000", "read")
    assert answer.outcome == "committed", answer.body
    assert len(database.rows()) == 3
    database.reset()
    for order in (("pg8000", "sqlite3"), ("sqlite3", "pg8000")):
        answer = send(app, *order)
        assert answer.outcome.startswith("rolled-back"), answer.body
        assert b"two databases" in answer.body
        assert (len(database.rows()), len(file.rows())) == (2, 2)
