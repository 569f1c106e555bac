"""What a process that a call has started is refused fails the batch, also where it hides that."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import Batch, NotBatchableError
from atomicbatch.asgi import AtomicBatch as AsgiBatch
from atomicbatch.guard import Allowed, Watch, children
from atomicbatch.guard.children import Children, Fate
from atomicbatch.guard.watch import watching
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.asgi import asking as asgi
from tests.endpoints.asking import Answer, call
from tests.guard.writing import hide, insert, read
from tests.stores import Store
from tests.wsgi.asking import ask, environ_of, serve

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # Of what forks beside other threads: nothing of theirs is used here.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
Act = Callable[[], object]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


def forked(act: Act) -> int:
    """Do something in a forked process, which hides what becomes of it."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            act()
        os._exit(0)
    return child


def in_child(act: Act) -> None:
    os.waitpid(forked(act), 0)


def by_grandchild(act: Act) -> None:
    in_child(lambda: in_child(act))


def by_process(act: Act) -> None:
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join()


def in_a_thread(act: Act) -> None:
    """A call's thread forks, and a thread of the child does it."""

    def fork() -> None:
        def go() -> None:
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()

        in_child(go)

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()


WAYS = (in_child, by_grandchild, by_process, in_a_thread)


def app_of(transaction: Any, **handlers: Act) -> Any:
    """A WSGI app with a handler for each name."""

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        name = environ["PATH_INFO"].strip("/")
        status = "201 Created"
        try:
            handlers[name]()
        except RuntimeError:
            status = "409 Conflict"
        start(status, [("content-type", "text/plain")])
        return [b"done"]

    return AtomicBatch(app, transaction=transaction)


def batch(app: Any, *names: str) -> Answer:
    return ask(app, *(call("POST", f"/{name}") for name in names))


def fail() -> None:
    raise RuntimeError


def refused(answer: Answer, number: int) -> str:
    """Why the batch failed, at which call."""
    assert answer.outcome == f"rolled-back; failed={number}; status=501"
    return answer.replies[number - 1].body.decode()


TRANSACTIONS = pytest.mark.parametrize("transaction", [DriverTransaction, SQLAlchemyTransaction])


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_that_a_child_hides(way: Callable[[Act], None], store: Store) -> None:
    """The batch fails as if the handler itself had hidden it; alone the row is stored."""
    app = app_of(
        DriverTransaction(),
        own=lambda: insert(store.url, "own"),
        forks=lambda: way(lambda: insert(store.url, "child")),
        computes=lambda: way(lambda: 3**2),
    )
    assert batch(app, "own", "computes", "own").outcome == "committed"
    why = refused(batch(app, "own", "forks", "own"), 2)
    assert "in another process" in why
    assert "guard/writing.py:" in why
    assert store.rows() == ["own", "own"]
    serve(app, environ_of("/forks"))
    assert store.rows() == ["own", "own", "child"]


@TRANSACTIONS
def test_on_the_event_loop(transaction: Any, store: Store, tmp_path: Path) -> None:
    """A handler of an ASGI app, in its thread or on the loop, under either adapter."""

    def forks(request: Request) -> Response:
        in_child(lambda: insert(store.url, "child"))
        return JSONResponse({}, 201)

    async def forks_on_loop(request: Request) -> Response:
        return forks(request)

    def computes(request: Request) -> Response:
        in_child(lambda: 3**2)
        return JSONResponse({}, 201)

    handlers = (forks, forks_on_loop, computes)
    routes = [Route(f"/{one.__name__}", one, methods=["POST"]) for one in handlers]
    app = AsgiBatch(Starlette(routes=routes), transaction=transaction())

    def batches(*names: str) -> Answer:
        return asyncio.run(asgi.ask(app, *(call("POST", f"/{name}") for name in names)))

    assert batches("computes").outcome == "committed"
    for name in ("forks", "forks_on_loop"):
        assert "in another process" in refused(batches("computes", name, "computes"), 2)
    assert store.rows() == []


def test_without_an_endpoint(store: Store) -> None:
    """The adapter's block alone hears of it as well."""

    def run() -> None:
        with DriverTransaction().begin(Batch(()), deadline=float("inf")):
            insert(store.url, "own")
            in_child(lambda: insert(store.url, "child"))

    with pytest.raises(NotBatchableError, match="in another process"):
        run()
    assert store.rows() == []


def test_under_django(sqlite_store: Store, postgresql_store: Store) -> None:
    """A view's process has a connection of its own, and Django's own ways to write by it."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.guard.under_django", sqlite_store.url, postgresql_store.url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    for computes, *forks in json.loads(ran.stdout.splitlines()[-1]):
        assert computes == ["committed", ""]
        for outcome, why in forks:
            assert outcome == "rolled-back; failed=2; status=501"
            assert "in another process" in why
            assert "guard/under_django.py:" in why
    assert sqlite_store.rows() == postgresql_store.rows() == ["own", "own"]


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", " begin exclusive transaction"])
def test_a_child_that_wants_the_lock_of_sqlite(begin: str, sqlite_store: Store) -> None:
    """It would find the file locked, and never come to what would be refused."""
    url = sqlite_store.url
    app = app_of(
        DriverTransaction(),
        own=lambda: insert(url, "own"),
        forks=lambda: in_child(lambda: hide(url, "child", begin)),
    )
    assert "BEGIN" in refused(batch(app, "own", "forks"), 2)
    assert sqlite_store.rows() == []


def test_what_a_child_writes_outside(store: Store, tmp_path: Path) -> None:
    """What is allowed by name stays, and nobody says that it was undone."""
    other = str(tmp_path / "cache.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (name TEXT)")

    def writes_both() -> None:
        insert(store.url, "own")
        in_child(lambda: insert(other, "cached"))

    app = app_of(
        DriverTransaction(outside=[other]),
        forks=writes_both,
        fails=fail,
    )
    answer = batch(app, "forks", "fails")
    assert answer.outcome == "rolled-back; failed=2; status=409"
    assert "what this call did in the batch's transaction is undone" in (
        answer.replies[0].body.decode()
    )
    assert batch(app, "forks").outcome == "committed"
    assert (read(other), store.rows()) == ((2,), ["own"])


# What outlives the batch -------------------------------------------------------------------------


class Left:
    """A child that a call leaves behind, and what it waits for."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.child = 0

    def start(self, act: Act) -> None:
        def wait() -> None:
            os.close(self.writer)
            os.read(self.reader, 1)
            act()

        self.child = forked(wait)

    def go_on(self) -> None:
        os.close(self.writer)
        os.waitpid(self.child, 0)
        os.close(self.reader)


@pytest.mark.parametrize("ends", ["committed", "rolled-back"])
def test_a_child_that_outlives_its_batch(ends: str, postgresql_store: Store) -> None:
    """It stores nothing of a batch that was rolled back; after COMMIT it may, as a thread may."""
    url, left = postgresql_store.url, Left()
    app = app_of(
        DriverTransaction(),
        leaves=lambda: left.start(lambda: insert(url, "late")),
        fails=fail,
    )
    names = ["leaves"] if ends == "committed" else ["leaves", "fails"]
    assert batch(app, *names).outcome.startswith(ends)
    left.go_on()
    assert postgresql_store.rows() == (["late"] if ends == "committed" else [])


@pytest.mark.parametrize("fate", [Fate.COMMITTED, Fate.UNDONE])
def test_a_child_waits_for_a_commit_that_is_under_way(fate: Fate) -> None:
    """Whether the batch has heard it is certain either way, and it goes on accordingly."""
    shared = Children()
    assert shared.close() == ""
    answer: list[Fate] = []
    thread = threading.Thread(target=lambda: answer.append(shared.report("late")))
    thread.start()
    shared._page[0] = fate
    thread.join()
    shared.end(fate)
    assert answer == [fate]


def test_a_child_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch's process may have died while it committed: nobody knows, so it is refused."""
    monkeypatch.setattr(children, "_PATIENCE_SECONDS", -1.0)
    shared = Children()
    shared.close()
    assert shared.report("late") is Fate.UNDONE
    shared.end(Fate.COMMITTED)
    assert shared.report("later") is Fate.COMMITTED


# The page ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["short", "ä" * 3000, ""])
def test_what_is_told(what: str) -> None:
    """A long message is cut, between or within letters; several children leave one of theirs."""
    shared = Children()
    assert (shared.told, shared.wrote_outside) == ("", False)
    in_child(lambda: shared.report(what))
    in_child(shared.note_outside)
    told = shared.told
    assert told.rstrip("�") == what[: len(told.rstrip("�"))]
    assert bool(told) is bool(what)
    assert len(told) >= min(len(what), 1023)
    shared.end(Fate.UNDONE)
    assert (shared.told, shared.close(), shared.wrote_outside) == (told, told, True)
    shared.end(Fate.COMMITTED)  # again changes nothing
    assert shared.report("late") is Fate.UNDONE


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts in /proc")
def test_nothing_is_left(sqlite_store: Store) -> None:
    """Neither descriptors nor memory, however batches end; none is taken where nothing forks."""
    url, seen = sqlite_store.url, [0]

    def count() -> None:
        seen[0] = open_files()

    app = app_of(
        DriverTransaction(),
        counts=count,
        computes=lambda: in_child(lambda: 9),
        forks=lambda: in_child(lambda: insert(url, "child")),
        fails=fail,
    )
    batch(app, "counts")
    plain = seen[0]
    batch(app, "computes", "counts")
    assert seen[0] > plain
    before = open_files()
    for names in (["computes"], ["forks"], ["computes", "fails"]):
        batch(app, *names)
    assert open_files() == before
    with open("/proc/self/maps") as maps:
        assert "memfd:atomicbatch" not in maps.read()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="looks into /proc")
def test_a_child_that_closes_all_descriptors() -> None:
    """As daemons do: what it opens then, by the same numbers, is not closed with the watch."""
    held = [Watch(Allowed())]
    reader, writer = os.pipe()
    other = os.open(os.devnull, os.O_RDONLY)

    def is_of_page(number: int) -> bool:
        path = Path(f"/proc/self/fd/{number}")
        return path.is_symlink() and "memfd:atomicbatch" in os.readlink(path)

    def as_daemons_do() -> None:
        ours = [number for number in range(256) if is_of_page(number)]
        assert len(ours) == 2
        for number in ours:
            os.dup2(other, number)
        held.clear()
        watching.set(None)
        gc.collect()
        for number in ours:
            os.fstat(number)
        os.write(writer, b"fine")

    def fork() -> None:
        watching.set(held[0])
        in_child(as_daemons_do)

    copy_context().run(fork)
    held[0].end(undone=True)
    os.close(other)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "fine"


def test_no_memory_to_share(monkeypatch: pytest.MonkeyPatch, sqlite_store: Store) -> None:
    """Where nobody could hear of a refusal, the batch fails."""

    def none_left() -> int:
        raise OSError(24, "Too many open files")

    app = app_of(DriverTransaction(), computes=lambda: in_child(lambda: 9), own=lambda: None)
    monkeypatch.setattr(children, "_memory", none_left)
    assert "Too many open files" in refused(batch(app, "own", "computes"), 2)


def test_workers_that_a_server_forks(postgresql_store: Store) -> None:
    """A server's workers are forked outside of batches; theirs are batches like any others."""
    url = postgresql_store.url
    app = app_of(
        DriverTransaction(),
        own=lambda: insert(url, "own"),
        forks=lambda: in_child(lambda: insert(url, "child")),
    )
    batch(app, "own")

    def work() -> None:
        assert batch(app, "own").outcome == "committed"
        refused(batch(app, "own", "forks"), 2)
        insert(url, "worked")

    in_child(work)
    assert postgresql_store.rows() == ["own", "own", "worked"]
