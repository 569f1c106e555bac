"""A server that answers one batch with given bytes, and what a client makes of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from atomicbatch.client.answer import Answer
from atomicbatch.client.http_file import HttpFile, read_http_file
from atomicbatch.client.report import answer_lines
from atomicbatch.client.send import send_calls


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
    response: bytes | None,
    text: str = "GET /a",
    *,
    headers: dict[str, str] | None = None,
    timeout_seconds: float = 20,
    then_hangs: bool = False,
) -> tuple[HttpFile, Answer, bytes]:
    """What was sent, what came of it, and the head of the request."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "calls.http"
        path.write_text(text, encoding="utf-8")
        file = read_http_file(path)
    with answering(response, then_hangs=then_hangs) as (url, heads):
        answer = send_calls(
            file.calls, server=url, headers=headers, timeout_seconds=timeout_seconds
        )
    return file, answer, heads[0]


def printed(file: HttpFile, answer: Answer) -> list[str]:
    """The lines for people."""
    return [line.text for line in answer_lines(file, answer, verbose=False)]


OK = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\nhi"
CREATED = b"HTTP/1.1 201 Created\r\nDate: x\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nDate: x\r\n\r\n"


def response(status: bytes, headers: bytes, body: bytes = b"{}") -> bytes:
    """A response of any kind."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


GOOD = replied(OK, CREATED, outcome=b"committed")
