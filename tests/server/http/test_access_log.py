"""The access log: what a line holds and never holds, and that it makes nobody wait."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atomicbatch.limits import ServerLimits
from atomicbatch.server.http.access_log import AccessLog, LineWriter, LogHandler
from atomicbatch.server.principal import Principal
from tests.server.conftest import Serve
from tests.server.http.test_connection import GET, HOST, Client, until
from tests.server.processes import serving
from tests.server.served import call, make_shop, on_its_own

BATCH = "/v1/api/batch"


class Pipe:
    """A pipe as standard error is one: what a writer puts in, read when it suits us."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.writer = LineWriter(self.writing)

    def line(self) -> str:
        """The next line, without its time and client."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.reading, 1)
        text = line.decode().rstrip("\n")
        matched = re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1 (.*) \d+\.\dms (\d+)B", text
        )
        assert matched, text
        return matched[1]

    def close(self) -> None:
        self.writer.close()
        os.close(self.reading)
        with contextlib.suppress(OSError):
            os.close(self.writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def url(sqlite_path: Path) -> str:
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


def test_a_line_for_each_request(url: str, serve: Serve, pipe: Pipe) -> None:
    """Its method, path and status; of a batch, what became of it, and how many calls it has."""
    served = serve(url, log=AccessLog(pipe.writer))
    item = {"sku": "a", "name": "secret-name"}
    headers = {"authorization": "Bearer secret-token", "cookie": "secret=1"}
    served.request("POST", "/v1/api/items?select=sku", item, **headers)
    assert pipe.line() == "POST /v1/api/items 201"
    served.request("HEAD", "/v1/api/items/1?x=secret")
    assert pipe.line() == "HEAD /v1/api/items/1 400"
    served.request("GET", "/healthz")
    assert pipe.line() == "GET /healthz 200"
    served.batch(call("GET", "/v1/api/items/1"), call("GET", "/v1/api/items/2"), **headers)
    assert pipe.line() == f"POST {BATCH} 200 committed calls=2"
    served.batch(*[call("POST", "/v1/api/items", item)] * 3)
    assert pipe.line() == f"POST {BATCH} 200 rolled-back failed=1 status=409 calls=3"
    served.client.post(BATCH, content=b"x", headers={"content-type": "multipart/mixed"})
    assert pipe.line() == f"POST {BATCH} 400 not-started"
    served.request("POST", "/v1/api/items", item, host="evil.example")
    assert pipe.line() == "POST /v1/api/items 421"
    served.request("POST", BATCH, item, sec_fetch_site="cross-site")
    assert pipe.line() == f"POST {BATCH} 403 not-started"


def test_who_has_signed_in_is_told(url: str, serve: Serve, pipe: Pipe) -> None:
    """By name, which cannot forge a line; of a batch, who has sent it."""
    served = serve(url, log=AccessLog(pipe.writer), identify=lambda _: Principal("ann\nb"))
    served.request("GET", "/v1/api/items/1")
    assert pipe.line() == "GET /v1/api/items/1 200 user=ann\\x0ab"
    served.batch(call("GET", "/v1/api/items/1"))
    assert pipe.line() == f"POST {BATCH} 200 committed calls=1 user=ann\\x0ab"


def test_a_batch_that_was_run_again_says_how_often(
    postgresql_url: str, serve: Serve, pipe: Pipe
) -> None:
    """Attempts are told where there was more than one."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "CREATE SEQUENCE tries",
        # Sequences are not rolled back: the first attempt meets a conflict, the second does not.
        "CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') = 1 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF;"
        " RETURN NEW; END $$",
        "CREATE TRIGGER once BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION once()",
    )
    served = serve(postgresql_url, log=AccessLog(pipe.writer))
    response, _ = served.batch(call("POST", "/v1/api/t", {"id": 1}))
    assert response.headers["batch-attempts"] == "2"
    assert pipe.line() == f"POST {BATCH} 200 committed calls=1 attempts=2"


def test_what_a_connection_refuses_is_told_too(url: str, serve: Serve, pipe: Pipe) -> None:
    """Heads that are none, too long or too slow, and clients that hang up."""
    served = serve(url, log=AccessLog(pipe.writer), server_limits=ServerLimits(max_head_bytes=5000))

    def send(data: bytes) -> Client:
        client = Client(served.port)
        client.send(data)
        return client

    with contextlib.closing(send(b"BLAH\r\n\r\n").socket):
        assert pipe.line() == "- - 400 not-started"
    with contextlib.closing(send(b"GET /long HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 2000).socket):
        assert pipe.line() == "- /long 431 not-started"
    post = b"POST /v1/api/items HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{"
    with contextlib.closing(send(post).socket):
        until(lambda: len(served.traffic.running) == 1)
    assert pipe.line() == "POST /v1/api/items hung-up"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b'/a"b', r"/a\x22b"),
        (b"/a\\b", r"/a\x5cb"),
        (b"/a%0a%1b[31m", "/a%0a%1b[31m"),
        (b"http://user:secret@localhost/x", "http://user:secret@localhost/x"),
        (b"/" + b"x" * 900, "/" + "x" * 199 + "..."),
    ],
)
def test_a_path_cannot_forge_a_line(
    url: str, serve: Serve, pipe: Pipe, path: bytes, shown: str
) -> None:
    """One line of bounded length in visible ASCII, whatever the path."""
    served = serve(url, log=AccessLog(pipe.writer))
    client = Client(served.port)
    with contextlib.closing(client.socket):
        client.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
        client.answer()
    line = pipe.line()
    assert "secret" not in line
    if "secret" not in shown:
        assert line == f"GET {shown} 404"


def test_a_log_that_nobody_reads_makes_nobody_wait(url: str, serve: Serve, pipe: Pipe) -> None:
    """Requests are answered, memory is bounded, and what was lost is counted."""
    served = serve(url, log=AccessLog(pipe.writer))
    logger = logging.getLogger("atomicbatch.test")
    handler = LogHandler(pipe.writer)
    logger.addHandler(handler)
    client = Client(served.port)
    try:
        began = time.monotonic()
        long = GET.replace(b"items/1?select=sku", b"x" * 150) + b"\r\n"
        while not pipe.writer.dropped:
            client.send(long * 100)
            for _ in range(100):
                assert client.answer()[0] == 404
            logger.error("y" * 100_000)
            assert time.monotonic() - began < 60
        for _ in range(300):
            client.send(GET + b"\r\n")
            assert client.answer()[0] == 200
    finally:
        logger.removeHandler(handler)
        client.hang_up()
    seen = b""
    while b"lines of the log were dropped here" not in seen:
        seen += os.read(pipe.reading, 65536)
    found = re.search(rb"(\d+) lines of the log were dropped here", seen)
    assert found
    assert int(found[1]) > 100
    assert len(seen) < 3 << 20, "the buffer has no bound"
    assert b"characters ..." in seen, "a record of the log has no bound"


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_the_command_writes_it_to_standard_error(url: str, tmp_path: Path, quiet: bool) -> None:
    """--quiet turns the access log off, and nothing else."""
    options = ["--quiet"] if quiet else []
    with serving(url, *options, "--workers", "2", folder=tmp_path) as process:
        for _ in range(3):
            assert httpx.get(f"{process.address}/v1/api/items/1?select=sku").status_code == 200
        os.rename(url[10:], tmp_path / "away")
        httpx.get(f"{process.address}/readyz", timeout=20)
        assert process.stop(within=30)[0] in (0, 1)
        lines = process.log().splitlines()
    shown = [line for line in lines if " GET /v1/api/items/1 200 " in line]
    assert len(shown) == (0 if quiet else 3)
    assert not [line for line in lines if "select" in line]


def test_a_log_whose_reader_is_gone_is_no_error(url: str, serve: Serve, pipe: Pipe) -> None:
    """A closed pipe (``| head``) ends the log, not the server."""
    served = serve(url, log=AccessLog(pipe.writer))
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.reading)  # the pipe has no reader now
    for _ in range(3):
        assert served.request("GET", "/v1/api/items/1").status_code == 200
        time.sleep(0.1)  # each is written on its own
    assert served.request("GET", "/v1/api/items/1").status_code == 200
