"""Asks a WSGI app in-process, as a server does."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

from atomicbatch import Call, Headers
from atomicbatch.wire.batch import write_batch
from tests.endpoints.asking import Answer, call

__all__ = ["Answer", "Served", "ask", "call", "environ_of", "serve"]


def environ_of(
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    *,
    method: str = "POST",
    query: bytes = b"",
    root_path: str = "",
    **more: Any,
) -> dict[str, Any]:
    """An environ as gunicorn makes it; ``path`` holds the prefix ``root_path``, as it was sent."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": root_path,
        "PATH_INFO": path.removeprefix(root_path),
        "QUERY_STRING": query.decode("latin-1"),
        "RAW_URI": path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SERVER_SOFTWARE": "tests",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "shop.example",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _FileWrapper,
        "gunicorn.socket": object(),
        "werkzeug.socket": object(),
    }
    for name, value in headers:
        key = name.decode().upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = value.decode("latin-1")
    return environ | more


class _FileWrapper:
    """A server's; what it is given never comes back as bytes."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        raise AssertionError("a file would be sent by the server itself")


class Served:
    """
    One request served: what the app has done, as its server sees it.

    Attributes:
        closed: How often the app's iterable was closed.
    """

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.pieces: list[bytes] = []
        self.closed = 0

    def start_response(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        self.status, self.headers = status, headers
        return self.pieces.append

    @property
    def answer(self) -> Answer:
        headers = {name.lower(): value for name, value in self.headers}
        return Answer(int(self.status[:3]), headers, b"".join(self.pieces))


def serve(app: Any, environ: dict[str, Any]) -> Served:
    """Serve one request."""
    served = Served()
    pieces: Iterable[bytes] = app(environ, served.start_response)
    try:
        served.pieces += pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
            served.closed += 1
    return served


def ask(
    app: Any,
    *calls: Call,
    headers: Headers = (),
    path: str = "/v1/api/batch",
    **environ: Any,
) -> Answer:
    """Send a batch and wait for its answer."""
    content_type, body = write_batch(calls)
    own = ((b"content-type", content_type), *headers)
    return serve(app, environ_of(path, own, body, **environ)).answer
