"""Requests to a Django project in this process, by WSGI or ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from atomicbatch.testing import Answer, read_answer
from atomicbatch.wire.batch import write_batch
from tests.asgi.asking import Request, scope_of
from tests.django.patterns.settings import Variant
from tests.endpoints.asking import Answer as Plain
from tests.endpoints.asking import call
from tests.wsgi.asking import environ_of

_PATH = "/v1/api/batch"
Asked = tuple[int, str]
"""Status and body of a reply; status 0: the app has sent none, or has broken off."""


class Project:
    """
    The project as its clients see it.

    Args:
        variant: Its gateway is looked at.
    """

    def __init__(self, variant: Variant) -> None:
        self._ask: Callable[[str, tuple[tuple[bytes, bytes], ...], bytes], Plain]
        if variant.gateway == "wsgi":
            self._app: Any = get_wsgi_application()
            self._ask = self._ask_wsgi
        else:
            self._app = get_asgi_application()
            self._loop = asyncio.new_event_loop()
            self._ask = self._ask_asgi

    def ask(self, name: str) -> Asked:
        """Call one pattern, alone."""
        try:
            answer = self._ask(f"/{name}", (), b"")
        except Exception:
            return 0, ""
        return answer.status, answer.body.decode()

    def ask_batch(self, *names: str) -> Answer:
        """Call several in a batch."""
        content_type, body = write_batch([call("POST", f"/{name}") for name in names])
        answer = self._ask(_PATH, ((b"content-type", content_type),), body)
        return read_answer(answer.headers, answer.body)

    def _ask_wsgi(self, path: str, headers: Any, body: bytes) -> Plain:
        begun: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[..., None]:
            begun[:] = [int(status[:3]), headers]
            return lambda _: None

        pieces = self._app(environ_of(path, headers, body), start_response)
        try:
            whole = b"".join(pieces)
        finally:
            pieces.close()
        return Plain(begun[0], {name.lower(): value for name, value in begun[1]}, whole)

    def _ask_asgi(self, path: str, headers: Any, body: bytes) -> Plain:
        request = Request([body])
        own = ((b"content-length", str(len(body)).encode()), *headers)
        self._loop.run_until_complete(self._app(scope_of(path, own), request.receive, request.send))
        return request.answer

    def close(self) -> None:
        """End its event loop."""
        if (loop := getattr(self, "_loop", None)) is not None:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
