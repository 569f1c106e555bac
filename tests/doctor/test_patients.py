"""WSGI apps: each call runs in a thread without an event loop, and is undone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from atomicbatch.doctor import DoctorError, Verdict, examine
from tests.doctor.conftest import by_operation

SAFE, WARNING, UNSAFE = Verdict.SAFE, Verdict.WARNING, Verdict.UNSAFE
NOT_JUDGED = Verdict.NOT_JUDGED
_APP = """
import socket, sqlite3, threading
import flask, peewee
import sqlalchemy as sa
from atomicbatch import on_commit
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from werkzeug.middleware.proxy_fix import ProxyFix

app = flask.Flask(__name__)
engine = sa.create_engine("sqlite:///shop.sqlite")
database = peewee.SqliteDatabase("shop.sqlite")
deferred = []

def by_engine(text):
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO item VALUES (:text)"), {"text": text})

def by_driver(text):
    with sqlite3.connect("shop.sqlite") as connection:
        connection.execute("INSERT INTO item VALUES (?)", (text,))
    connection.close()

@app.post("/engine")
def engine_only():
    by_engine("engine")
    return "", 201

@app.post("/driver")
def driver_only():
    by_driver("driver")
    on_commit(deferred.append, "driver")
    return "", 201

@app.post("/peewee")
def with_peewee():
    with database.connection_context(), database.atomic():
        database.execute_sql("INSERT INTO item VALUES ('peewee')")
    return "", 201

@app.post("/both")
def both():
    by_engine("both")
    by_driver("both")
    return "", 201

@app.get("/items/<int:number>")
def read(number):
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT * FROM item")).scalars().all()

@app.delete("/items/<name>")
def remove(name):
    return "", 404

@app.post("/outward")
def outward():
    socket.create_connection(("192.0.2.7", 443))

@app.post("/raises")
def raises():
    by_driver("raises")
    raise RuntimeError("boom")

@app.post("/streams")
def streams():
    def rows():
        by_driver("streams")
        yield "one row"
        socket.create_connection(("192.0.2.7", 443))
    return flask.Response(rows())

@app.post("/thread")
def thread():
    one = threading.Thread(target=by_driver, args=("thread",))
    one.start()
    one.join()
    return "", 201

wrapped = ProxyFix(AtomicBatch(app.wsgi_app, transaction=DriverTransaction()))
engines_only = flask.Flask("engines_only")
engines_only.add_url_rule("/driver", view_func=driver_only, methods=["POST"])
engines_only.add_url_rule("/engine", view_func=engine_only, methods=["POST"])
engines_only.wsgi_app = AtomicBatch(engines_only.wsgi_app, transaction=SQLAlchemyTransaction())
names = AtomicBatch(app.wsgi_app, transaction=SQLAlchemyTransaction(outside=("sqlite3",)))
"""
_CALLS = ("engine", "driver", "peewee", "both", "outward", "raises", "streams", "thread")


class Shop:
    """The app in the current folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def examine(self, app: str, *paths: str) -> dict[str, tuple[Verdict, list[str]]]:
        calls = self.folder / "calls.http"
        calls.write_text("\n###\n".join(f"POST /{path}" for path in paths))
        found = by_operation(
            examine(f"{self.name}:{app}", http_file=calls if paths else None, headers={})
        )
        assert self.stored() == ["before"]
        return found

    def stored(self) -> list[str]:
        """What a connection of our own finds."""
        with closing(sqlite3.connect(self.folder / "shop.sqlite")) as connection:
            return [row[0] for row in connection.execute("SELECT * FROM item")]


@pytest.fixture
def shop(tmp_path: Path, write_app: Callable[[str], str]) -> Shop:
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name); INSERT INTO item VALUES ('before')")
    return Shop(tmp_path, write_app(_APP))


@pytest.mark.parametrize("app", ["app", "app.wsgi_app", "wrapped"])
def test_a_flask_app(app: str, shop: Shop) -> None:
    """With and without batches of its own; whatever library it uses takes part."""
    found = shop.examine(app, *_CALLS)
    for path in ("engine", "driver", "peewee", "both", "thread"):
        assert found[f"POST /{path}"] == (SAFE, []), path
    talks = "talks to 192.0.2.7:443 (refused here, see --allow); a rollback does not undo that"
    assert found["POST /outward"] == found["POST /streams"] == (UNSAFE, [talks])
    assert found["POST /raises"] == (NOT_JUDGED, ["raised RuntimeError: boom"])


def test_what_is_deferred_does_not_run(shop: Shop) -> None:
    """It is for after COMMIT, which never comes."""
    import importlib

    assert shop.examine("app", "driver") == {"POST /driver": (SAFE, [])}
    assert importlib.import_module(shop.name).deferred == []


def test_batches_for_engines_alone(shop: Shop) -> None:
    """What a driver writes is refused, as the app's own batches would refuse it."""
    found = shop.examine("engines_only", "engine", "driver")
    assert found["POST /engine"] == (SAFE, [])
    verdict, (reason,) = found["POST /driver"]
    assert verdict is UNSAFE
    assert reason.startswith("a handler writes (INSERT) to shop.sqlite by sqlite3, at ")


def test_what_batches_for_engines_leave_alone(shop: Shop) -> None:
    """It is not written here, and the app's batches would let it be."""
    found = shop.examine("names", "driver")
    note = "note: writes to shop.sqlite by sqlite3 (refused here), which is outside of batches, and"
    verdict, (raised, told) = found["POST /driver"]
    assert (verdict, told) == (NOT_JUDGED, f"{note} would stay")
    assert raised.startswith("raised PermissionError: the examination does not let a handler write")


def test_the_routes_of_an_app_without_a_document(shop: Shop) -> None:
    """Its GETs are tried. Which body a POST takes is not known."""
    found = shop.examine("app")
    assert found["GET /items/<int:number>"] == (SAFE, [])
    verdict, (reason,) = found["DELETE /items/<name>"]
    assert (verdict, reason.partition(":")[0]) == (NOT_JUDGED, "answered 404 Not Found")
    unknown = "its route does not tell which body it takes: put a call for it into an .http file "
    assert found["POST /both"] == (NOT_JUDGED, [unknown + "(--http)"])


_DOCUMENT = """
import flask, sqlite3

app = flask.Flask(__name__)

@app.post("/items")
def add():
    name = flask.request.json["name"]
    with sqlite3.connect("shop.sqlite") as connection:
        connection.execute("INSERT INTO item VALUES (?)", (name,))
    connection.close()
    return {}, 201

@app.get("/docs/<version>")
def document(version):
    if flask.request.headers.get("X-Key") != "secret":
        flask.abort(401)
    name = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    body = {"content": {"application/json": {"schema": name}}}
    return {"openapi": "3.1.0", "paths": {"/items": {"post": {"requestBody": body}}}}

app.add_url_rule("/api/openapi.json", view_func=lambda: document("1"))

def plain(environ, start_response):
    start_response("404 Not Found", [])
    return []
"""


def test_a_document(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """At a path that looks like one, or that is named; the headers are sent for it as well."""
    shop = Shop(tmp_path, write_app(_DOCUMENT))
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name); INSERT INTO item VALUES ('before')")
    headers = {"X-Key": "secret"}
    for document in (None, "/docs/2"):
        examination = examine(f"{shop.name}:app", headers=headers, document=document)
        assert by_operation(examination) == {"POST /items": (SAFE, [])}
    assert shop.stored() == ["before"]
    with pytest.raises(DoctorError, match=r"no OpenAPI document \(/docs/2\): .*--openapi.*--http"):
        examine(f"{shop.name}:app", document="/docs/2")
    with pytest.raises(DoctorError, match=r"no OpenAPI document \(/openapi\.json, /schema"):
        examine(f"{shop.name}:plain")


_QUART = """
import aiosqlite
from quart import Quart

app = Quart(__name__)

@app.get("/items/<name>")
async def item(name):
    async with aiosqlite.connect("shop.sqlite") as connection:
        await connection.execute("INSERT INTO item VALUES (?)", (name,))
        await connection.commit()
    return {}

@app.post("/items")
async def add():
    return {}
"""


def test_a_quart_app(write_app: Callable[[str], str], tmp_path: Path) -> None:
    """It has routes as Flask has them."""
    shop = Shop(tmp_path, write_app(_QUART))
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        connection.executescript("CREATE TABLE item (name); INSERT INTO item VALUES ('before')")
    found = shop.examine("app")
    assert found["GET /items/<name>"] == (SAFE, [])
    assert found["POST /items"][0] is NOT_JUDGED


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("example", "calls", "database"),
    [
        ("flask-shop", "order.http", "shop.sqlite"),
        ("tortoise-stock", "move.http", "stock.sqlite"),
        ("sqlite-notes", "notes.http", "notes.sqlite"),
        ("litestar-notes", "notes.http", "notes.sqlite"),
        ("quart-todo", "week.http", "todo.sqlite"),
    ],
)
def test_the_examples(
    example: str, calls: str, database: str, write_app: Callable[[str], str], tmp_path: Path
) -> None:
    """Flask, Tortoise, peewee beside sqlite3, Litestar and Quart: nothing is unsafe, or stored."""
    name = write_app((EXAMPLES / example / "app.py").read_text())
    examination = examine(f"{name}:app", http_file=EXAMPLES / example / calls)
    verdicts = {finding.verdict for finding in examination.findings}
    assert SAFE in verdicts
    assert verdicts <= {SAFE, NOT_JUDGED}
    (file,) = tmp_path.rglob(database)
    with closing(sqlite3.connect(file)) as connection:
        tables = [*connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert tables
        for (table,) in tables:
            assert connection.execute(f'SELECT count(*) FROM "{table}"').fetchone() == (0,), table
