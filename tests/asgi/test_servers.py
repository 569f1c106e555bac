"""AtomicBatch under real servers, on real sockets: uvicorn, hypercorn and granian."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from atomicbatch.codings import encode
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Answer, call
from tests.asgi.shop import Made

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SERVERS = {
    "uvicorn": "uvicorn tests.asgi.shop:app --host 127.0.0.1 --port {port}",
    "hypercorn": "hypercorn tests.asgi.shop:app --bind 127.0.0.1:{port}",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} tests.asgi.shop:app",
}
# server, form of the app, options, prefix of the URLs that clients use: each server, each form of
# the app and each kind of prefix once; all together in ``make prove``
SETTINGS = [
    ("uvicorn", "middleware", "--http h11", ""),
    ("uvicorn", "outermost", "--root-path /front", ""),
    ("hypercorn", "mounted", "", "/api"),
    ("granian", "outermost", "--url-path-prefix /front", "/front"),
]
MORE_SETTINGS = [
    ("uvicorn", "outermost", "", ""),
    ("uvicorn", "mounted", "", "/api"),
    ("hypercorn", "outermost", "", ""),
    ("hypercorn", "outermost", "--root-path /front", ""),
    ("granian", "outermost", "", ""),
    ("granian", "middleware", "", ""),
    ("granian", "mounted", "", "/api"),
]


class Running:
    """A server in a process of its own."""

    def __init__(self, port: int, prefix: str, made: Made) -> None:
        self.port = port
        self.prefix = prefix
        self.made = made
        self.url = f"http://127.0.0.1:{port}{prefix}/v1/api/batch"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}{prefix}", timeout=20)

    def ask(self, *targets: str, headers: dict[str, str] | None = None) -> Answer:
        calls = []
        for target in targets:
            method, path, *body = target.split(" ")
            calls.append(call(method, self.prefix + path, " ".join(body).encode()))
        content_type, content = write_batch(calls)
        own = {"content-type": content_type.decode(), **(headers or {})}
        if (coding := own.get("content-encoding")) is not None:
            content = encode(content, coding)
        return answered(self.client.post("/v1/api/batch", content=content, headers=own))


def answered(response: httpx.Response) -> Answer:
    return Answer(response.status_code, dict(response.headers), response.content)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@pytest.fixture(
    scope="module",
    params=[*SETTINGS, *(pytest.param(some, marks=pytest.mark.prove) for some in MORE_SETTINGS)],
    ids=[" ".join(filter(None, some[:3])) for some in (*SETTINGS, *MORE_SETTINGS)],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    server, form, options, prefix = request.param
    folder = tmp_path_factory.mktemp("shop")
    made = Made(form, str(folder / "shop.sqlite"))
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", *SERVERS[server].format(port=port).split(), *options.split()],
        cwd=ROOT,
        env=os.environ | {"SHOP_DB": made.database, "SHOP_FORM": form},
        stdout=log,
        stderr=log,
    )
    running = Running(port, prefix, made)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return running.client.get("/items").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "the server to answer")
        yield running
    finally:
        running.client.close()
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            log.close()


@pytest.fixture(autouse=True)
def empty(running: Running) -> None:
    """Every test starts with empty tables."""
    with running.made.shop.database() as connection:
        connection.executescript("DELETE FROM part; DELETE FROM item;")


def test_a_batch_commits(running: Running) -> None:
    """All calls take effect, in order, and the response says so."""
    answer = running.ask("POST /items pen", "POST /items ink", "GET /items", "HEAD /items")
    assert (answer.status, answer.outcome) == (200, "committed")
    assert answer.statuses == [201, 201, 200, 200]
    assert json.loads(answer.replies[2].body) == ["ink", "pen"]
    assert running.made.rows() == ["ink", "pen"]


def test_a_batch_rolls_back(running: Running) -> None:
    """Nothing of a batch with a failing call is stored."""
    answer = running.ask("POST /items pen", "POST /items pen", "POST /items ink")
    assert answer.outcome == "rolled-back; failed=2; status=409"
    assert answer.statuses == [424, 409, 424]
    assert running.made.rows() == []


def test_plain_requests_pass_through(running: Running) -> None:
    """Next to the endpoint the app answers as always."""
    assert running.client.post("/items", content=b"pen").status_code == 201
    assert running.client.get("/items").json() == ["pen"]


def test_calls_see_what_requests_see(running: Running) -> None:
    """A call's scope says of path, prefix, host and scheme what the same request's says."""
    plain = running.client.get("/echo/a%20b?x=1").json()
    reply = running.ask("GET /echo/a%20b?x=1").replies[0]
    called = json.loads(reply.body)
    for name in ("method", "path", "raw_path", "root_path", "query", "url", "scheme", "server"):
        assert called[name] == plain[name], name
    assert called["client"][0] == plain["client"][0]


def test_files_streams_and_errors(running: Running) -> None:
    """Files come as bytes, streams as a whole, a broken stream as a failure."""
    answer = running.ask("GET /file", "GET /stream")
    assert answer.statuses == [200, 200]
    assert b"class Shop:" in answer.replies[0].body
    assert answer.replies[1].body == b"chunk0;chunk1;chunk2;"
    assert running.ask("GET /stream?break=1").outcome == "rolled-back; failed=1; status=500"


def test_refusals_by_the_head(running: Running) -> None:
    """OPTIONS, other methods, other media types and too long a body need no body to be read."""
    path = "/v1/api/batch"
    options = running.client.options(path)
    assert (options.status_code, options.headers["accept-post"]) == (200, "multipart/mixed")
    get = running.client.get(path)
    assert (get.status_code, get.headers["allow"]) == (405, "POST, OPTIONS")
    assert running.client.head(path).status_code == 405
    assert running.client.post(path, json={}).status_code == 415


def test_a_body_that_is_too_long(running: Running) -> None:
    """A body over the limit is refused while it arrives, also when its length was not said."""

    def endless() -> Iterator[bytes]:
        for _ in range(12):
            yield bytes(1024 * 1024)

    headers = {"content-type": "multipart/mixed; boundary=x"}
    try:
        # On a connection of its own, since some servers close it afterwards without saying so.
        response = httpx.post(running.url, content=endless(), headers=headers, timeout=20)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert running.ask("GET /items").outcome == "committed"
        return  # the server has closed the connection before we could read, as it may
    assert response.status_code == 413
    assert response.json()["limit"] == "max_body_bytes"


def test_compressed_both_ways(running: Running) -> None:
    """A compressed batch is read, and a long response compressed for who accepts it."""
    answer = running.ask(
        "POST /items " + "x" * 3000,
        "GET /items",
        headers={"content-encoding": "gzip", "accept-encoding": "gzip"},
    )
    assert answer.outcome == "committed"
    assert answer.headers["content-encoding"] == "gzip"


def test_one_connection_many_batches(running: Running) -> None:
    """Batches one after the other on one kept-alive connection."""
    for number in range(3):
        assert running.ask(f"POST /items {number}").outcome == "committed"
    assert running.made.rows() == ["0", "1", "2"]


def test_a_client_that_hangs_up(running: Running, tmp_path: Path) -> None:
    """Closing the socket before COMMIT cancels the running call and rolls the batch back."""
    sign = tmp_path / "sign"
    hang = call("GET", f"{running.prefix}/hang?sign={sign}")
    content_type, body = write_batch([call("POST", running.prefix + "/items", b"pen"), hang])
    request = (
        b"POST %b/v1/api/batch HTTP/1.1\r\nHost: shop\r\nContent-Type: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (running.prefix.encode(), content_type, len(body), body)
    )
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(request)
        wait_until(lambda: sign.exists() and sign.read_text() == "hanging", "the call to run")
        assert running.made.rows() == []
    wait_until(lambda: sign.read_text() == "cancelled", "the call to be cancelled")
    assert running.ask("POST /items ink").outcome == "committed"
    assert running.made.rows() == ["ink"]
