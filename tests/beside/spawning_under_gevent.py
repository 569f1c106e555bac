"""
Handlers of a WSGI app start greenlets themselves, in each way that gevent has.

``python -m tests.beside.spawning_under_gevent SQLITE POSTGRESQL MARIADB`` calls such handlers
alone, in batches that commit and in batches that fail. A name that is written tells which:
``sqlite3-pool-fails``. It prints, as JSON, what became of them: how each batch ended, and
what greenlets met that outlived their batch.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import sqlite3  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from contextlib import closing  # noqa: E402
from threading import Thread  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
import psycopg  # noqa: E402
import pymysql  # noqa: E402
from gevent.event import AsyncResult, Event  # noqa: E402
from gevent.pool import Group, Pool  # noqa: E402
from gevent.threadpool import ThreadPool  # noqa: E402

from atomicbatch.transactions import DriverTransaction  # noqa: E402
from atomicbatch.wsgi import AtomicBatch  # noqa: E402
from tests.endpoints.asking import call  # noqa: E402
from tests.wsgi.asking import ask, environ_of, serve  # noqa: E402

SQLITE, POSTGRESQL, MARIADB = sys.argv[1:]
Write = Callable[[str], None]
told: dict[str, str] = {}
may_go_on = Event()
left: list[Any] = []
executor = ThreadPoolExecutor(1)


def _mariadb() -> Any:
    parts = urlsplit(MARIADB)
    return pymysql.connect(
        host=parts.hostname or "",
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path.strip("/"),
    )


DRIVERS: dict[str, Callable[[], Any]] = {
    "sqlite3": lambda: sqlite3.connect(SQLITE, timeout=30),
    "psycopg": lambda: psycopg.connect(POSTGRESQL),
    "pymysql": _mariadb,
}


def _write(driver: str, name: str) -> None:
    with closing(DRIVERS[driver]()) as connection:
        mark = "?" if driver == "sqlite3" else "%s"
        connection.cursor().execute(f"INSERT INTO t (name) VALUES ({mark})", (name,))
        connection.commit()


class _Writer(gevent.Greenlet):  # type: ignore[misc]
    def __init__(self, write: Write, name: str) -> None:
        super().__init__()
        self._write, self._name = write, name

    def _run(self) -> None:
        self._write(self._name)


def _start(made: Any) -> None:
    made.start()
    made.get()


def _raw(write: Write, name: str) -> None:
    done: AsyncResult[None] = AsyncResult()

    def act() -> None:
        try:
            write(name)
            done.set()
        except BaseException as error:
            done.set_exception(error)

    gevent.spawn_raw(act)
    done.get()


def _nested(write: Write, name: str) -> None:
    gevent.spawn(lambda: gevent.spawn(write, name).get()).get()


def _in_thread(write: Write, name: str) -> None:
    thread = Thread(target=lambda: gevent.spawn(write, name).get())
    thread.start()
    thread.join()


def _outliving(write: Write, name: str) -> None:
    def act() -> None:
        may_go_on.wait()
        try:
            write(name)
        except Exception as error:
            told[name] = type(error).__name__

    left.append(gevent.spawn_later(0, act))


WAYS: dict[str, Callable[[Write, str], Any]] = {
    "spawn": lambda write, name: gevent.spawn(write, name).get(),
    "later": lambda write, name: gevent.spawn_later(0.001, write, name).get(),
    "raw": _raw,
    "greenlet": lambda write, name: _start(gevent.Greenlet(write, name)),
    "subclass": lambda write, name: _start(_Writer(write, name)),
    "pool": lambda write, name: Pool(1).map(write, [name]),
    "imap": lambda write, name: list(Pool(1).imap_unordered(write, [name])),
    "group": lambda write, name: Group().apply_async(write, (name,)).get(),
    "threadpool": lambda write, name: ThreadPool(1).spawn(write, name).get(),
    "threadpool_imap": lambda write, name: list(ThreadPool(1).imap(write, [name])),
    "nested": _nested,
    "thread": _in_thread,
    "executor": lambda write, name: executor.submit(
        lambda: gevent.spawn(write, name).get()
    ).result(),
    "outliving": _outliving,
}


def _app(driver: str) -> Any:
    def app(environ: Any, start: Any) -> list[bytes]:
        way = environ["PATH_INFO"].strip("/")
        if way in WAYS:
            WAYS[way](lambda name: _write(driver, name), environ["QUERY_STRING"])
        start("409 Conflict" if way == "fail" else "200 OK", [("content-type", "text/plain")])
        return [b"done"]

    return AtomicBatch(app, transaction=DriverTransaction())


def _tried(app: Any, driver: str, way: str, ends: str) -> None:
    name = f"{driver}-{way}-{ends}"
    if ends == "alone":
        told[name] = str(serve(app, environ_of(f"/{way}", query=name.encode())).answer.status)
        return
    last = [call("POST", "/fail")] if ends == "fails" else []
    told[f"{name} ended"] = ask(app, call("POST", f"/{way}?{name}"), *last).outcome


def main() -> None:
    """Run all ways, and print what they came to."""
    logging.disable()
    for driver in DRIVERS:
        app = _app(driver)
        for way in WAYS:
            # Alone comes last: what a batch that failed has left behind must not reach it.
            for ends in ("commits", "fails", "alone"):
                _tried(app, driver, way, ends)
    may_go_on.set()
    gevent.joinall(left)
    left.clear()
    gevent.sleep(0)
    told["trace"] = repr(sys.modules["greenlet"].gettrace())
    print(json.dumps(told))


if __name__ == "__main__":
    main()
