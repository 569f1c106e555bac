"""
The ASGI application: every request becomes a batch, of one call or of many.

There is one path to the database: a plain request is a batch of one call, whose reply is sent
as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from atomicbatch import __version__
from atomicbatch.asgi import BatchEndpoint
from atomicbatch.asgi.body import read_body
from atomicbatch.asgi.heavy import work
from atomicbatch.engine import execute
from atomicbatch.errors import (
    AtomicBatchError,
    BusyError,
    UnknownOutcomeError,
)
from atomicbatch.exchange import (
    EndpointOptions,
    Head,
    Response,
    read_request,
    write_response,
)
from atomicbatch.exchange.response import UNKNOWN
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Outcome, Reply
from atomicbatch.problems import (
    RETRY_AFTER,
    TITLES,
    error_reply,
    outcome_header,
    problem_reply,
)
from atomicbatch.server.database.database import Database, is_read_only
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.database.tickets import AnyTicket
from atomicbatch.server.http.access_log import ENTRY, Entry
from atomicbatch.server.http.hosts import Hosts
from atomicbatch.server.pages.index import index_page, json_index
from atomicbatch.server.pages.openapi import openapi_document
from atomicbatch.server.rows.api import Api
from atomicbatch.server.schema.tables import Schema

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_T = TypeVar("_T")
_log = logging.getLogger("atomicbatch.server")

BASE_PATH = "/v1/api"
BATCH_PATH = "/v1/api/batch"
_BATCH = BATCH_PATH.encode()
# Reading a body of this size takes about a millisecond: below it a hop to a thread costs more
# than it gives to the other requests.
_INLINE_BYTES = 32 * 1024
_READY_SECONDS = 1.0
_WATCH_AFTER_SECONDS = 0.02


class Application:
    """
    The server's ASGI application.

    Args:
        database: What is served.
        limits: Bounds on a batch.
        address: Where it is served, for the examples on its page.
        hosts: For which hosts, and from which pages, requests are taken.
        check_room: Called right before a batch runs; raises where no answer may be made now.

    Attributes:
        draining: New requests are refused with 503; set when the server is told to stop.
    """

    def __init__(
        self,
        database: Database,
        *,
        limits: Limits | None = None,
        address: str = "http://127.0.0.1:8000",
        hosts: Hosts | None = None,
        check_room: Callable[[], None] | None = None,
    ) -> None:
        self._database = database
        self._hosts = hosts or Hosts()
        self._check_room = check_room or (lambda: None)
        self._limits = limits or Limits()
        self._options = EndpointOptions(path=BATCH_PATH, limits=self._limits)
        self._address = address
        self._api = self._api_for(database.catalog.schema)
        self._batch = BatchEndpoint(self._answer_batch, limits=self._limits, in_pieces=False)
        self._asking: asyncio.Task[bool] | None = None
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def _api_for(self, schema: Schema) -> Api:
        return Api(
            schema,
            base_path=BASE_PATH,
            pages=_pages(schema, self._limits, self._address, read_only=self._database.read_only),
            read_only=self._database.read_only,
            limits=self._limits,
        )

    def _perform(self, call: Call, session: Session) -> Reply:
        """Perform a call by the schema that its transaction sees."""
        api = self._api
        if api.schema is not session.schema:
            api = self._api = self._api_for(session.schema)
        return api.perform(call, session)

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
            await _refuse(send, method, path, refused)
        elif self.draining:
            await _refuse(send, method, path, STOPPING)
        elif path == _BATCH:
            await self._batch(scope, receive, send)
        elif path == b"/healthz" and method in ("GET", "HEAD"):
            await _send(send, method, _HEALTHY)
        elif path == b"/readyz" and method in ("GET", "HEAD"):
            await _send(send, method, await self._readiness())
        elif (reply := await self._answer_call(path, scope, receive)) is not None:
            await _send(send, method, reply)

    async def _readiness(self) -> Reply:
        """Whether the database answers, told within ``_READY_SECONDS`` whatever it does."""
        # One question at a time: those who ask a database that hangs must not fill its threads.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_database())
        await asyncio.wait((self._asking,), timeout=_READY_SECONDS)
        return _READY if self._asking.done() and self._asking.result() else _NOT_READY

    async def _ask_database(self) -> bool:
        def ask(session: Session) -> None:
            with session:
                session.execute("SELECT 1", ()).fetchone()

        try:
            await self._database.run(ask, read_only=True, seconds=_READY_SECONDS)
        except Exception as error:
            _log.warning("/readyz: the database does not answer: %s", error)
            return False
        return True

    async def _answer_call(self, path: bytes, scope: Scope, receive: Receive) -> Reply | None:
        """Answer a plain request, or return None: the client has hung up."""
        deadline = time.monotonic() + self._limits.timeout_seconds
        try:
            body = await read_body(receive, self._limits)
            if body is None:
                return None
            headers = tuple((name.lower(), value) for name, value in scope["headers"])
            call = Call(scope["method"], path, scope["query_string"], headers, body)
            outcome = await _unless_hung_up(self._run(Batch((call,)), deadline, _outcome), receive)
        except UnknownOutcomeError as error:
            # No batch for who sent it, but whoever repeats requests by this header must not here.
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
        entry: Entry = scope.get(ENTRY) or Entry()

        def finish(batch: Batch, outcome: Outcome) -> Response:
            entry.outcome = outcome_header(outcome)
            return write_response(head, batch, outcome)

        batch = await work(len(body), read, inline_bytes=_INLINE_BYTES)
        entry.calls = len(batch.calls)
        return await self._run(batch, deadline, finish)

    async def _run(
        self, batch: Batch, deadline: float, finish: Callable[[Batch, Outcome], _T]
    ) -> _T:
        """Execute a batch and ``finish`` its outcome, all in one worker thread."""

        def work(session: Session) -> _T:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise BusyError("the batch has waited too long for its turn")
            self._check_room()
            outcome = execute(
                batch,
                session,
                self._perform,
                timeout_seconds=seconds,
                turns=session,
            )
            return finish(batch, outcome)

        def instead(ticket: AnyTicket, error: AtomicBatchError) -> _T:
            """The answer in place of a thread that hangs, before COMMIT: what is known of it."""
            replies = tuple(ticket.replies or ())
            failed = error.call_index = len(replies) if len(replies) < len(batch.calls) else None
            return finish(
                batch, Outcome(False, replies, failed, error, took_part=(True,) * len(replies))
            )

        return await self._database.run(
            work,
            read_only=is_read_only(batch),
            seconds=deadline - time.monotonic(),
            instead=instead,
        )


def _outcome(batch: Batch, outcome: Outcome) -> Outcome:  # noqa: ARG001 - one shape for both
    return outcome


async def _unless_hung_up(answer: Awaitable[_T], receive: Receive) -> _T | None:
    """Await the answer; cancel it, wait for its end and return None when the client hangs up."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    hung_up = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal hung_up
        if (await receive())["type"] == "http.disconnect" and task is not None:
            hung_up = True
            task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    # Most answers are there before it is worth a task of its own.
    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    try:
        return await answer
    except asyncio.CancelledError:
        if hung_up and task is not None and task.uncancel() == 0:
            return None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()


def _pages(schema: Schema, limits: Limits, address: str, *, read_only: bool) -> dict[bytes, Reply]:
    document = openapi_document(
        schema, batch_path=BATCH_PATH, limits=limits, read_only=read_only, version=__version__
    )
    page = index_page(
        schema,
        base_path=BASE_PATH,
        batch_path=BATCH_PATH,
        address=address,
        limits=limits,
        read_only=read_only,
        version=__version__,
    )
    json_type = b"application/json"
    return {
        b"/": _page(b"text/html; charset=utf-8", page),
        b"/openapi.json": _page(json_type, msgspec.json.encode(document)),
        b"/healthz": _HEALTHY,
        BASE_PATH.encode(): _page(json_type, json_index(schema, base_path=BASE_PATH)),
    }


def _page(content_type: bytes, body: bytes) -> Reply:
    return Reply(200, ((b"content-type", content_type),), body)


_HEALTHY = _page(b"application/json", b'{"status":"ok"}')


def _path(scope: Scope) -> bytes:
    """The path as sent, without the prefix that the server is mounted at."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    raw = raw.partition(b"?")[0]
    prefix = scope.get("root_path", "").encode()
    return raw[len(prefix) :] if prefix and raw.startswith(prefix + b"/") else raw


_READY = _page(b"application/json", b'{"status":"ready"}')
_NOT_READY = problem_reply(
    503, "database-busy", TITLES["database-busy"], f"no answer within {_READY_SECONDS:g} second"
)
_NOT_READY = _NOT_READY._replace(headers=(*_NOT_READY.headers, RETRY_AFTER))
STOPPING = problem_reply(
    503, "stopping", "The server is stopping", "send the request again to another server or later"
)
STOPPING = STOPPING._replace(
    headers=(*STOPPING.headers, (b"retry-after", b"1"), (b"connection", b"close"))
)


async def _refuse(send: Send, method: str, path: bytes, reply: Reply) -> None:
    """Send a reply to a request of which nothing has run; on the batch path, say so (SPEC 5.3)."""
    if path == _BATCH:
        reply = reply._replace(headers=(*reply.headers, (b"batch-outcome", b"not-started")))
    await _send(send, method, reply)


async def _send(send: Send, method: str, reply: Reply) -> None:
    headers = list(reply.headers)
    if reply.status not in (204, 304):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    body = b"" if method == "HEAD" or reply.status in (204, 304) else reply.body
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
