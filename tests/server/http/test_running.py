"""The end of a server: within the documented time, whatever hangs; at once when told twice."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atomicbatch.server.http.running import STOP_SECONDS
from atomicbatch.wire.batch import write_batch
from tests.proxies import At, Fault, proxied
from tests.server.processes import ServeProcess, is_alive, serving
from tests.server.served import call, make_shop, on_its_own, seen

pytestmark = pytest.mark.slow
HEAD = b"POST /v1/api/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# A busy machine may be late; without a bound all of these would take half a minute or for ever.
LATE = 6.0
DRAIN = 1.0


@pytest.fixture
def url(sqlite_path: Path) -> str:
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


def connect(process: ServeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", process.port), 20)


def until(condition: object, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


@contextlib.contextmanager
def asking(process: ServeProcess, request: bytes) -> Iterator[list[bytes]]:
    """Send a request in a thread; what has come of it until the connection ended."""
    answers: list[bytes] = []

    def ask() -> None:
        with connect(process) as wire:
            wire.settimeout(60)
            wire.sendall(request)
            received = b""
            with contextlib.suppress(OSError):
                while data := wire.recv(65536):
                    received += data
            answers.append(received)

    thread = threading.Thread(target=ask)
    thread.start()
    yield answers
    thread.join(60)


def test_half_sent_requests_do_not_hold_it_up(url: str, tmp_path: Path) -> None:
    """Heads and bodies that are not there yet: it ends at once, with status 0, and says 503."""
    with serving(url, folder=tmp_path) as process, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(connect(process)) for _ in range(4)]
        wires[1].sendall(HEAD)
        wires[2].sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        batch = b"POST /v1/api/batch HTTP/1.1\r\nHost: localhost\r\n"
        wires[3].sendall(batch + b"Content-Type: multipart/mixed; boundary=b\r\n")
        wires[3].sendall(b"Content-Length: 100\r\n\r\n--b\r\n")
        httpx.get(f"{process.address}/healthz")  # all of that has been read
        status, seconds = process.stop(within=20)
        assert (status, seconds < LATE) == (0, True), (status, seconds, process.log())
        for wire in wires[2:]:
            assert wire.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_what_is_too_long_is_cut_off_and_rolled_back(url: str, tmp_path: Path) -> None:
    """A write that waits for a lock: cut off after --drain-seconds, status 1, and it is told."""
    item = b'{"sku":"late","name":"late"}'
    with (
        serving(url, "--drain-seconds", str(DRAIN), folder=tmp_path) as process,
        contextlib.closing(sqlite3.connect(url[10:], isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert httpx.get(f"{process.address}/healthz").status_code == 200
        idle = threads_of(process.popen.pid)
        with asking(process, HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(item), item)):
            until(lambda: threads_of(process.popen.pid) > idle)
            status, seconds = process.stop(within=30)
        assert status == 1
        assert DRAIN - 0.1 < seconds < DRAIN + STOP_SECONDS + LATE
        assert "cut off" in process.log() or "by force" in process.log()
        other.execute("ROLLBACK")
    assert seen(url, "SELECT count(*) FROM items WHERE sku = 'late'") == [(0,)]


def threads_of(pid: int) -> int:
    """How many threads a process has: a request is in the database's hands once one is new."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def is_free(port: int) -> bool:
    """Whether nobody listens on a port any more."""
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            again.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_long_statement_is_interrupted(postgresql_url: str, tmp_path: Path, workers: str) -> None:
    """It does not go on in the database either."""
    on_its_own(postgresql_url, "CREATE VIEW slow AS SELECT pg_sleep(300)::text AS s")
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND strpos(query, 'slow') > 0 AND pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    arguments = ("--drain-seconds", str(DRAIN), "--workers", workers)
    with serving(postgresql_url, *arguments, folder=tmp_path) as process:
        with asking(process, b"GET /v1/api/slow HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            until(lambda: seen(postgresql_url, active) == [(1,)])
            status, seconds = process.stop(within=30)
        assert (status, seconds < DRAIN + STOP_SECONDS + LATE) == (1, True), (status, seconds)
    until(lambda: seen(postgresql_url, active) == [(0,)])


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    ("at", "workers"),
    [("idle", "1"), ("idle", "2"), ("statement", "1"), ("statement", "2"), ("commit", "1")],
)
def test_a_database_that_does_not_answer_does_not_hold_it_up(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, workers: str, at: str
) -> None:
    """Stalled between requests, in a statement, or at COMMIT."""
    url = request.getfixturevalue(f"{kind}_url")
    make_shop(url)
    with proxied(url) as (proxy, through):
        arguments = ("--drain-seconds", str(DRAIN), "--workers", workers)
        with serving(through, *arguments, folder=tmp_path) as process:
            assert httpx.get(f"{process.address}/v1/api/items/1", timeout=20).status_code == 200
            content_type, body = write_batch(
                [call("POST", "/v1/api/items", {"sku": "s", "name": "stalled"})]
            )
            batch = (
                b"POST /v1/api/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (content_type, len(body), body)
            )
            if at == "idle":
                proxy.stop()
                status, seconds = process.stop(within=40)
            else:
                trigger = b"stalled" if at == "statement" else b"COMMIT"
                proxy.when(trigger, Fault.STOP, at=At.ANSWER)
                with asking(process, batch):
                    assert proxy.happened.wait(20)
                    status, seconds = process.stop(within=40)
        limit = DRAIN + STOP_SECONDS + LATE
        assert seconds < limit, (status, seconds, process.log())
        assert status == 1 or at == "idle", process.log()
        proxy.resume()


def test_a_client_that_does_not_read_does_not_hold_it_up(url: str, tmp_path: Path) -> None:
    """Its answer is given up after --drain-seconds."""
    on_its_own(url, "CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT)")
    for number in range(4):
        on_its_own(url, f"INSERT INTO big VALUES ({number}, hex(zeroblob(4000000)))")
    with serving(url, "--drain-seconds", str(DRAIN), folder=tmp_path) as process:
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.connect(("127.0.0.1", process.port))
            wire.sendall(b"GET /v1/api/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: " GET /v1/api/big 200 " in process.log())
            status, seconds = process.stop(within=30)
        assert status == 1
        assert seconds < DRAIN + STOP_SECONDS + LATE


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    postgresql_url: str, tmp_path: Path, workers: str, second: signal.Signals
) -> None:
    """By the signal itself, also while a database hangs; nobody holds the port afterwards."""
    on_its_own(postgresql_url, "CREATE VIEW slow AS SELECT pg_sleep(300)::text AS s")
    with (
        proxied(postgresql_url) as (proxy, through),
        serving(through, "--workers", workers, folder=tmp_path) as process,
    ):
        children = process.workers()
        proxy.when(b"slow", Fault.STOP, at=At.REQUEST)
        with asking(process, b"GET /v1/api/slow HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            assert proxy.happened.wait(20)
            process.tell(signal.SIGTERM)
            with contextlib.suppress(httpx.TransportError):
                until(
                    lambda: httpx.get(f"{process.address}/healthz", timeout=20).status_code == 503
                )
            status, seconds = process.stop(within=20, number=second)
        assert status == -second
        assert seconds < LATE
        until(lambda: not any(is_alive(child) for child in children), 5)
        until(lambda: is_free(process.port), 5)
        proxy.resume()


def test_answers_under_way_are_given(url: str, sqlite_path: Path, tmp_path: Path) -> None:
    """A request that has arrived as a whole is answered, and the process ends with status 0."""
    item = b'{"sku":"under-way","name":"n"}'
    with (
        serving(url, folder=tmp_path) as process,
        contextlib.closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert httpx.get(f"{process.address}/healthz").status_code == 200
        idle = threads_of(process.popen.pid)
        request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(item), item)
        with asking(process, request) as answers:
            until(lambda: threads_of(process.popen.pid) > idle)
            process.tell()
            until(lambda: httpx.get(f"{process.address}/").status_code == 503)
            other.execute("ROLLBACK")
            assert process.popen.wait(20) == 0
        assert answers[0].startswith(b"HTTP/1.1 201 ")
    assert seen(url, "SELECT count(*) FROM items WHERE sku = 'under-way'") == [(1,)]
