"""Answering: clients that hang up at each stage of a request, and what a request costs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn

from atomicbatch.engine.deadline import SEVER_SECONDS, Clock
from atomicbatch.exchange import Response
from atomicbatch.limits import ServerLimits
from atomicbatch.model import Batch, Outcome
from atomicbatch.server.database.database import Database
from atomicbatch.server.http.answering import Answering
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.request import Request
from atomicbatch.server.http.running import Server
from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.server.http.serve import open_database
from atomicbatch.server.http.traffic import Traffic
from atomicbatch.wire.batch import write_batch
from tests.server.conftest import Serve
from tests.server.served import call, make_shop, on_its_own, seen

# A plain request, and a batch: both create the row of this number.
KINDS = ("call", "batch")


def request_for(kind: str, number: int) -> bytes:
    """The bytes of a request that creates row ``number``."""
    row = {"id": 1000 + number, "sku": str(number), "name": "new"}
    part = call("POST", "/v1/api/items", row)
    path, type_, body = part.path, b"application/json", part.body
    if kind == "batch":
        path = b"/v1/api/batch"
        type_, body = write_batch([part])
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (path, type_, len(body), body)
    )


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


class Own:
    """Our own server."""

    def __init__(self, application: Application) -> None:
        self._ready = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = Server(
            application,
            self._listener,
            Traffic(ServerLimits()),
            drain_seconds=20,
            ready=self._ready.set,
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._server.stop()
        self._thread.join(25)
        assert not self._thread.is_alive()


class Uvicorn:
    """The same application under a server of others."""

    def __init__(self, application: Application) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        config = uvicorn.Config(application, log_level="critical", lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), daemon=True
        )
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(25)
        assert not self._thread.is_alive()


class Asked:
    """A server with one writer on PostgreSQL, and a look at what its transactions do."""

    def __init__(self, url: str, database: Database, port: int) -> None:
        self.url, self.port = url, port
        self._database = database
        self.sent: list[socket.socket] = []

    def send(self, data: bytes) -> socket.socket:
        wire = socket.create_connection(("127.0.0.1", self.port), 20)
        wire.sendall(data)
        self.sent.append(wire)
        return wire

    def blocked(self) -> int:
        """How many transactions wait for a lock."""
        return len(self.blocked_backends())

    def blocked_backends(self) -> set[int]:
        """Which of the database's processes wait for a lock."""
        # Other tests have other databases on the same server.
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
        return {
            row[0]
            for row in seen(
                self.url,
                "SELECT pid FROM pg_stat_activity"
                f" WHERE datname = current_database() AND pid IN ({waiting})",
            )
        }

    def backends(self) -> set[int]:
        """Which of the database's processes serve a client."""
        return {row[0] for row in seen(self.url, "SELECT pid FROM pg_stat_activity")}

    def waiting(self) -> int:
        """How many requests wait for the writer."""
        return len(self._database._writers._line)

    def rows(self) -> set[int]:
        return {row[0] for row in seen(self.url, "SELECT id - 1000 FROM items WHERE name = 'new'")}

    @contextlib.contextmanager
    def holding(self, sql: str) -> Iterator[psycopg.Connection[Any]]:
        """Hold a lock that requests wait for."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as other:
            other.execute(sql)
            yield other


@pytest.fixture(params=[Own, Uvicorn])
def asked(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[Asked]:
    make_shop(postgresql_url)
    on_its_own(
        postgresql_url,
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION late()",
    )
    database = open_database(
        server_url(postgresql_url), read_only=False, limits=ServerLimits(max_writers=1)
    )
    server = request.param(Application(database))
    asked = Asked(postgresql_url, database, server.port)
    yield asked
    for wire in asked.sent:
        wire.close()
    server.stop()


def reset(wire: socket.socket) -> None:
    """Hang up, by a reset."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wire.close()


Hang = Callable[[socket.socket], None]
HANG_UPS = (socket.socket.close, reset)


def check_it_goes_on(asked: Asked) -> None:
    wire = asked.send(request_for("call", 99))
    assert wire.recv(100).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hang_up", HANG_UPS)
def test_hanging_up_while_the_body_arrives(asked: Asked, kind: str, hang_up: Hang) -> None:
    """Half a body is never run, and nothing of it is left."""
    wire = asked.send(request_for(kind, 1)[:-5])
    hang_up(wire)
    check_it_goes_on(asked)
    assert asked.rows() == {99}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hang_up", HANG_UPS)
def test_hanging_up_while_waiting_for_a_thread(asked: Asked, kind: str, hang_up: Hang) -> None:
    """It leaves the line at once, and never runs; those before and behind it do."""
    with asked.holding("LOCK TABLE items"):
        first = asked.send(request_for(kind, 1))
        until(lambda: asked.blocked() == 1)
        gone = asked.send(request_for(kind, 2))
        until(lambda: asked.waiting() == 1)
        last = asked.send(request_for(kind, 3))
        until(lambda: asked.waiting() == 2)
        hang_up(gone)
        until(lambda: asked.waiting() == 1)
    for wire in (first, last):
        assert wire.recv(100).startswith(b"HTTP/1.1 20")
    assert asked.rows() == {1, 3}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hang_up", HANG_UPS)
def test_hanging_up_while_it_runs(asked: Asked, kind: str, hang_up: Hang) -> None:
    """Its statement is interrupted, it is rolled back, and the next one has the thread."""
    with asked.holding("LOCK TABLE items"):
        gone = asked.send(request_for(kind, 1))
        until(lambda: asked.blocked() == 1)
        hang_up(gone)
        until(lambda: asked.blocked() == 0)
        check_a_page(asked)
    check_it_goes_on(asked)
    assert asked.rows() == {99}


def check_a_page(asked: Asked) -> None:
    """Readers have threads of their own, and the event loop waits for nobody."""
    url = f"http://127.0.0.1:{asked.port}/healthz"
    assert httpx.get(url, headers={"host": "localhost"}, timeout=20).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hang_up", HANG_UPS)
def test_hanging_up_while_it_commits(asked: Asked, kind: str, hang_up: Hang) -> None:
    """COMMIT has been sent: it is left alone, and the row is stored."""
    with asked.holding("SELECT pg_advisory_xact_lock(7)"):
        gone = asked.send(request_for(kind, 1))
        until(lambda: asked.blocked() == 1)
        hang_up(gone)
        check_a_page(asked)
        time.sleep(SEVER_SECONDS + 0.3)  # in which it would have been cut off
        backend = asked.blocked_backends()
    check_it_goes_on(asked)
    assert asked.rows() == {1, 99}
    assert backend <= asked.backends(), "its connection was given up"


def ask_over(wire: socket.socket, number: int) -> None:
    """Send a plain request, a batch and a GET by one connection."""
    get = b"GET /v1/api/items/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for request in (request_for("call", number), request_for("batch", number + 1), get):
        wire.sendall(request)
        assert wire.recv(65536).startswith(b"HTTP/1.1 2")


class Counted:
    """What requests make of a server's event loop and clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        self.tasks = self.reminders = 0
        remind = Clock.remind

        def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
            self.tasks += 1
            return asyncio.Task(coroutine, loop=loop, **options)

        def counted_remind(clock: Clock, at: float, one: Any) -> None:
            self.reminders += 1
            remind(clock, at, one)

        patch.setattr(Clock, "remind", counted_remind)
        is_set = threading.Event()
        loop.call_soon_threadsafe(loop.set_task_factory, make)
        loop.call_soon_threadsafe(is_set.set)
        assert is_set.wait(20)


def test_what_a_request_costs(
    database_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task, one reminder of the clock for its time limit, and no thread more than the first."""
    make_shop(database_url)
    served = serve(database_url)
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 20))
            for _ in range(2)
        ]
        for number, wire in enumerate(wires):
            ask_over(wire, 2 * number)
        threads = threading.active_count()
        loop = served.server._loop
        assert loop is not None
        counted = Counted(loop, monkeypatch)
        for number in range(10):
            ask_over(wires[number % 2], 10 + 2 * number)
        assert (counted.tasks, counted.reminders) == (0, 10 * 3)
        assert threading.active_count() == threads


def test_nothing_is_left_of_a_request(database_url: str, serve: Serve) -> None:
    """What it has held is gone with its answer, without a run of the garbage collector."""
    make_shop(database_url)
    served = serve(database_url)
    with socket.create_connection(("127.0.0.1", served.port), 20) as wire:
        ask_over(wire, 0)
        gc.collect()
        gc.disable()
        try:
            # Of other tests: what an exception's traceback still holds, say.
            before = held()
            for number in range(1, 6):
                ask_over(wire, 2 * number)
            until(lambda: not served.traffic.running)
            left = [one for one in held() if not any(one is other for other in before)]
        finally:
            gc.enable()
    assert left == []


def held() -> list[object]:
    """All that requests have made and that is still there."""
    kinds = (Request, Answering, Batch, Outcome, Response)
    # Not by isinstance: it asks for __class__, by which a lazy object of Django makes its own.
    return [one for one in gc.get_objects() if issubclass(type(one), kinds)]
