"""
The app under test: a Flask app on one SQLite file, and the adapter that its handlers join.

As a module it can be served: ``SHOP_DB=file SHOP_FORM=outermost gunicorn tests.wsgi.shop:app``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, jsonify, redirect, request, send_file
from flask.typing import ResponseReturnValue
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response as Plain

from atomicbatch import Batch, Call, ConflictError, Headers, Limits
from atomicbatch.codings import encode
from atomicbatch.engine import Replay
from atomicbatch.transactions.contract import commit_error, statement_error
from atomicbatch.wire.batch import write_batch
from atomicbatch.wsgi import AtomicBatch
from tests.endpoints.asking import Answer
from tests.wsgi.asking import ask, environ_of, serve

SCHEMA = """
CREATE TABLE item (name TEXT PRIMARY KEY);
CREATE TABLE part (of TEXT REFERENCES item (name) DEFERRABLE INITIALLY DEFERRED);
"""
_joined: ContextVar[sqlite3.Connection | None] = ContextVar("wsgi_shop_connection", default=None)
_word: ContextVar[str] = ContextVar("wsgi_shop_word", default="none")


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


class ShopTransaction:
    """
    A small adapter: one SQLite connection for the length of a batch.

    It meets as many conflicts as it is told to, at COMMIT.
    """

    def __init__(self, path: str, conflicts: int = 0) -> None:
        self.path = path
        self.open = 0
        self.conflicts = conflicts

    @contextmanager
    def begin(self, batch: Batch, *, deadline: float) -> Iterator[sqlite3.Connection]:
        connection = connect(self.path)
        self.open += 1
        try:
            connection.execute("PRAGMA busy_timeout=50")
            _run(connection, "BEGIN IMMEDIATE")
            token = _joined.set(connection)
            try:
                yield connection
                if self.conflicts:
                    self.conflicts -= 1
                    raise ConflictError("in the way")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                conflict = statement_error(error)
                if conflict is not None:
                    raise conflict from error
                raise
            finally:
                _joined.reset(token)
            _commit(connection)
        finally:
            self.open -= 1
            connection.close()


def _run(connection: sqlite3.Connection, text: str) -> None:
    try:
        connection.execute(text)
    except sqlite3.OperationalError as error:
        raise ConflictError("the database is locked") from error


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise commit_error(error) from error


class Shop:
    """The handlers; ``gate`` holds /hang until a test lets it go."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.hanging = threading.Event()
        self.gate = threading.Event()
        self.log: list[str] = []

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        joined = _joined.get()
        if joined is not None:
            yield joined
            return
        connection = connect(self.path)
        try:
            yield connection
        finally:
            connection.close()

    def add(self, name: str) -> None:
        with self.database() as connection:
            connection.execute("INSERT INTO item VALUES (?)", (name,))

    def names(self) -> list[str]:
        with self.database() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM item ORDER BY name")]

    def items(self) -> ResponseReturnValue:
        if request.method != "POST":
            return jsonify(self.names())
        name = request.get_data(as_text=True)
        try:
            self.add(name)
        except sqlite3.IntegrityError:
            return {"taken": name}, 409
        return {"name": name}, 201, {"location": f"/items/{name}"}

    def part(self) -> ResponseReturnValue:
        with self.database() as connection:
            connection.execute("INSERT INTO part VALUES ('nobody')")
        return "", 201

    def echo(self, rest: str = "") -> ResponseReturnValue:
        environ = request.environ
        return {
            "method": request.method,
            "path": request.path,
            "root_path": request.root_path,
            "scheme": request.scheme,
            "client": [environ.get("REMOTE_ADDR"), int(environ.get("REMOTE_PORT", 0))],
            "server": [environ["SERVER_NAME"], int(environ["SERVER_PORT"])],
            "raw_path": environ.get("RAW_URI", "").partition("?")[0],
            "query": environ["QUERY_STRING"],
            "headers": [(name.lower(), value) for name, value in request.headers.items()],
            "url": request.base_url + ("?" + environ["QUERY_STRING"]) * bool(request.query_string),
            "body": request.get_data().decode("latin-1"),
            "keys": sorted(environ),
        }

    def word(self) -> ResponseReturnValue:
        before = _word.get()
        _word.set(request.args.get("set", "none"))
        seen = getattr(g, "seen", "none")
        g.seen = request.args.get("set", "none")
        return jsonify([before, seen])

    def hang(self) -> ResponseReturnValue:
        self.add("hung")
        self.hanging.set()
        assert self.gate.wait(20)
        return "let go"

    def boom(self) -> ResponseReturnValue:
        self.add("boom")
        raise RuntimeError("the secret of the shop")

    def stream(self) -> ResponseReturnValue:
        def chunks(torn: bool) -> Iterator[bytes]:
            for number in range(3):
                self.add(f"streamed-{number}")
                yield b"chunk%d;" % number
            if torn:
                raise RuntimeError("torn")

        return Response(chunks("break" in request.args))

    def endless(self) -> ResponseReturnValue:
        def chunks() -> Iterator[bytes]:
            self.add("endless")
            try:
                while True:
                    self.log.append("chunk")
                    yield bytes(1000)
            finally:
                self.log.append("stopped")

        return Response(chunks())

    def file(self) -> ResponseReturnValue:
        return send_file(__file__)

    def answer(self) -> ResponseReturnValue:
        """Answers what the query says."""
        response = Response(request.args.get("body", ""), int(request.args["status"]))
        for name, value in request.args.items(multi=True):
            if name not in ("status", "body"):
                response.headers.add(name, value)
        return response

    def redirect(self) -> ResponseReturnValue:
        return redirect("/items", 307)

    def late(self) -> ResponseReturnValue:
        """Fails after its response is complete, as a session that is closed last may."""
        self.add("late")
        response = Response("fine", 201)
        response.call_on_close(self._fail)
        return response

    def _fail(self) -> None:
        raise RuntimeError("COMMIT failed when the response was closed")

    def app(self) -> Flask:
        app = Flask("shop")
        both = ["GET", "POST"]
        app.add_url_rule("/items", view_func=self.items, methods=both)
        app.add_url_rule("/part", view_func=self.part, methods=["POST"])
        app.add_url_rule("/echo", view_func=self.echo, methods=["GET", "POST", "BREW"])
        app.add_url_rule("/echo/<path:rest>", view_func=self.echo, methods=both)
        app.add_url_rule("/answer", view_func=self.answer, methods=both)
        for view in (self.word, self.hang, self.boom, self.stream, self.endless, self.file):
            app.add_url_rule(f"/{view.__name__}", view_func=view)
        app.add_url_rule("/redirect", view_func=self.redirect)
        app.add_url_rule("/late", view_func=self.late)
        app.add_url_rule("/admin", view_func=lambda: "the vault", endpoint="admin")
        return app


def guard(app: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A middleware of the app's own that checks the path."""
    if environ["PATH_INFO"].endswith("/admin"):
        return Plain("no entry", 403)(environ, start_response)
    pieces: Iterable[bytes] = app(environ, start_response)
    return pieces


class Made:
    """An app in one of its forms, with what tests want to look at."""

    def __init__(self, form: str, database: str, *, conflicts: int = 0, **options: Any) -> None:
        if not Path(database).exists():
            connection = sqlite3.connect(database)
            connection.executescript("PRAGMA journal_mode=WAL;" + SCHEMA)
            connection.close()
        self.database = database
        self.shop = Shop(database)
        self.transaction = ShopTransaction(database, conflicts)
        self.prefix = "/api" if form == "mounted" else ""
        batch: dict[str, Any] = {
            "transaction": self.transaction,
            "limits": Limits(timeout_seconds=20),
            "replay": Replay(base_seconds=0.001),
        } | options
        flask: Any = self.shop.app()
        flask.wsgi_app = partial(guard, flask.wsgi_app)
        flask.wsgi_app = AtomicBatch(flask.wsgi_app, **batch)
        self.flask: Flask = flask
        if form == "outermost":
            self.app: Any = flask
        elif form == "mounted":
            self.app = DispatcherMiddleware(Plain("nothing here", 404), {"/api": flask})
        else:
            raise ValueError(form)

    @property
    def log(self) -> list[str]:
        """What handlers have written down."""
        return self.shop.log

    def ask(
        self,
        *calls: Call,
        headers: Headers = (),
        path: str | None = None,
        body: bytes | None = None,
        coding: str | None = None,
        **environ: Any,
    ) -> Answer:
        """Send a batch and wait for its answer; see tests/endpoints/asking.py."""
        if body is None:
            content_type, body = write_batch(calls)
            headers = ((b"content-type", content_type), *headers)
        if coding is not None:
            headers, body = (*headers, (b"content-encoding", coding.encode())), encode(body, coding)
        path = self.prefix + "/v1/api/batch" if path is None else path
        return serve(self.app, environ_of(path, headers, body, **environ)).answer

    def ask_plainly(self, target: str) -> Answer:
        """Send one request that is no batch."""
        method, path, *body = target.split(" ")
        environ = environ_of(self.prefix + path, (), " ".join(body).encode(), method=method)
        return serve(self.app, environ).answer

    def ask_together(self, *batches: Sequence[Call]) -> list[Answer]:
        """Send batches at the same time."""
        with ThreadPoolExecutor(len(batches)) as pool:
            return list(pool.map(lambda calls: ask(self.app, *calls), batches))

    def endpoint(self, **options: Any) -> Made:
        """Put another endpoint in front of the same app."""
        made = copy(self)
        made.app = AtomicBatch(self.app, **{"transaction": self.transaction, **options})
        return made

    def rows(self) -> list[str]:
        """What a connection of its own sees."""
        connection = sqlite3.connect(self.database)
        try:
            return [row[0] for row in connection.execute("SELECT name FROM item ORDER BY name")]
        finally:
            connection.close()


if "SHOP_DB" in os.environ:
    app = Made(os.environ.get("SHOP_FORM", "outermost"), os.environ["SHOP_DB"]).app
