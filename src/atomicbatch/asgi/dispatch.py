"""Dispatch: one call -> the app -> its reply, as if the call were a request of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from atomicbatch.asgi.heavy import INLINE_BYTES, work
from atomicbatch.asgi.roles import current_scope
from atomicbatch.asgi.scope import CallScopes, Target
from atomicbatch.asgi.tasks import Begin, beginner
from atomicbatch.asgi.types import Message, Scope
from atomicbatch.exchange import Held, Recording, ReplyBytes, ReplyHeaders
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header, Reply

logger = logging.getLogger("atomicbatch")

GIVE_WAY_SECONDS = 0.001
"""Calls that wait for nothing follow one another without a pause for so long; then others may run
on the event loop."""
# Interim responses are dropped. The others belong to extensions that calls are not offered.
_IGNORED = frozenset(
    {
        "http.response.trailers",
        "http.response.early_hint",
        "http.response.push",
        "http.response.debug",
    }
)


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
        self._app = target.app
        self._scopes = CallScopes(target, outer)
        self._around = around
        self._bytes_left = ReplyBytes(limits.max_reply_bytes, held)
        self._reply_headers = ReplyHeaders(_header, bytes)
        self._begin_task: Begin | None = None
        # When others could run on the event loop last.
        self._gave_way_at = monotonic()

    async def perform(self, call: Call) -> Reply:
        """
        Perform one call; it is over when the app has returned, not when its reply is complete.

        Raises:
            AtomicBatchError: The app raised, or did not give a complete reply.
            LimitError: The replies of the batch are too long together.
            TransactionError: The app let it through, or the transaction cannot go on after it.
        """
        if monotonic() > self._gave_way_at + GIVE_WAY_SECONDS:
            await asyncio.sleep(0)
            self._gave_way_at = monotonic()
        if self._around is None:
            reply, error = await self._perform(call)
        else:
            async with self._around.call():
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
        begin = self._begin_task
        if begin is None:
            begin = self._begin_task = beginner(asyncio.get_running_loop())
        running = _Running(call, self._bytes_left, self._reply_headers)
        error: BaseException | None = None
        try:
            # A task of its own, so that context variables set in one call do not show in the next.
            await begin(self._run(call, running))
        except asyncio.CancelledError as cancelled:
            batch_task = asyncio.current_task()
            if batch_task is None or batch_task.cancelling():
                raise
            error = cancelled  # of the handler's own making: no more than an exception
        except Exception as raised:
            error = raised
        finally:
            running.close()
        running.check_bounds()
        if running.size > INLINE_BYTES:
            await work(running.size, running.gather)
        return running.reply(error), error

    async def _run(self, call: Call, running: _Running) -> None:
        scope = self._scopes.scope(call)
        current_scope.set(scope)
        await self._app(scope, running.receive, running.send)


class _Running(Recording):
    """One call as the app sees it: receive() and send()."""

    __slots__ = ("_body", "_is_closed", "_reply_headers", "_waiting")

    def __init__(self, call: Call, bytes_left: ReplyBytes, reply_headers: ReplyHeaders) -> None:
        super().__init__(call.method, bytes_left)
        self._reply_headers = reply_headers
        self._body: bytes | None = call.body
        self._is_closed = False
        self._waiting: asyncio.Event | None = None

    async def receive(self) -> Message:
        """Give the body, then nothing until the reply is complete, then ``http.disconnect``."""
        body = self._body
        if body is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.is_complete and not self._is_closed:
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
            self.take(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self._end()
        elif kind == "http.response.start":
            status = message["status"]
            if 100 <= status < 200 and status != 101:
                return
            if self.status:
                raise RuntimeError("the response has started already")
            headers, are_good = self._reply_headers.read(message.get("headers", ()))
            self.start(status, headers, is_checked=are_good)
        elif kind == "http.response.pathsend":
            self._check(kind)
            self.take(await asyncio.to_thread(self._file, message["path"]))
            self._end()
        elif kind not in _IGNORED:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def close(self) -> None:
        """End the call: whoever still waits in receive() is told that the client is gone."""
        self._is_closed = True
        if self._waiting is not None:
            self._waiting.set()

    def _check(self, kind: str) -> None:
        if not self.status:
            raise RuntimeError(f"{kind} before http.response.start")
        if self.is_complete:
            raise RuntimeError(f"{kind} after the response was complete")

    def _end(self) -> None:
        self.is_complete = True
        if self._waiting is not None:
            self._waiting.set()

    def _file(self, path: str) -> bytes:
        with Path(path).open("rb") as file:
            return file.read(self._bytes_left.left + 1)


def _header(name: bytes, value: bytes) -> Header:
    return bytes(name).lower(), bytes(value)
