"""Asks a Django project in-process, by either gateway."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from atomicbatch import Call, Headers
from atomicbatch.wire.batch import write_batch
from tests.asgi import asking as asgi
from tests.endpoints.asking import Answer, call
from tests.wsgi import asking as wsgi

_TABLES = (
    "shop_item",
    "django_admin_log",
    "django_session",
    "authtoken_token",
    "auth_user",
)


class Project:
    """
    The project behind one gateway.

    Attributes:
        gateway: "wsgi", "asgi" or "asgi with sync middleware".
    """

    def __init__(self, gateway: str, database: str) -> None:
        self.gateway = gateway
        self.database = database
        self.app: Any = WSGIHandler() if gateway == "wsgi" else ASGIHandler()

    @classmethod
    @contextmanager
    def behind(cls, gateway: str, database: str, **changed: Any) -> Iterator[Project]:
        """Make it with other settings, which hold for the length of the block."""
        changed.setdefault("MIDDLEWARE", settings.MIDDLEWARE)
        if gateway == "asgi with sync middleware":
            changed["MIDDLEWARE"] = [*changed["MIDDLEWARE"], settings.SYNC_ONLY]
        with override_settings(**changed):
            yield cls(gateway, database)

    def ask(
        self,
        *calls: Call,
        headers: Headers = (),
        path: str = "/v1/api/batch",
        coded: Callable[[bytes], bytes] = bytes,
        **outer: Any,
    ) -> Answer:
        """Send a batch and wait for its answer."""
        content_type, body = write_batch(calls)
        own = ((b"content-type", content_type), *headers)
        return self._send(path, own, coded(body), **outer)

    def _send(self, path: str, headers: Headers, body: bytes, **outer: Any) -> Answer:
        if self.gateway == "wsgi":
            return wsgi.serve(self.app, wsgi.environ_of(path, headers, body, **outer)).answer
        request = asgi.Request([body])
        asyncio.run(self.app(asgi.scope_of(path, headers, **outer), request.receive, request.send))
        # Django writes names as they are usually written, under ASGI too.
        answer = request.answer
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, lowered, answer.body)

    def batch(self, *targets: str, **outer: Any) -> Answer:
        """Send a batch of calls like ``POST /items pen``."""
        return self.ask(*(call_of(target) for target in targets), **outer)

    def plain(self, target: str, headers: Headers = ()) -> Answer:
        """Send one request that is no batch."""
        one = call_of(target)
        return self._send(one.path.decode(), headers, one.body, method=one.method)

    def empty(self) -> None:
        """Forget all that is stored."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")

    def rows(self, query: str = "SELECT name FROM shop_item ORDER BY name") -> list[Any]:
        """What another program sees in the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for row in connection.execute(query)]


def call_of(target: str) -> Call:
    """Read a call like ``POST /items pen``."""
    method, path, *body = target.split(" ")
    return call(method, path, " ".join(body).encode())
