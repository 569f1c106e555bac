"""
The ASGI application: every request becomes a batch, of one call or of many.

There is one path to the database: a plain request is a batch of one call, whose reply is sent
as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from atomicbatch.asgi.body import read_upload
from atomicbatch.engine.current import inside_batch
from atomicbatch.errors import AtomicBatchError
from atomicbatch.exchange import EndpointOptions, Response, check_head, nested_batch
from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.model import Reply
from atomicbatch.server.database.database import Database
from atomicbatch.server.http.access_log import ENTRY, Entry
from atomicbatch.server.http.answering import (
    Answer,
    Answering,
    Asked,
    BatchAnswering,
    CallAnswering,
)
from atomicbatch.server.http.batches import Batches
from atomicbatch.server.http.hang_up import Receive, unless_hung_up
from atomicbatch.server.http.hosts import Hosts
from atomicbatch.server.http.readiness import Readiness
from atomicbatch.server.http.replies import NOT_STARTED, STOPPING, Send, send_reply
from atomicbatch.server.pages.fixed import HEALTHY, fixed_replies
from atomicbatch.server.principal import Identify, anonymous
from atomicbatch.server.rows.api import Api
from atomicbatch.server.schema.tables import Schema

Scope = MutableMapping[str, Any]

BASE_PATH = "/v1/api"
BATCH_PATH = "/v1/api/batch"
_BATCH = BATCH_PATH.encode()
HEALTH_PATH = b"/healthz"
"""Answered also while no other request is: it asks for nothing."""


class Application:
    """
    The server's ASGI application.

    Args:
        database: What is served.
        limits: Bounds on a batch.
        server_limits: The bounds of the whole server; the batch endpoint tells them to OPTIONS.
        address: Where it is served, for the examples on its page.
        hosts: For which hosts, and from which pages, requests are taken.
        check_room: Called right before a batch runs; raises if no answer may be made now.
        identify: Says who asks, for each request and each call.

    Attributes:
        limits: Bounds on a batch.
        draining: New requests are refused with 503; set when the server is told to stop.
    """

    def __init__(
        self,
        database: Database,
        *,
        limits: Limits | None = None,
        server_limits: ServerLimits | None = None,
        address: str = "http://127.0.0.1:8000",
        hosts: Hosts | None = None,
        check_room: Callable[[], None] | None = None,
        identify: Identify = anonymous,
    ) -> None:
        self._database = database
        self._hosts = hosts or Hosts()
        self.limits = limits or Limits()
        self._options = EndpointOptions(path=BATCH_PATH, limits=self.limits)
        self._address = address
        self._identify = identify
        self._batches = Batches(database, self._make_api, check_room=check_room or (lambda: None))
        self._server_limits = server_limits or ServerLimits()
        self._readiness = Readiness(database)
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def _make_api(self, schema: Schema) -> Api:
        read_only = self._database.read_only
        pages = fixed_replies(
            schema,
            base_path=BASE_PATH,
            batch_path=BATCH_PATH,
            address=self._address,
            limits=self.limits,
            read_only=read_only,
        )
        return Api(
            schema, base_path=BASE_PATH, pages=pages, read_only=read_only, limits=self.limits
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def close(self, seconds: float = 5.0) -> None:
        """Wait for the work under way, at most so long; then give the connections up."""
        self._database.close(seconds)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(scope)
        answer: Answer | None
        answering = self.begin(asked)
        if isinstance(answering, Answering):
            answer = await self._answer(answering, receive)
            if answer is None:
                return
        else:
            answer = answering
        await send_reply(send, asked.method, answer.status, answer.headers, answer.body)

    async def _answer(self, answering: Answering, receive: Receive) -> Answer | None:
        """Answer a request under an ASGI server, or return None: the client has hung up."""
        try:
            upload = await read_upload(receive, self.limits)
            if upload is None:
                return None
            loop = asyncio.get_running_loop()
            told: asyncio.Future[Answer | BaseException] = loop.create_future()
            answering.start(upload, partial(_pass_on, loop, told))
        except AtomicBatchError as error:
            return answering.refusal(error)
        answer = await unless_hung_up(told, answering.abandon, receive)
        if isinstance(answer, AtomicBatchError):
            return answering.refusal(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def begin(self, asked: Asked) -> Answer | Answering:
        """
        Look at a request's head. It neither waits nor raises.

        Returns:
            The answer; or what makes it once the body is there.
        """
        path, method = asked.path, asked.method
        if (refused := self._hosts.refusal(method, asked.headers)) is not None:
            return _not_started(path, refused)
        if self.draining:
            return _not_started(path, STOPPING)
        if path == _BATCH:
            return self._begin_batch(asked)
        if method in ("GET", "HEAD"):
            if path == HEALTH_PATH:
                return HEALTHY
            if path == b"/readyz":
                return self._readiness.asked()
        return CallAnswering(self._batches, self._identify, self.limits.timeout_seconds, asked)

    def _begin_batch(self, asked: Asked) -> Answer | Answering:
        if inside_batch():
            return nested_batch()
        head = check_head(asked.method, asked.headers, self.limits, self._server_limits)
        if isinstance(head, Response):
            return head
        return BatchAnswering(self._batches, self._identify, self._options, asked, head)


def _asked(scope: Scope) -> Asked:
    """The head of a request, as an ASGI server shows it."""
    entry: Entry | None = scope.get(ENTRY)
    headers = tuple([(name.lower(), value) for name, value in scope["headers"]])
    query = scope.get("query_string", b"")
    return Asked(scope["method"], _path(scope), query, headers, Entry() if entry is None else entry)


def _pass_on(
    loop: asyncio.AbstractEventLoop,
    told: asyncio.Future[Answer | BaseException],
    answer: Answer | BaseException,
) -> None:
    """Give an answer, from any thread, to whoever awaits it on an event loop."""
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(told.set_result, answer)


def _not_started(path: bytes, reply: Reply) -> Reply:
    """A reply to a request of which nothing has run; on the batch path it says so (SPEC 5.3)."""
    if path == _BATCH:
        return reply._replace(headers=(*reply.headers, NOT_STARTED))
    return reply


def _path(scope: Scope) -> bytes:
    """The path as sent, without the prefix that the server is mounted at."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    raw = raw.partition(b"?")[0]
    prefix = scope.get("root_path", "").encode()
    return raw[len(prefix) :] if prefix and raw.startswith(prefix + b"/") else raw
