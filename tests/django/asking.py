"""Asks a Django project in-process, by either gateway."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from atomicbatch import Call, Headers
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

    def ask(self, *calls: Call, headers: Headers = (), **outer: Any) -> Answer:
        """Send a batch and wait for its answer."""
        if self.gateway == "wsgi":
            return wsgi.ask(self.app, *calls, headers=headers, **outer)
        return _lowered(asyncio.run(asgi.ask(self.app, *calls, headers=headers, **outer)))

    def batch(self, *targets: str, **outer: Any) -> Answer:
        """Send a batch of calls like ``POST /items pen``."""
        return self.ask(*(call_of(target) for target in targets), **outer)

    def plain(self, target: str, headers: Headers = ()) -> Answer:
        """Send one request that is no batch."""
        one = call_of(target)
        if self.gateway == "wsgi":
            environ = wsgi.environ_of(one.path.decode(), headers, one.body, method=one.method)
            return wsgi.serve(self.app, environ).answer
        request = asgi.Request([one.body])
        scope = asgi.scope_of(one.path.decode(), headers, method=one.method)
        asyncio.run(self.app(scope, request.receive, request.send))
        return _lowered(request.answer)

    def empty(self) -> None:
        """Forget all that is stored."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")

    def rows(self, query: str = "SELECT name FROM shop_item ORDER BY name") -> list[Any]:
        """What another program sees in the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for row in connection.execute(query)]


def _lowered(answer: Answer) -> Answer:
    """Django writes names as they are usually written, under ASGI too."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, headers, answer.body)


def call_of(target: str) -> Call:
    """Read a call like ``POST /items pen``."""
    method, path, *body = target.split(" ")
    return call(method, path, " ".join(body).encode())
