"""The server as a process: what it refuses, what it prints, how it stops."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atomicbatch.server.http.serve import ServeError, database_url, serve
from atomicbatch.wire.batch import write_batch
from tests.server.served import call, make_shop, seen

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``atomicbatch serve`` as a process, and the address that it printed."""
    command = [sys.executable, "-m", "atomicbatch", "serve", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, (line, process.stderr.read() if process.stderr else "")
            yield process, address[0]
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def url(sqlite_path: Path) -> str:
    """An SQLite shop."""
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


def test_it_answers_once_it_has_printed_its_address_and_stops_cleanly(url: str) -> None:
    """The printed address answers at once; SIGTERM ends the process with status 0."""
    with running(url, "--port", "0") as (process, address):
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert httpx.get(f"{address}/readyz").status_code == 200
        assert httpx.get(f"{address}/v1/api/items/1").json()["sku"] == "tea"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_file_name_is_a_database(url: str) -> None:
    """DATABASE may be the plain name of an SQLite file, spaces and all."""
    assert str(database_url(url.removeprefix("sqlite:///")).database) == url[10:]


def test_batches_in_flight_finish_when_it_stops(url: str, sqlite_path: Path) -> None:
    """On SIGTERM a waiting batch still commits, and new requests get 503."""
    with running(url, "--port", "0") as (process, address):
        blocker = sqlite3.connect(sqlite_path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        content_type, body = write_batch(
            [call("POST", "/v1/api/items", {"sku": f"s{n}", "name": "n"}) for n in range(3)]
        )
        answers: list[httpx.Response] = []

        def send() -> None:
            headers = {"content-type": content_type.decode()}
            answers.append(
                httpx.post(f"{address}/v1/api/batch", content=body, headers=headers, timeout=30)
            )

        sender = threading.Thread(target=send)
        with httpx.Client(base_url=address, timeout=30) as client:
            assert client.get("/healthz").status_code == 200
            idle = threads_of(process.pid)
            sender.start()
            # The batch is in the database's hands once its thread is there.
            deadline = time.monotonic() + 10
            while threads_of(process.pid) == idle:
                assert time.monotonic() < deadline, "the batch did not reach the database"
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 4
            while (late := client.get("/v1/api/items")).status_code != 503:
                assert time.monotonic() < deadline, "new requests are still served"
            assert late.json()["type"] == "urn:atomicbatch:problem:stopping"
            assert late.headers["retry-after"] == "1"
        blocker.execute("ROLLBACK")
        blocker.close()
        sender.join(30)
        assert process.wait(10) == 0
    assert answers[0].headers["batch-outcome"] == "committed"
    assert seen(url, "SELECT count(*) FROM items") == [(6,)]


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_several_workers_share_one_address(url: str) -> None:
    """With --workers each process serves, a killed one is replaced, and all end on SIGTERM."""
    with running(url, "--port", "0", "--workers", "2") as (process, address):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=address)) for _ in range(8)]
            for number, client in enumerate(clients):
                created = client.post("/v1/api/items", json={"sku": f"w{number}", "name": "n"})
                assert created.status_code == 201
        workers = children(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while (now := children(process.pid)) == workers or len(now) < 2:
            assert time.monotonic() < deadline, "the killed worker was not replaced"
            time.sleep(0.05)
        assert httpx.get(f"{address}/v1/api/items/1").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert seen(url, "SELECT count(*) FROM items") == [(11,)]


def children(pid: int) -> list[int]:
    """The server processes below ``pid``; Python's resource tracker is none."""
    found = []
    for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(int(number))
    return found


def test_ipv6_loopback(url: str) -> None:
    """::1 is loopback too, and is printed as a URL has it."""
    with running(url, "--port", "0", "--host", "::1") as (_, address):
        assert address.startswith("http://[::1]:")
        assert httpx.get(f"{address}/healthz").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_allow_anonymous(url: str, host: str) -> None:
    """Without sign-in it listens on loopback only, unless told otherwise."""
    with pytest.raises(ServeError, match="--allow-anonymous"):
        serve(url, host=host)


def test_all_addresses_with_allow_anonymous(url: str) -> None:
    """--allow-anonymous listens wherever it is told to."""
    arguments = (url, "--port", "0", "--host", "0.0.0.0", "--allow-anonymous")
    with running(*arguments) as (_, address):
        port = address.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def status_for(address: str, host: str) -> int:
    """What a request for this host is answered with."""
    return httpx.get(f"{address}/v1/api/items/1", headers={"host": host}).status_code


def test_hosts_are_those_it_was_told(url: str) -> None:
    """--allowed-host adds names; listening everywhere adds addresses, and no names."""
    with running(url, "--port", "0", "--allowed-host", "shop.example") as (_, address):
        assert status_for(address, "shop.example:99") == 200
        assert status_for(address, "localhost") == 200
        assert status_for(address, "192.0.2.1") == 421
        assert status_for(address, "evil.example") == 421
    everywhere = ("--host", "0.0.0.0", "--allow-anonymous", "--workers", "2")
    with running(url, "--port", "0", *everywhere, "--allowed-host", "web:81") as (_, address):
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert status_for(local, "192.0.2.1:5") == 200
        assert status_for(local, "web:81") == 200
        assert status_for(local, "web") == 421
        assert status_for(local, "evil.example") == 421


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("missing.sqlite", "there is no file"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("oracle://x/y", "not served"),
        ("http://example.org/", "not served"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", "cannot open"),
        ("mysql://nobody:secret@127.0.0.1:1/x", "cannot open"),
    ],
)
def test_a_database_that_cannot_be_served_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, told: str
) -> None:
    """The message says what is wrong and never shows a password."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServeError, match=re.escape(told)) as caught:
        serve(database)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A text file is refused before SQLite can touch it."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but quite long enough to be one")
    with pytest.raises(ServeError, match="not an SQLite database"):
        serve(str(path))
    assert path.read_text().startswith("not a database")


def test_a_port_in_use_is_told(url: str) -> None:
    """Two servers cannot listen on one port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServeError, match="cannot listen"):
            serve(url, port=taken.getsockname()[1])
