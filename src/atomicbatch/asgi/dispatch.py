"""Dispatch: one call -> the app -> its reply, as if the call were a request of its own."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes

from atomicbatch.asgi.heavy import work
from atomicbatch.asgi.holding import Held
from atomicbatch.asgi.roles import current_scope
from atomicbatch.asgi.types import App, Message, Scope
from atomicbatch.big_bytes import concatenated
from atomicbatch.errors import AtomicBatchError, LimitError, TransactionError
from atomicbatch.exchange import is_writable
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header, Headers, Reply
from atomicbatch.problems import TITLES, problem_reply

logger = logging.getLogger("atomicbatch")

# What a call takes from the outer request; the rest of its scope is its own. Anything else there
# (router, endpoint, path_params, session, user, ...) belongs to the outer request alone.
_FROM_OUTER = ("http_version", "scheme", "client", "server")
# Messages that need no answer from us: interim responses are dropped, and the others belong to
# extensions that a call is not offered.
_IGNORED = frozenset(
    {
        "http.response.trailers",
        "http.response.early_hint",
        "http.response.push",
        "http.response.debug",
    }
)


class Target(NamedTuple):
    """Where the calls of one batch go."""

    app: App
    root_path: str
    """The prefix that the app is mounted at, as ASGI's ``root_path``."""
    prefixed: bool
    """The scope's ``path`` holds the prefix: current servers and Starlette; old ones cut it off."""

    def path_of(self, call: Call) -> bytes:
        """Write the call's path in the form that the outer request's path had."""
        if not self.root_path:
            return call.path
        prefix = quote(self.root_path.rstrip("/")).encode()
        inside = call.path.startswith(prefix + b"/") or call.path == prefix
        if self.prefixed:
            return call.path if inside else prefix + call.path
        return call.path[len(prefix) :] or b"/" if inside else call.path


class Around(Protocol):
    """What calls run inside of."""

    def call(self) -> AbstractAsyncContextManager[Any]:
        """Make an async context manager for one call."""
        ...


class Dispatcher:
    """
    Sends the calls of one attempt at a batch to the app, one after the other.

    Args:
        target: Where to.
        outer: The batch request's scope, as it was when it reached us.
        limits: Their ``max_reply_bytes`` is for all replies together.
        around: What each call runs inside of. It may have a method ``took_part()``, as
            transactions/base.py says.
        held: Counts the bytes of the replies, for whoever bounds all batches together.
    """

    def __init__(
        self,
        target: Target,
        outer: Scope,
        limits: Limits,
        around: Around | None = None,
        held: Held | None = None,
    ) -> None:
        self._target = target
        self._outer = outer
        self._around = around
        self._held = held
        self._max_bytes = limits.max_reply_bytes
        self._bytes_left = limits.max_reply_bytes

    async def perform(self, call: Call) -> Reply:
        """
        Perform one call; it is over when the app has returned, not when its reply is complete.

        Raises:
            AtomicBatchError: The app raised, or did not give a complete reply.
            LimitError: The replies of the batch are too long together.
            TransactionError: The app let it through, or the transaction cannot go on after it.
        """
        async with nullcontext() if self._around is None else self._around.call():
            reply, error = await self._perform(call)
        if error is not None:
            # The app's error page, sent by its outermost middleware, which then raises again. Not
            # told where a conflict was behind it: then the batch runs again, or says so itself.
            logger.error("a call's handler raised", exc_info=error)
        return reply

    def took_part(self) -> bool | None:
        """Tell whether the call that was performed last used a database that takes part."""
        told: Callable[[], bool | None] | None = getattr(self._around, "took_part", None)
        return None if told is None else told()

    async def _perform(self, call: Call) -> tuple[Reply, BaseException | None]:
        """Perform one call; return its reply, and the exception that its error page is for."""
        running = _Running(call, self._bytes_left, self._held)
        # A task of its own, so that context variables set in one call do not show in the next.
        task: asyncio.Task[None] = asyncio.create_task(self._run(call, running))
        error: BaseException | None = None
        try:
            await task
        except asyncio.CancelledError as cancelled:
            batch_task = asyncio.current_task()
            if batch_task is None or batch_task.cancelling():
                raise
            error = cancelled  # of the handler's own making: no more than an exception
        except Exception as raised:
            error = raised
        finally:
            running.close()
        if running.refused is not None:
            raise running.refused
        if running.too_long:
            raise LimitError(
                f"the replies of one batch hold at most {self._max_bytes} bytes together",
                limit="max_reply_bytes",
                maximum=self._max_bytes,
            )
        self._bytes_left -= running.size
        await running.gather()
        return running.reply(error), error

    async def _run(self, call: Call, running: _Running) -> None:
        scope = self._scope(call)
        current_scope.set(scope)
        await self._target.app(scope, running.receive, running.send)

    def _scope(self, call: Call) -> Scope:
        path = self._target.path_of(call)
        scope: Scope = {
            "type": "http",
            # From 2.4 on an app learns of a hang-up from send() and does not poll receive().
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": call.method,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": call.query,
            "root_path": self._target.root_path,
            "headers": list(call.headers),
            "extensions": {},
        }
        for name in _FROM_OUTER:
            if name in self._outer:
                scope[name] = self._outer[name]
        if "state" in self._outer:
            scope["state"] = copy.copy(self._outer["state"])
        return scope


class _TooLong(Exception):
    """Raised from send to stop an app that goes on and on."""


class _Running:
    """One call as the app sees it: receive() and send(), and what has come of them."""

    __slots__ = (
        "_body",
        "_bytes_left",
        "_call",
        "_chunks",
        "_closed",
        "_complete",
        "_headers",
        "_held",
        "_status",
        "_waiting",
        "refused",
        "size",
        "too_long",
    )

    def __init__(self, call: Call, bytes_left: int, held: Held | None) -> None:
        self._call = call
        self._held = held
        self.refused: LimitError | None = None
        self._body: bytes | None = call.body
        self._bytes_left = bytes_left
        self._status = 0
        self._headers: Headers = ()
        self._chunks: list[bytes] = []
        self._complete = False
        self._closed = False
        self._waiting: asyncio.Event | None = None
        self.size = 0
        self.too_long = False

    async def receive(self) -> Message:
        """Give the body, then nothing until the reply is complete, then ``http.disconnect``."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._complete and not self._closed:
            if self._waiting is None:
                self._waiting = asyncio.Event()
            await self._waiting.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the app's response."""
        kind = message["type"]
        if kind == "http.response.body":
            self._check(kind)
            # Of a copy: the app may use its buffer again. Of bytes that is no work.
            self._take(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self._end()
        elif kind == "http.response.start":
            if 100 <= message["status"] < 200 and message["status"] != 101:
                return
            if self._status:
                raise RuntimeError("the response has started already")
            self._status = message["status"]
            self._headers = tuple(
                [_header(name, value) for name, value in message.get("headers", ())]
            )
        elif kind == "http.response.pathsend":
            self._check(kind)
            self._take(await asyncio.to_thread(self._file, message["path"]))
            self._end()
        elif kind not in _IGNORED:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def gather(self) -> None:
        """Put the pieces of a long body together, beside the event loop."""
        if len(self._chunks) > 1:
            self._chunks = [await work(self.size, partial(concatenated, self._chunks))]

    def close(self) -> None:
        """End the call: whoever still waits in receive() is told that the client is gone."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.set()

    def reply(self, error: BaseException | None) -> Reply:
        """
        Tell the call's reply, now that the app has returned or raised ``error``.

        Raises:
            AtomicBatchError: There is none.
        """
        if isinstance(error, TransactionError):
            raise error
        if self._status == 101:
            slug = "not-batchable"
            return problem_reply(400, slug, TITLES[slug], "the call switches protocols (101)")
        reply = Reply(self._status, self._headers, b"".join(self._chunks))
        if self._is_whole(reply):
            if not is_writable(reply):
                # Found out now, while the batch can still be rolled back.
                raise AtomicBatchError("the call's handler answered with headers that are none")
            if error is None:
                return reply
            if reply.status >= 400:
                return reply
        if error is not None:
            raise AtomicBatchError("the call's handler raised an exception") from error
        what = "its reply broke off" if self._status else "it gave no reply"
        raise AtomicBatchError(f"the call's handler returned, but {what}")

    def _check(self, kind: str) -> None:
        if not self._status:
            raise RuntimeError(f"{kind} before http.response.start")
        if self._complete:
            raise RuntimeError(f"{kind} after the response was complete")

    def _take(self, chunk: bytes) -> None:
        if self._call.method == "HEAD":
            return
        self.size += len(chunk)
        if self.size > self._bytes_left:
            self.too_long = True
            self._chunks.clear()
            raise _TooLong
        if self._held is not None:
            try:
                self._held.take(len(chunk))
            except LimitError as error:
                self.refused = error
                self._chunks.clear()
                raise _TooLong from error
        self._chunks.append(chunk)

    def _end(self) -> None:
        self._complete = True
        if self._waiting is not None:
            self._waiting.set()

    def _file(self, path: str) -> bytes:
        with Path(path).open("rb") as file:
            return file.read(self._bytes_left - self.size + 1)

    def _is_whole(self, reply: Reply) -> bool:
        """Tell whether all of the reply is there; servers check Content-Length as well."""
        if not self._complete:
            return False
        if self._call.method == "HEAD" or reply.status in (204, 304):
            return True
        lengths = {value for name, value in reply.headers if name == b"content-length"}
        return not lengths or lengths == {b"%d" % len(reply.body)}


def _header(name: bytes, value: bytes) -> Header:
    return bytes(name).lower(), bytes(value)
