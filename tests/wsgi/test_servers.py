"""The same app behind real servers: gunicorn's sync and gthread workers, and waitress."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from atomicbatch.wire.batch import write_batch
from tests.endpoints.asking import Answer, call
from tests.wsgi.shop import Made

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GUNICORN = "gunicorn tests.wsgi.shop:app --bind 127.0.0.1:{port} --access-logfile -"
SERVERS = {
    "sync": GUNICORN + " --workers 2",
    "gthread": GUNICORN + " --worker-class gthread --threads 8",
    "gevent": GUNICORN + " --worker-class gevent",
    "waitress": "waitress --listen 127.0.0.1:{port} --threads 8 tests.wsgi.shop:app",
}
# server, form of the app, options, what the environment adds, prefix of the URLs that clients use
SETTINGS: list[tuple[str, str, str, dict[str, str], str]] = [
    ("sync", "outermost", "", {"SCRIPT_NAME": "/front"}, "/front"),
    ("gthread", "mounted", "", {}, "/api"),
    ("gevent", "outermost", "", {}, ""),
    ("waitress", "mounted", "--url-prefix /front", {}, "/front/api"),
]
# Where they differ from those in nothing but what they leave out: for ``make prove``.
MORE_SETTINGS: list[tuple[str, str, str, dict[str, str], str]] = [
    ("sync", "outermost", "", {}, ""),
    ("waitress", "outermost", "", {}, ""),
]


class Running:
    """A server in a process of its own."""

    def __init__(self, port: int, prefix: str, made: Made) -> None:
        self.port = port
        self.prefix = prefix
        self.made = made
        self.url = f"http://127.0.0.1:{port}{prefix}/v1/api/batch"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}{prefix}", timeout=20)

    def batch(self, *targets: str) -> tuple[dict[str, str], bytes]:
        calls = []
        for target in targets:
            method, path, *body = target.split(" ")
            calls.append(call(method, self.prefix + path, " ".join(body).encode()))
        content_type, content = write_batch(calls)
        return {"content-type": content_type.decode()}, content

    def ask(self, *targets: str, **headers: str) -> Answer:
        own, content = self.batch(*targets)
        return answered(
            self.client.post("/v1/api/batch", content=content, headers={**own, **headers})
        )


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
    ids=[f"{some[0]}-{some[1]}-{some[4]}" for some in (*SETTINGS, *MORE_SETTINGS)],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    server, form, options, more, prefix = request.param
    folder = tmp_path_factory.mktemp("shop")
    made = Made(form, str(folder / "shop.sqlite"))
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    log = (folder / "log").open("wb")
    command, *arguments = SERVERS[server].format(port=port).split()
    process = subprocess.Popen(
        [sys.executable, "-m", command, *options.split(), *arguments],
        cwd=ROOT,
        env=os.environ | {"SHOP_DB": made.database, "SHOP_FORM": form} | more,
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
    """A call's environ says of path, prefix, host and scheme what the same request's says."""
    plain = running.client.get("/echo/a%20b?x=1").json()
    called = running.ask("GET /echo/a%20b?x=1").echoed
    for name in ("method", "path", "root_path", "query", "url", "scheme", "server", "raw_path"):
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
    """OPTIONS, other methods, other media types need no body to be read."""
    path = "/v1/api/batch"
    options = running.client.options(path)
    assert (options.status_code, options.headers["accept-post"]) == (200, "multipart/mixed")
    get = running.client.get(path)
    assert (get.status_code, get.headers["allow"]) == (405, "POST, OPTIONS")
    assert running.client.head(path).status_code == 405
    assert running.client.post(path, json={}).status_code == 415


def test_a_chunked_body(running: Running) -> None:
    """A body without a length is read to its end, and no further than the limit."""
    own, content = running.batch("POST /items pen")
    pieces = (content[start : start + 50] for start in range(0, len(content), 50))
    response = running.client.post("/v1/api/batch", content=pieces, headers=own)
    assert response.headers["batch-outcome"] == "committed"
    assert running.made.rows() == ["pen"]

    endless = (bytes(1024 * 1024) for _ in range(12))
    try:
        # On a connection of its own, since servers close it afterwards.
        response = httpx.post(running.url, content=endless, headers=own, timeout=20)
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return  # the server has closed the connection before we could read, as it may
    assert response.status_code == 413
    assert response.json()["limit"] == "max_body_bytes"


def test_compressed_both_ways(running: Running) -> None:
    """A compressed batch is read, and a long response compressed for who accepts it."""
    own, content = running.batch("POST /items " + "x" * 3000, "GET /items")
    headers = own | {"content-encoding": "gzip", "accept-encoding": "gzip"}
    response = running.client.post("/v1/api/batch", content=gzip.compress(content), headers=headers)
    assert response.headers["batch-outcome"] == "committed"
    assert response.headers["content-encoding"] == "gzip"


def test_one_connection_many_batches(running: Running) -> None:
    """Batches one after the other on one kept-alive connection."""
    for number in range(3):
        assert running.ask(f"POST /items {number}").outcome == "committed"
    assert running.made.rows() == ["0", "1", "2"]


def test_a_crowd(running: Running) -> None:
    """Whatever is answered committed is stored, whatever else is not; some are committed."""
    batches = [(f"POST /items {n}a", f"POST /items {n}b") for n in range(24)]
    failing = {n for n in range(24) if n % 3 == 0}

    def send(number: int) -> Answer:
        own, content = running.batch(
            *batches[number], *(["GET /boom"] if number in failing else [])
        )
        return answered(httpx.post(running.url, content=content, headers=own, timeout=30))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(24)))
    committed = {n for n, answer in enumerate(answers) if answer.outcome == "committed"}
    assert committed
    assert not committed & failing
    assert running.made.rows() == sorted(f"{n}{x}" for n in committed for x in "ab")
