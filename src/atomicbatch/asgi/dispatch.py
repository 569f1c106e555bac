"""Dispatch: one call -> the app -> its reply, as if the call were a request of its own."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote_to_bytes

from atomicbatch.asgi.heavy import work
from atomicbatch.asgi.roles import current_scope
from atomicbatch.asgi.types import App, Message, Scope
from atomicbatch.exchange import Held, Recording, ReplyBytes
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header, Reply

logger = logging.getLogger("atomicbatch")

# What a call takes from the outer request; the rest of its scope is its own. Anything else there
# (router, endpoint, path_params, session, user, ...) belongs to the outer request alone.
_FROM_OUTER = ("http_version", "scheme", "client", "server")
# Interim responses are dropped. The others belong to extensions that calls are not offered.
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
            transactions/contract.py says.
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
        self._bytes_left = ReplyBytes(limits.max_reply_bytes, held)

    async def perform(self, call: Call) -> Reply:
        """
        Perform one call; it is over when the app has returned, not when its reply is complete.

        Raises:
            AtomicBatchError: The app raised, or did not give a complete reply.
            LimitError: The replies of the batch are too long together.
            TransactionError: The app let it through, or the transaction cannot go on after it.
        """
        async with self.call():
            reply, error = await self._perform(call)
        if error is not None:
            # The app has sent an error page and raised again. After a conflict we do not get here:
            # the batch runs again, or says so itself.
            logger.error("a call's handler raised", exc_info=error)
        return reply

    def call(self) -> AbstractAsyncContextManager[Any]:
        """Make what one call runs inside of; SQL of the batch's own (``seal``) runs in one too."""
        return nullcontext() if self._around is None else self._around.call()

    def took_part(self) -> bool | None:
        """Tell whether the call that was performed last used a database that takes part."""
        told: Callable[[], bool | None] | None = getattr(self._around, "took_part", None)
        return None if told is None else told()

    async def _perform(self, call: Call) -> tuple[Reply, BaseException | None]:
        """Perform one call; return its reply, and the exception behind its error page, if any."""
        running = _Running(call, self._bytes_left)
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
        recording = running.recording
        recording.check_bounds()
        await work(recording.size, recording.gather)
        return recording.reply(error), error

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


class _Running:
    """One call as the app sees it: receive() and send()."""

    __slots__ = ("_body", "_bytes_left", "_closed", "_waiting", "recording")

    def __init__(self, call: Call, bytes_left: ReplyBytes) -> None:
        self.recording = Recording(call.method, bytes_left)
        self._bytes_left = bytes_left
        self._body: bytes | None = call.body
        self._closed = False
        self._waiting: asyncio.Event | None = None

    async def receive(self) -> Message:
        """Give the body, then nothing until the reply is complete, then ``http.disconnect``."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.recording.is_complete and not self._closed:
            if self._waiting is None:
                self._waiting = asyncio.Event()
            await self._waiting.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the app's response."""
        kind, recording = message["type"], self.recording
        if kind == "http.response.body":
            self._check(kind)
            # Of a copy: the app may use its buffer again. Of bytes that is no work.
            recording.take(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self._end()
        elif kind == "http.response.start":
            if 100 <= message["status"] < 200 and message["status"] != 101:
                return
            if recording.status:
                raise RuntimeError("the response has started already")
            headers = [_header(name, value) for name, value in message.get("headers", ())]
            recording.start(message["status"], tuple(headers))
        elif kind == "http.response.pathsend":
            self._check(kind)
            recording.take(await asyncio.to_thread(self._file, message["path"]))
            self._end()
        elif kind not in _IGNORED:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def close(self) -> None:
        """End the call: whoever still waits in receive() is told that the client is gone."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.set()

    def _check(self, kind: str) -> None:
        if not self.recording.status:
            raise RuntimeError(f"{kind} before http.response.start")
        if self.recording.is_complete:
            raise RuntimeError(f"{kind} after the response was complete")

    def _end(self) -> None:
        self.recording.is_complete = True
        if self._waiting is not None:
            self._waiting.set()

    def _file(self, path: str) -> bytes:
        with Path(path).open("rb") as file:
            return file.read(self._bytes_left.left + 1)


def _header(name: bytes, value: bytes) -> Header:
    return bytes(name).lower(), bytes(value)
