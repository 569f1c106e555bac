"""The command line as users meet it: a process, its output and its exit status."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.databases import free_port

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``atomicbatch ...``."""
    done = subprocess.run(
        [sys.executable, "-m", "atomicbatch", *arguments],
        input=stdin,
        capture_output=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


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


def test_check(tmp_path: Path) -> None:
    """0 and the calls for a batch, 1 and the place for anything else; - is standard input."""
    good = b"--b\r\n\r\nGET /a HTTP/1.1\r\n\r\n--b--\r\n"
    assert run("check", "-", stdin=good) == (0, "ok: 1 call\n1. GET /a\n", "")
    path = tmp_path / "bad.batch"
    path.write_bytes(good.replace(b"/a", b"http://x/a"))
    status, printed, _ = run("check", str(path))
    assert (status, printed.splitlines()[-1].strip()) == (1, "^")
    status, printed, _ = run("check", "-", "--content-type", "text/plain", stdin=good)
    assert status == 1


def test_the_sample_is_never_made_over_a_file(tmp_path: Path) -> None:
    """A file that exists keeps its content."""
    path = tmp_path / "mine.sqlite"
    path.write_text("mine")
    status, _, errors = run("sample", str(path))
    assert (status, "exists already" in errors) == (2, True)
    assert path.read_text() == "mine"
    assert run("sample", str(tmp_path / "no" / "folder.sqlite"))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "missing.sqlite"], "there is no file missing.sqlite"),
        (["serve", "x", "--host", "0.0.0.0"], "--allow-anonymous"),
        (["serve", "x", "--limit", "max_calls"], "must be a number"),
        (["serve", "x", "--limit", "nope=1"], "no limit 'nope'"),
        (["serve", "x", "--limit", "max_calls=0"], "must be positive"),
        (["serve", "x", "--workers", "0"], "--workers"),
        (["serve", "x", "--port", "70000"], "--port"),
        (["serve"], "DATABASE"),
        (["send", __file__, "--var", "y"], "'y' is no 'name=value'"),
        (["nope"], "nope"),
    ],
)
def test_mistakes_are_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    """Exit status 2, and what is wrong on standard error."""
    status, printed, errors = run(*arguments, folder=tmp_path)
    assert (status, printed) == (2, "")
    assert told in errors
    assert "Traceback" not in errors


def test_version_and_help() -> None:
    """The version alone, and every command in the help."""
    assert run("--version")[1].startswith("atomicbatch 0.")
    _, printed, _ = run("-h")
    for command in ("serve", "send", "check", "sample"):
        assert command in printed
