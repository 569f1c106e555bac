"""A project behind real servers: crowds, clients that hang up, workers that are killed."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from atomicbatch.wire.batch import write_batch
from tests.databases import free_port
from tests.django.asking import Project, call_of
from tests.endpoints.asking import Answer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GUNICORN = "gunicorn django.core.wsgi:get_wsgi_application() --bind 127.0.0.1:{port}"
# What takes two seconds is killed; imports of a first request may take longer.
LOADED = "gunicorn tests.django.loaded:application --bind 127.0.0.1:{port} --preload --timeout 2"
UVICORN = "uvicorn --factory django.core.asgi:get_asgi_application --port {port}"
SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    "gunicorn": (
        GUNICORN + " --worker-class gthread --threads 12",
        {"SHOP_CONN_MAX_AGE": "60"},
    ),
    "uvicorn": (UVICORN, {}),
    "uvicorn, sync middleware": (UVICORN, {"SHOP_SYNC_ONLY": "1", "SHOP_CONN_MAX_AGE": "60"}),
}


# What the views of crowds use.
_TABLE = "CREATE TABLE shop_item (id serial PRIMARY KEY, name text UNIQUE, stock integer)"


class Running:
    """
    A server in a process of its own, on a database of its own.

    Args:
        folder: Where its views and the tests leave word.
        database: The path of an SQLite file, or the URL of a PostgreSQL database.
        port: Where it listens, on loopback.
    """

    def __init__(self, folder: Path, database: str, port: int) -> None:
        self.folder = folder
        self.database = database
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40)
        self.port = port

    def post(self, *targets: str) -> Answer:
        """Send a batch."""
        headers, content = _batch(*targets)
        response = self.client.post("/v1/api/batch", content=content, headers=headers)
        return Answer(response.status_code, dict(response.headers), response.content)

    def begin(self, *targets: str) -> socket.socket:
        """Send a batch, and do not wait for its answer."""
        headers, content = _batch(*targets)
        sent = socket.create_connection(("127.0.0.1", self.port))
        head = [
            "POST /v1/api/batch HTTP/1.1",
            "host: shop.example",
            f"content-type: {headers['content-type']}",
            f"content-length: {len(content)}",
        ]
        sent.sendall("\r\n".join([*head, "", ""]).encode() + content)
        return sent

    def rows(self) -> list[str]:
        """What another program sees; it would wait in vain if somebody still had the lock."""
        query = "SELECT name FROM shop_item ORDER BY name"
        if "://" in self.database:
            with psycopg.connect(self.database) as other:
                other.execute("SET lock_timeout = '20s'")
                other.execute("LOCK TABLE shop_item IN ACCESS EXCLUSIVE MODE")
                return [row[0] for row in other.execute(query + ' COLLATE "C"').fetchall()]
        with closing(sqlite3.connect(self.database, timeout=20, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            return [row[0] for row in other.execute(query)]

    def forget(self) -> None:
        """Delete all rows, and what views have said."""
        with closing(sqlite3.connect(self.database, timeout=20)) as other, other:
            other.execute("DELETE FROM shop_item")
        for name in ("hanging", "go on", "cancelled"):
            (self.folder / name).unlink(missing_ok=True)

    def say(self, name: str) -> None:
        """Tell the views something."""
        (self.folder / name).touch()

    def said(self, name: str) -> Callable[[], bool]:
        """Whether a view has said something."""
        return (self.folder / name).exists


def _batch(*targets: str) -> tuple[dict[str, str], bytes]:
    content_type, content = write_batch([call_of(target) for target in targets])
    return {"content-type": content_type.decode()}, content


def _read(sent: socket.socket) -> bytes:
    """All that the server still sends before it closes the connection."""
    with closing(sent):
        try:
            return b"".join(iter(lambda: sent.recv(65536), b""))
        except ConnectionResetError:
            return b""


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, empty: str, command: str, **environment: str) -> Iterator[Running]:
    """Run a server on an empty database, a copy where it is a file, until the block ends."""
    port, database = free_port(), empty
    settings = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "SHOP_SIGNALS": str(folder),
        **environment,
    }
    if "://" in empty:
        settings["SHOP_POSTGRESQL"] = empty
        with psycopg.connect(empty) as other:
            other.execute(_TABLE)
    else:
        database = settings["SHOP_DATABASE"] = str(folder / "shop.sqlite")
        shutil.copy(empty, database)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.format(port=port).split()],
            cwd=ROOT,
            env=settings,
            stdout=log,
            stderr=log,
        )
    running = Running(folder, database, port)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return running.client.get("/items").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "the server answers")
        yield running
    finally:
        running.client.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


# The rest of these and of PostgreSQL's is proved: a crowd meets each server, and each database.
_PROVED = {"gunicorn": [pytest.mark.prove]}


@pytest.fixture(scope="module", params=[pytest.param(s, marks=_PROVED.get(s, ())) for s in SERVERS])
def running(
    request: pytest.FixtureRequest, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    Project("wsgi", database).empty()
    command, environment = SERVERS[request.param]
    with serving(tmp_path_factory.mktemp("shop"), database, command, **environment) as server:
        yield server


def only(name: str) -> pytest.MarkDecorator:
    """Run a test on one of the servers."""
    return pytest.mark.parametrize("running", [name], indirect=True)


def test_a_crowd(running: Running) -> None:
    """36 batches at once, half of which fail: stored is what the committed ones have said."""
    crowd(running)


@pytest.mark.parametrize("server", ["gunicorn", pytest.param("uvicorn", marks=pytest.mark.prove)])
def test_a_crowd_on_postgresql(server: str, tmp_path: Path, postgresql_url: str) -> None:
    """The same; and no session is left in a transaction."""
    command, environment = SERVERS[server]
    with serving(tmp_path, postgresql_url, command, **environment) as running:
        crowd(running)
        with psycopg.connect(postgresql_url) as other:
            left = other.execute(
                "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            assert left.fetchall() == []


def crowd(running: Running) -> None:
    """Send batches and plain requests together; compare what is stored with the answers."""
    before, chance = running.rows(), random.Random(36)
    batches: list[list[str]] = []
    for number in range(36):
        names = [f"{number:02}-{n}" for n in range(chance.randint(1, 4))]
        paths = [chance.choice(["/items", "/async-items", "/class-items"]) for _ in names]
        targets = [f"POST {path} {name}" for path, name in zip(paths, names, strict=True)]
        if chance.random() < 0.5:
            failing = chance.choice(["POST /fail", "GET /nowhere", f"POST /items {names[0]}"])
            targets.insert(chance.randint(1, len(targets)), failing)
        batches.append(targets)

    def plain(number: int) -> int:
        path = f"/{'async-' * (number % 2)}items"
        return running.client.post(path, content=f"plain {number}").status_code

    with ThreadPoolExecutor(36) as threads:
        answers = threads.map(lambda targets: running.post(*targets), batches)
        plains = threads.map(plain, range(12))
        committed = []
        for targets, answer in zip(batches, answers, strict=True):
            if answer.outcome == "committed":
                committed += [target.split(" ")[2] for target in targets]
            else:
                assert answer.outcome.startswith("rolled-back"), answer
        stored = [f"plain {n}" for n, status in enumerate(plains) if status == 201]
    assert len(committed) > 5
    assert running.rows() == sorted([*before, *committed, *stored])


@only("uvicorn")
@pytest.mark.parametrize("view", ["hangs", "sync-hangs"])
def test_a_client_that_hangs_up(running: Running, view: str) -> None:
    """Under ASGI its batch is rolled back, and what a thread does after that is not stored."""
    running.forget()
    sent = running.begin("POST /items pen", f"GET /odd/{view}", "POST /items ink")
    wait_until(running.said("hanging"), "the view is there")
    sent.close()
    if view == "hangs":
        wait_until(running.said("cancelled"), "the view is cancelled")
    # Who is answered now has been heard after the client was seen to be gone.
    assert running.client.get("/odd/empty").status_code == 204
    running.say("go on")
    assert running.client.post("/items", content=b"cap").status_code == 201
    assert running.rows() == ["cap"]


@only("uvicorn, sync middleware")
def test_a_client_that_hangs_up_on_sync_code(running: Running) -> None:
    """Below a sync middleware nobody tells the batch; it goes on, and is stored as a whole."""
    running.forget()
    sent = running.begin("POST /items pen", "GET /odd/sync-hangs", "POST /items ink")
    wait_until(running.said("hanging"), "the view is there")
    sent.close()
    running.say("go on")
    wait_until(lambda: running.rows() != [], "the batch is stored")
    assert running.rows() == ["hung", "ink", "pen", "went on"]


def test_a_worker_that_is_killed(tmp_path: Path, database: str) -> None:
    """gunicorn kills a worker that takes too long: nothing of its batch is stored."""
    Project("wsgi", database).empty()
    with serving(tmp_path, database, LOADED) as server:
        sent = server.begin("POST /items pen", "GET /odd/sync-hangs")
        wait_until(server.said("hanging"), "the view is there")
        assert b"Batch-Outcome" not in _read(sent)
        assert server.client.post("/items", content=b"cap").status_code == 201
        assert server.rows() == ["cap"]
