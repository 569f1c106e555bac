"""``atomicbatch send``: what it prints, and the exit status, which tells the batch's fate."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.running import run
from tests.client.answering import GOOD, answering
from tests.databases import free_port

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
NO_HTTP = b"220 mail.example.org ESMTP\r\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sample shop, served by the command; its address."""
    path = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    assert run("sample", str(path))[0] == 0
    command = [sys.executable, "-m", "atomicbatch", "serve", str(path), "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        assert process.wait(20) == 0


def test_sending_a_file_that_commits(shop: str, tmp_path: Path) -> None:
    """Each reply is printed, the outcome last; the exit status is 0."""
    example = shutil.copy(EXAMPLES / "order.http", tmp_path)
    status, printed, errors = run("send", str(example), "--var", f"host={shop}")
    assert (status, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == "1. POST /v1/api/orders  (The order)"
    assert lines[1] == "   201 Created"
    assert lines[-1] == "committed"
    assert "\x1b" not in printed, "colours are for terminals"
    assert httpx.get(f"{shop}/v1/api/orders/100").status_code == 200


def test_sending_a_file_that_fails(shop: str) -> None:
    """The exit status is 1, and nothing is stored."""
    example = str(EXAMPLES / "order-fails.http")
    status, printed, _ = run("send", example, "--var", f"host={shop}", "-v")
    assert status == 1
    assert printed.splitlines()[-1] == "rolled-back; failed=2; status=409"
    assert "content-type: application/problem+json" in printed
    assert httpx.get(f"{shop}/v1/api/orders/101").status_code == 404


def test_headers_apply_to_every_call(shop: str, tmp_path: Path) -> None:
    """--header goes on the outer request, which every call inherits from."""
    path = tmp_path / "two.http"
    path.write_text("GET /v1/api/orders/1\n###\nGET /v1/api/orders/2\n")
    status, printed, _ = run("send", str(path), "--url", shop, "--header", 'If-Match: "old"')
    assert status == 1
    assert "412 Precondition Failed" in printed


def test_what_cannot_be_sent_is_status_2(shop: str, tmp_path: Path) -> None:
    """No server, nothing there, an unknown file or variable, no batch endpoint."""
    path = tmp_path / "one.http"
    path.write_text("GET /v1/api/orders\n")
    status, _, errors = run("send", str(path))
    assert (status, "names no server" in errors) == (2, True)
    status, _, errors = run("send", str(path), "--url", "http://127.0.0.1:1")
    assert (status, "cannot send" in errors) == (2, True)
    assert run("send", str(tmp_path / "missing.http"))[0] == 2
    path.write_text("GET /{{x}}\n")
    status, _, errors = run("send", str(path), "--url", shop)
    assert (status, "one.http:1" in errors) == (2, True)
    path.write_text("GET /v1/api/orders\n")
    status, printed, _ = run("send", str(path), "--url", shop, "--path", "/nowhere")
    assert (status, "404" in printed) == (1, True)
    assert printed.splitlines()[-1].startswith("not committed: this is no batch endpoint")


def test_another_server_s_answer_is_not_believed(tmp_path: Path) -> None:
    """Fewer replies than calls: it says committed, and nobody knows of what."""

    class Liar(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"--x\r\n\r\nHTTP/1.1 200 OK\r\nDate: x\r\n\r\n\r\n--x--\r\n"
            self.send_response(200)
            self.send_header("Content-Type", "multipart/mixed; boundary=x")
            self.send_header("Batch-Outcome", "committed")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        path = tmp_path / "two.http"
        path.write_text("GET /a\n###\nGET /b\n")
        url = f"http://127.0.0.1:{server.server_port}"
        status, output, errors = run("send", str(path), "--url", url)
    assert (status, errors) == (3, "")
    assert "1 replies came for 2 calls" in output
    assert output.endswith("unknown\n")


def test_what_is_given_twice_or_would_be_lost(tmp_path: Path) -> None:
    """Of two headers of one name only one would count; a query of --url would take the path in."""
    path = tmp_path / "one.http"
    path.write_text("DELETE /v1/api/orders?id=eq.{{id}}\n")
    for arguments, told in [
        (["--header", "Prefer: max-affected=1", "--header", "prefer: return=minimal"], "twice"),
        (["--var", "id=1", "--var", "id=2"], "twice"),
        (["--var", "id=1", "--url", "http://127.0.0.1:1/?x=1"], "has a query"),
    ]:
        status, _, errors = run("send", str(path), "--url", "http://127.0.0.1:1", *arguments)
        assert (status, told in errors) == (2, True)
    status, printed, _ = run("check", str(path), "--var", "id= 1")
    assert (status, printed) == (0, "ok: 1 call\n1. DELETE /v1/api/orders?id=eq.%201\n")


def test_the_exit_status_of_the_command(tmp_path: Path) -> None:
    """Whatever becomes of its output, which may have no reader or no letters."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a\n###\nPOST /b", encoding="utf-8")
    umlaut = GOOD.replace(b"hi", "ä".encode())
    for response, reads, status in (
        (umlaut, True, 0),
        (GOOD, False, 0),
        (NO_HTTP, False, 3),
    ):
        with answering(response) as (url, _):
            command = [sys.executable, "-m", "atomicbatch", "send", str(path), "--url", url]
            ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=ascii_only) as process:
                assert process.stdout is not None
                if reads:
                    assert process.stdout.read().endswith(b"committed\n")
                process.stdout.close()
                assert process.wait(30) == status


def test_who_stops_waiting_knows_nothing(tmp_path: Path) -> None:
    """Ctrl-C behind a batch that went out is 3, not "it was not committed"."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a", encoding="utf-8")
    with answering(None) as (url, heads):
        command = [sys.executable, "-m", "atomicbatch", "send", str(path), "--url", url]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            # Children of a process in the background inherit that it is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            deadline = time.monotonic() + 30
            while not heads and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(30) == 3
            finally:
                process.kill()
