"""What people are told after a batch was sent, also where the answer is odd or lost."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from atomicbatch.client.http_file import HttpFileError, read_http_file
from atomicbatch.client.send import SendError, Sent, send_file

PROBLEM = b"Content-Type: application/problem+json\r\n"


@contextlib.contextmanager
def answering(response: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """
    A server for one request: its address, and the head of what it was sent.

    It answers with ``response``, hangs up after ``b""``, and never answers after None.
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
) -> tuple[Sent, bytes]:
    """What came of sending ``text``, and the head of the request."""
    path = folder / "calls.http"
    path.write_text(text, encoding="utf-8")
    with answering(response) as (url, heads):
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
    assert not result.committed
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
    assert done.returncode != 0
    assert f"pip install 'atomicbatch[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
