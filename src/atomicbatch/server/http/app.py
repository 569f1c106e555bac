"""
The ASGI application: every request becomes a batch, of one call or of many.

There is one path to the database: a plain request is a batch of one call, whose reply is sent
as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import quote

from atomicbatch.asgi import BatchEndpoint
from atomicbatch.asgi.body import read_body
from atomicbatch.asgi.heavy import work
from atomicbatch.errors import AtomicBatchError, UnknownOutcomeError
from atomicbatch.exchange import EndpointOptions, Head, Response, read_request, write_response
from atomicbatch.exchange.response import UNKNOWN
from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.model import Batch, Call, Headers, Outcome, Reply
from atomicbatch.problems import error_reply, outcome_header
from atomicbatch.server.database.database import Database
from atomicbatch.server.http.access_log import ENTRY, Entry
from atomicbatch.server.http.batches import Batches
from atomicbatch.server.http.hang_up import Receive, unless_hung_up
from atomicbatch.server.http.hosts import Hosts
from atomicbatch.server.http.readiness import Readiness
from atomicbatch.server.http.replies import NOT_STARTED, STOPPING, Send, send_reply
from atomicbatch.server.pages.fixed import HEALTHY, fixed_replies
from atomicbatch.server.principal import Identify, Principal, anonymous
from atomicbatch.server.rows.api import Api
from atomicbatch.server.schema.tables import Schema

Scope = MutableMapping[str, Any]

BASE_PATH = "/v1/api"
BATCH_PATH = "/v1/api/batch"
_BATCH = BATCH_PATH.encode()
# Reading a body of this size takes about a millisecond: below it a hop to a thread costs more
# than it gives to the other requests.
_INLINE_BYTES = 32 * 1024


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
        self._limits = limits or Limits()
        self._options = EndpointOptions(path=BATCH_PATH, limits=self._limits)
        self._address = address
        self._identify = identify
        self._batches = Batches(database, self._make_api, check_room=check_room or (lambda: None))
        self._endpoint = BatchEndpoint(
            self._answer_batch,
            limits=self._limits,
            shared_limits=server_limits or ServerLimits(),
            in_pieces=False,
        )
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
            limits=self._limits,
            read_only=read_only,
        )
        return Api(
            schema, base_path=BASE_PATH, pages=pages, read_only=read_only, limits=self._limits
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
        path, method = _path(scope), scope["method"]
        if (refused := self._hosts.refusal(method, scope["headers"])) is not None:
            await send_reply(send, method, _not_started(path, refused))
        elif self.draining:
            await send_reply(send, method, _not_started(path, STOPPING))
        elif path == _BATCH:
            await self._endpoint(scope, receive, send)
        elif path == b"/healthz" and method in ("GET", "HEAD"):
            await send_reply(send, method, HEALTHY)
        elif path == b"/readyz" and method in ("GET", "HEAD"):
            await send_reply(send, method, await self._readiness.answer())
        elif (reply := await self._answer_call(path, scope, receive)) is not None:
            await send_reply(send, method, reply)

    async def _answer_call(self, path: bytes, scope: Scope, receive: Receive) -> Reply | None:
        """Answer a plain request, or return None: the client has hung up."""
        deadline = time.monotonic() + self._limits.timeout_seconds
        try:
            body = await read_body(receive, self._limits)
            if body is None:
                return None
            headers = tuple((name.lower(), value) for name, value in scope["headers"])
            principal = self._identify_request(scope, headers)
            batch = Batch((Call(scope["method"], path, scope["query_string"], headers, body),))
            answer = self._batches.run(batch, (principal,), deadline, _outcome)
            outcome = await unless_hung_up(answer, receive)
        except UnknownOutcomeError as error:
            # The client has sent no batch. But whoever repeats requests by this header must see it.
            reply = error_reply(error)
            return reply._replace(headers=(*reply.headers, UNKNOWN))
        except AtomicBatchError as error:
            return error_reply(error)
        if outcome is None:
            return None
        if outcome.committed or outcome.error is None:
            return outcome.replies[0]
        return error_reply(outcome.error)

    async def _answer_batch(self, scope: Scope, head: Head, body: bytes) -> Response:
        deadline = time.monotonic() + self._limits.timeout_seconds
        read = partial(
            read_request,
            head,
            scope["query_string"],
            body,
            batch_paths=(_BATCH,),
            options=self._options,
        )
        entry = _entry(scope)

        def finish(batch: Batch, outcome: Outcome) -> Response:
            entry.outcome = outcome_header(outcome)
            return write_response(head, batch, outcome)

        self._identify_request(scope, head.headers)
        batch = await work(len(body), read, inline_bytes=_INLINE_BYTES)
        entry.calls = len(batch.calls)
        # A call's own Authorization counts for that call; the others have inherited the batch's.
        principals = [self._identify(call.headers) for call in batch.calls]
        return await self._batches.run(batch, principals, deadline, finish)

    def _identify_request(self, scope: Scope, headers: Headers) -> Principal | None:
        """Who asks for a request, which the access log tells too."""
        principal = self._identify(headers)
        _entry(scope).principal = None if principal is None else principal.name
        return principal


def _entry(scope: Scope) -> Entry:
    """The request's line in the access log; one that nobody reads where another server runs us."""
    entry: Entry | None = scope.get(ENTRY)
    if entry is None:
        entry = scope[ENTRY] = Entry()
    return entry


def _outcome(batch: Batch, outcome: Outcome) -> Outcome:  # noqa: ARG001 - one shape for both
    return outcome


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
