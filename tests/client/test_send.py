"""What people are told after a batch was sent, also where the answer is odd or lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.client.send import ExitStatus, SendError, Sent, send_file

PROBLEM = b"Content-Type: application/problem+json\r\n"


@contextlib.contextmanager
def answering(
    response: bytes | None, *, then_hangs: bool = False
) -> Iterator[tuple[str, list[bytes]]]:
    """
    A server for one request: its address, and the head of what it was sent.

    It answers with ``response``, hangs up after ``b""``, and never answers after None. With
    ``then_hangs`` it keeps the connection open behind what it has sent.
    """
    heads: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"--\r\n"):
                    received += connection.recv(65536)
                heads.append(received.partition(b"\r\n\r\n")[0].lower())
                if response is None:
                    over.wait(20)
                elif response:
                    connection.sendall(response)
                    if then_hangs:
                        over.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        finally:
            over.set()
            thread.join(20)


def replied(*replies: bytes, outcome: bytes = b"rolled-back; failed=1; status=404") -> bytes:
    """A response with these replies."""
    parts = b"".join(b"--x\r\nContent-Type: application/http\r\n\r\n%b\r\n" % r for r in replies)
    body = parts + b"--x--\r\n"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=x\r\nBatch-Outcome: %b\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (outcome, len(body), body)
    )


def sent(
    folder: Path,
    response: bytes | None,
    text: str = "GET /a",
    *,
    headers: dict[str, str] | None = None,
    timeout_seconds: float = 20,
    then_hangs: bool = False,
) -> tuple[Sent, bytes]:
    """What came of sending ``text``, and the head of the request."""
    path = folder / "calls.http"
    path.write_text(text, encoding="utf-8")
    with answering(response, then_hangs=then_hangs) as (url, heads):
        result = send_file(
            path, url=url, variables={}, headers=headers or {}, timeout_seconds=timeout_seconds
        )
    return result, heads[0]


def printed(result: Sent) -> list[str]:
    return [line.text for line in result.lines(verbose=False)]


@pytest.mark.parametrize(("response", "seconds"), [(b"", 20), (None, 0.2)], ids=["hung-up", "late"])
def test_a_lost_answer_is_an_unknown_outcome(
    tmp_path: Path, response: bytes | None, seconds: float
) -> None:
    """A batch that went out may be stored: nobody is told that it could not be sent."""
    result, _ = sent(tmp_path, response, timeout_seconds=seconds)
    assert result.exit_status is ExitStatus.UNKNOWN
    *_, told, last = printed(result)
    assert last == "unknown"
    assert "stored whole or not at all" in told


def test_a_batch_that_never_went_out_is_not_unknown(tmp_path: Path) -> None:
    """No connection, an address that is none, a header that is none: nothing ran."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for url, headers in ((free, {}), ("ftp://x", {}), ("http://[", {}), (free, {"a": "b\nc"})):
        with pytest.raises(SendError, match="cannot send"):
            send_file(path, url=url, variables={}, headers=headers, timeout_seconds=20)


OK = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\nhi"
CREATED = b"HTTP/1.1 201 Created\r\nDate: x\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nDate: x\r\n\r\n"
NOT_STARTED = b"Content-Type: application/problem+json\r\nBatch-Outcome: not-started\r\n"
UNKNOWN = b"Content-Type: application/problem+json\r\nBatch-Outcome: unknown\r\n"
COMMITTED = b"Content-Type: application/json\r\nBatch-Outcome: committed\r\n"
GZIP = b"Content-Encoding: gzip\r\n"


def answer(status: bytes, headers: bytes, body: bytes = b"{}") -> bytes:
    """A response of any kind."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


GOOD = replied(OK, CREATED, outcome=b"committed")
SURE = {
    "committed": (0, GOOD),
    "rolled back": (1, replied(GONE, GONE)),
    "rolled back, another status": (1, replied(GONE, GONE).replace(b"200 OK", b"409 Conflict", 1)),
    "not started": (1, answer(b"400 Bad Request", NOT_STARTED)),
    "busy": (1, answer(b"503 Service Unavailable", NOT_STARTED)),
    "not found": (1, answer(b"404 Not Found", b"Content-Type: text/html\r\n", b"<h1>404</h1>")),
    "wrong method": (1, answer(b"405 Method Not Allowed", b"")),
    "not signed in": (1, answer(b"401 Unauthorized", b"")),
    "elsewhere": (1, answer(b"308 Permanent Redirect", b"Location: https://other/\r\n")),
}
UNSURE = {
    "said so": answer(b"503 Service Unavailable", UNKNOWN),
    "bad gateway": answer(b"502 Bad Gateway", b"Content-Type: text/html\r\n", b"<h1>502</h1>"),
    "gateway is busy": answer(b"503 Service Unavailable", b""),
    "gateway timeout": answer(b"504 Gateway Timeout", b""),
    "server error": answer(b"500 Internal Server Error", b""),
    "request timeout": answer(b"408 Request Timeout", b""),
    "a page": answer(b"200 OK", b"Content-Type: text/html\r\n", b"<p>hello</p>"),
    "created": answer(b"201 Created", b"Content-Type: application/json\r\n"),
    "committed, no replies": answer(b"200 OK", COMMITTED),
    "committed, garbled": GOOD.replace(b"--x\r\n", b"--y\r\n"),
    "committed, garbled in the middle": GOOD.replace(b"HTTP/1.1 201", b"HTXP/1.1 201"),
    "rolled back, garbled": replied(GONE, GONE).replace(b"--x\r\n", b"--y\r\n"),
    "committed, cut off": GOOD[:-20],
    "committed, no boundary": GOOD.replace(b"; boundary=x", b""),
    "committed, one reply": replied(OK, outcome=b"committed"),
    "committed, three replies": replied(OK, OK, OK, outcome=b"committed"),
    "committed, but a reply failed": replied(OK, GONE, outcome=b"committed"),
    "committed, but the response failed": GOOD.replace(b"200 OK", b"500 Oops", 1),
    "two outcomes": replied(OK, CREATED, outcome=b"committed\r\nBatch-Outcome: rolled-back"),
    "no outcome": replied(OK, CREATED).replace(b"Batch-Outcome", b"X-Outcome"),
    "an outcome of its own": replied(OK, CREATED, outcome=b"committed-ish"),
    "not compressed": GOOD.replace(b"Connection: close\r\n", GZIP),
    "no HTTP": b"220 mail.example.org ESMTP\r\n",
    "another batch's header": GOOD.replace(b"200 OK", b"2OO OK", 1),
    "a header too many": GOOD.replace(b"Connection", b"\0: x\r\nConnection"),
}


@pytest.mark.parametrize("name", SURE)
def test_an_answer_that_says_what_became_of_the_batch(tmp_path: Path, name: str) -> None:
    """0 where it was committed; 1 where it surely was not, the server's outcome or reason last."""
    status, response = SURE[name]
    result, _ = sent(tmp_path, response, "GET /a\n###\nPOST /b")
    assert result.exit_status == status, printed(result)
    assert ("no batch endpoint" in printed(result)[-1]) == (b"Batch-Outcome" not in response)
    if name == "elsewhere":
        assert printed(result)[-1].endswith("it is at https://other/")


@pytest.mark.parametrize("name", UNSURE)
def test_an_answer_that_leaves_it_open(tmp_path: Path, name: str) -> None:
    """The batch may be stored: 3, so that no script sends it again."""
    result, _ = sent(tmp_path, UNSURE[name], "GET /a\n###\nPOST /b")
    assert result.exit_status is ExitStatus.UNKNOWN, printed(result)
    *_, told, last = printed(result)
    assert last == "unknown"
    assert "look before you send it again" in told


@pytest.mark.parametrize("cut", [GOOD.index(b"Batch"), GOOD.index(b"--x"), len(GOOD) - 9])
def test_an_answer_that_stops_in_the_middle(tmp_path: Path, cut: int) -> None:
    """In its head, before its body, before its end: nobody waits longer than the time given."""
    text = "GET /a\n###\nPOST /b"
    result, _ = sent(tmp_path, GOOD[:cut], text, timeout_seconds=0.3, then_hangs=True)
    assert result.exit_status is ExitStatus.UNKNOWN, printed(result)


def test_the_exit_status_of_the_command(tmp_path: Path) -> None:
    """Whatever becomes of its output, which may have no reader or no letters."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a\n###\nPOST /b", encoding="utf-8")
    umlaut = GOOD.replace(b"hi", "ä".encode())
    for response, reads, status in (
        (umlaut, True, 0),
        (GOOD, False, 0),
        (UNSURE["no HTTP"], False, 3),
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


def test_a_problem_without_a_body_is_shown(tmp_path: Path) -> None:
    """The reply to HEAD has a problem's Content-Type, and no problem."""
    reply = b"HTTP/1.1 404 Not Found\r\n" + PROBLEM + b"Content-Length: 90\r\n\r\n"
    result, _ = sent(tmp_path, replied(reply), "HEAD /a")
    assert printed(result) == [
        "1. HEAD /a",
        "   404 Not Found",
        "rolled-back; failed=1; status=404",
    ]


@pytest.mark.parametrize("body", [b"oops", b"[1]", b'{"title": "x"}'])
def test_a_problem_of_another_form_is_shown_as_it_is(tmp_path: Path, body: bytes) -> None:
    """Other servers' problem documents are shown whole where they hold no detail."""
    reply = b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (PROBLEM, len(body), body)
    result, _ = sent(tmp_path, replied(reply))
    assert printed(result)[2] == f"   {body.decode()}"


def test_a_detail_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """The detail of a problem may quote what anybody has stored."""
    body = rb'{"detail": "bad \u001b[31m value"}'
    reply = b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (PROBLEM, len(body), body)
    result, _ = sent(tmp_path, replied(reply))
    assert printed(result)[2] == "   bad \N{REPLACEMENT CHARACTER}[31m value"


def test_the_request_has_one_content_type(tmp_path: Path) -> None:
    """--header cannot add a second one, however it is written."""
    reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    result, head = sent(
        tmp_path, replied(reply, outcome=b"committed"), headers={"Content-Type": "text/plain"}
    )
    assert result.committed
    assert head.count(b"content-type:") == 1
    assert b"content-type: multipart/mixed" in head


def test_line_separators_within_a_line_are_text(tmp_path: Path) -> None:
    """Only the line ends of files end a line; a JSON string may hold the others."""
    body = '{"a": "x\u2028y\u0085z\x0c"}'
    path = tmp_path / "calls.http"
    path.write_text(f"POST /a\n\n{body}\n", encoding="utf-8")
    assert read_http_file(path).calls[0].body == body.encode()


def test_a_script_needs_no_blank(tmp_path: Path) -> None:
    """A response handler is refused however it is written, never sent as part of a body."""
    path = tmp_path / "calls.http"
    path.write_text("POST /a\n\n{}\n\n>{% client.log(1) %}\n")
    with pytest.raises(HttpFileError, match=":5: scripts"):
        read_http_file(path)


@pytest.mark.slow
@pytest.mark.parametrize(("package", "extra"), [("click", "server"), ("httpx", "client")])
def test_a_missing_package_names_the_extra(tmp_path: Path, package: str, extra: str) -> None:
    """Without click nothing runs, without httpx nothing is sent; each says what to install."""
    path = tmp_path / "calls.http"
    path.write_text("GET /a")
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        f"sys.argv = ['atomicbatch', 'send', {str(path)!r}]; "
        "from atomicbatch.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, "not sent"
    assert f"pip install 'atomicbatch[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
