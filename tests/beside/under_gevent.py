"""
Batches of a WSGI app whose threads are gevent's greenlets.

``python -m tests.beside.under_gevent MODE SQLITE POSTGRESQL MARIADB`` runs batches and plain
requests, many at once, on databases with a table ``t`` and a table ``n`` of one row, whose number
everybody raises. It prints, as JSON, for each way what became of them: which names are to be there,
and what batches were refused with. MODE: ``green``: psycopg2 waits for others (psycogreen);
``blocking``: it does not; ``late``: gevent comes after atomicbatch; ``half``: without threads;
``untracked``: gevent does not note who starts a greenlet.
"""

import os
import sys

MODE = sys.argv[1]
if MODE == "untracked":
    os.environ["GEVENT_TRACK_GREENLET_TREE"] = "false"
if MODE == "late":
    import atomicbatch.transactions  # noqa: F401

from gevent import monkey  # noqa: E402

monkey.patch_all(thread=MODE != "half")
if MODE == "green":
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()

import json  # noqa: E402
import random  # noqa: E402
import sqlite3  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import closing  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
import psycopg  # noqa: E402
import psycopg2  # noqa: E402
import pymysql  # noqa: E402
from flask import Flask, Response, abort, request  # noqa: E402
from gevent.pool import Pool  # noqa: E402

from atomicbatch.transactions import DriverTransaction  # noqa: E402
from atomicbatch.wsgi import AtomicBatch  # noqa: E402
from tests.endpoints.asking import call  # noqa: E402
from tests.wsgi.asking import ask, environ_of, serve  # noqa: E402

SQLITE, POSTGRESQL, MARIADB = sys.argv[2:]
JOBS = 9
ENDS = ("plain", "commits", "fails")
WAYS = {
    "green": (
        *("sqlite3", "psycopg", "psycopg2", "pymysql"),
        *("psycopg-engine", "psycopg2-engine", "pymysql-engine"),
    ),
    "blocking": (
        *("psycopg2", "mysqlclient"),
        *("sqlite-engine", "psycopg2-engine", "mysqlclient-engine"),
    ),
    "late": ("sqlite3", "psycopg"),
    "half": ("sqlite3", "psycopg"),
    "untracked": ("sqlite3", "psycopg"),
}


def _mysqlclient(**options: Any) -> Any:
    import MySQLdb

    return MySQLdb.connect(**options)


def _on_mariadb(connect: Callable[..., Any]) -> Any:
    parts = urlsplit(MARIADB)
    return connect(
        host=parts.hostname or "",
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path.strip("/"),
    )


DRIVERS: dict[str, Callable[[], Any]] = {
    "sqlite3": lambda: sqlite3.connect(SQLITE, timeout=30),
    "psycopg": lambda: psycopg.connect(POSTGRESQL),
    "psycopg2": lambda: psycopg2.connect(POSTGRESQL),
    "pymysql": lambda: _on_mariadb(pymysql.connect),
    "mysqlclient": lambda: _on_mariadb(_mysqlclient),
}
ENGINES = {
    "sqlite-engine": f"sqlite:///{SQLITE}",
    "psycopg-engine": POSTGRESQL.replace(":", "+psycopg:", 1),
    "psycopg2-engine": POSTGRESQL.replace(":", "+psycopg2:", 1),
    "pymysql-engine": MARIADB.replace("mysql:", "mysql+pymysql:", 1),
    "mysqlclient-engine": MARIADB.replace("mysql:", "mysql+mysqldb:", 1),
}


def _work(way: str, connection: Any, name: str) -> None:
    cursor = connection.cursor()
    mark = "?" if way.startswith("sqlite") else "%s"
    cursor.execute(f"INSERT INTO t (name) VALUES ({mark})", (name,))
    cursor.execute("UPDATE n SET n = n + 1")
    connection.commit()


def _app(way: str) -> Any:
    app = Flask(__name__)
    transaction: Any = DriverTransaction()
    connect: Callable[[], Any] | None = DRIVERS.get(way)
    if connect is None:
        import sqlalchemy as sa

        from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

        transaction = SQLAlchemyTransaction()
        connect = sa.create_engine(ENGINES[way], pool_size=20).raw_connection

    @app.post("/write")
    def write() -> str:
        with closing(connect()) as connection:
            _work(way, connection, request.args["name"])
        # Whoever runs now wants the row that the batch has locked.
        gevent.sleep(0.001)
        return "done"

    @app.post("/fail")
    def fail() -> Response:
        abort(409)

    return AtomicBatch(app, transaction=transaction)


def tried(way: str) -> dict[str, Any]:
    """What becomes of a crowd."""
    app, chance = _app(way), random.Random(7)
    refused: set[str] = set()

    def run(job: tuple[int, str]) -> list[str]:
        number, ends = job
        if ends == "plain":
            name = f"{way}-{number}"
            answer = serve(app, environ_of("/write", query=f"name={name}".encode())).answer
            return [name] if answer.status == 200 else [f"{name} {answer.status}"]
        names = [f"{way}-{number}-{index}" for index in range(3)]
        calls = [call("POST", f"/write?name={name}") for name in names]
        answer = ask(app, *calls, *([call("POST", "/fail")] if ends == "fails" else []))
        if answer.outcome == "committed":
            return names
        if not answer.outcome.startswith("rolled-back; failed=4; status=409"):
            refused.add(answer.body.decode())
        return []

    ends = [*ENDS, *chance.choices(ENDS, k=JOBS - len(ENDS))]
    stored = Pool(8).map(run, list(enumerate(ends)))
    return {"stored": [name for names in stored for name in names], "refused": sorted(refused)}


def main() -> None:
    """Run all ways, and print what they came to."""
    print(json.dumps({way: tried(way) for way in WAYS[MODE]}))


if __name__ == "__main__":
    main()
