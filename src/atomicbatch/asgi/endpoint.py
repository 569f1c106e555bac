"""BatchEndpoint: reads one batch request, notices a hang-up, sends the response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from atomicbatch.asgi.body import read_body
from atomicbatch.asgi.heavy import PIECE_BYTES
from atomicbatch.asgi.threads import shielded
from atomicbatch.asgi.types import Receive, Scope, Send
from atomicbatch.engine.current import inside_batch
from atomicbatch.errors import AtomicBatchError
from atomicbatch.exchange import Head, Held, Response, check_head, nested_batch, refusal
from atomicbatch.exchange.response import SharedLimits
from atomicbatch.limits import Limits

# Most answers are there before it is worth a task to watch for a hang-up.
_WATCH_AFTER_SECONDS = 0.02
Answer = Callable[[Scope, Head, bytes], Coroutine[Any, Any, Response]]


class BatchEndpoint:
    """
    An ASGI app for one path. It leaves what is to be done with a batch to ``answer``.

    Args:
        answer: Called with the scope, the outer head and the body as it came; returns the
            response. It is cancelled when the client hangs up. What it raises of our errors
            becomes a refusal; anything else goes to the server.
        limits: Bounds on the body and on the time it takes to arrive.
        shared_limits: The other bounds, which OPTIONS lists too.
        held: Counts what the batch holds, for whoever bounds all batches together.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        limits: Limits | None = None,
        shared_limits: SharedLimits | None = None,
        held: Held | None = None,
    ) -> None:
        self._answer = answer
        self._limits = limits or Limits()
        self._shared_limits = shared_limits
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._response(scope, receive)
        if response is None:
            return
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": list(response.headers),
            }
        )
        body = b"" if scope["method"] == "HEAD" else response.body
        # In pieces, so that others may run between two of them.
        for start in range(0, len(body) or 1, PIECE_BYTES):
            end = start + PIECE_BYTES
            piece, more = body[start:end], end < len(body)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            if more:
                await asyncio.sleep(0)  # servers that wait for nobody may not let others run

    async def _response(self, scope: Scope, receive: Receive) -> Response | None:
        """Answer the request, or return None: the client has hung up."""
        if inside_batch():
            return nested_batch()
        headers = tuple([(name.lower(), value) for name, value in scope["headers"]])
        head = check_head(scope["method"], headers, self._limits, self._shared_limits)
        if isinstance(head, Response):
            return head
        try:
            if self._held is not None:
                self._held.enter()
            body = await read_body(receive, self._limits, self._held)
            if body is None:
                return None
            answer = self._answer(scope, head, body)
            del body  # it may be large, and whoever reads it need not keep it
            return await _unless_hung_up(answer, receive)
        except AtomicBatchError as error:
            return refusal(error)


async def _unless_hung_up(
    answer: Coroutine[Any, Any, Response], receive: Receive
) -> Response | None:
    """Await the answer; cancel it, wait for its end and return None when the client hangs up."""
    answering = asyncio.create_task(answer)
    tasks: tuple[asyncio.Task[Any], ...] = (answering,)
    try:
        await asyncio.wait(tasks, timeout=_WATCH_AFTER_SECONDS)
        if not answering.done():
            watching = asyncio.create_task(_hang_up(receive))
            tasks = (answering, watching)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and (watching.cancelled() or watching.exception() is not None):
                # The server cannot tell us about hang-ups.
                await asyncio.wait((answering,))
        return answering.result() if answering.done() else None
    finally:
        await _stop(*tasks)


async def _hang_up(receive: Receive) -> None:
    if (await receive())["type"] != "http.disconnect":
        # A middleware that has read the body gives it again, each time and at once.
        raise RuntimeError("receive() does not tell about hang-ups")


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, also when cancelled meanwhile."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    if not all(task.done() for task in tasks):
        with shielded():
            while pending := [task for task in tasks if not task.done()]:
                try:
                    await asyncio.wait(pending)
                except asyncio.CancelledError as error:
                    cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain
    if cancelled is not None:
        raise cancelled
