"""
Batches of a WSGI app whose threads are gevent's greenlets.

``python -m tests.beside.under_gevent SQLITE MARIADB`` runs batches, many at once, on two databases
with a table ``t``, and prints, as JSON, the names in those that were committed.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import random  # noqa: E402
import sqlite3  # noqa: E402
import sys  # noqa: E402
from contextlib import closing  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
import pymysql  # noqa: E402
from flask import Flask, Response, abort, request  # noqa: E402
from gevent.pool import Pool  # noqa: E402

from atomicbatch.transactions import DriverTransaction  # noqa: E402
from atomicbatch.wsgi import AtomicBatch  # noqa: E402
from tests.endpoints.asking import call  # noqa: E402
from tests.wsgi.asking import ask  # noqa: E402

BATCHES = 24


def _app(path: str, url: str) -> Any:
    app = Flask(__name__)
    parts = urlsplit(url)

    @app.post("/sqlite")
    def on_sqlite() -> str:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            connection.execute("INSERT INTO t (name) VALUES (?)", (request.args["name"],))
        gevent.sleep(0)
        return "done"

    @app.post("/mariadb")
    def on_mariadb() -> str:
        with closing(
            pymysql.connect(
                host=parts.hostname or "",
                port=parts.port or 0,
                user=parts.username,
                password=parts.password or "",
                database=parts.path.strip("/"),
            )
        ) as connection:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO t (name) VALUES (%s)", (request.args["name"],))
            connection.commit()
        gevent.sleep(0)
        return "done"

    @app.post("/fail")
    def fail() -> Response:
        abort(409)

    return app


def main(path: str, url: str) -> None:
    """Run all batches, and print which names are to be there."""
    app = AtomicBatch(_app(path, url), transaction=DriverTransaction())
    chance = random.Random(7)

    def run(job: tuple[str, int, bool]) -> list[str]:
        kind, number, fails = job
        names = [f"{kind}-{number}-{index}" for index in range(3)]
        calls = [call("POST", f"/{kind}?name={name}") for name in names]
        answer = ask(app, *calls, *([call("POST", "/fail")] if fails else []))
        assert answer.outcome.startswith("rolled-back; failed=4" if fails else "committed"), answer
        return [] if fails else names

    jobs = [
        (kind, number, chance.random() < 0.5)
        for number in range(BATCHES)
        for kind in ("sqlite", "mariadb")
    ]
    stored = Pool(12).map(run, jobs)
    print(json.dumps(sorted(name for names in stored for name in names)))


if __name__ == "__main__":
    main(*sys.argv[1:])
