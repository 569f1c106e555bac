"""One batch by SQLAlchemy's engines and by drivers, or libraries on them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import peewee
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from flask import Flask
from sqlalchemy.ext.asyncio import create_async_engine

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch as WSGIBatch
from tests.asgi.asking import Answer, ask, call
from tests.transactions.drivers.files import File

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
