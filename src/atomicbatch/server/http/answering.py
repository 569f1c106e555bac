"""
Answering: a request on its way to its answer, by callbacks, whatever server it has come by.

The application looks at a request's head (``Application.begin``) and answers it at once, or gives
an ``Answering``, which needs the body. There is one hop to a worker thread and one back::

    event loop                 worker thread            event loop
    start(upload, tell)  ->    the batch runs     ->    whoever tell has told sends the answer
    abandon()            ->    it is ended        ->    the same, also if nobody waits for it

Bodies that are not small are read in a thread of their own, which hands them on to the worker.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from atomicbatch.asgi import heavy
from atomicbatch.errors import AtomicBatchError, UnknownOutcomeError
from atomicbatch.exchange import (
    EndpointOptions,
    Head,
    Response,
    Upload,
    read_request,
    refusal,
    write_response,
)
from atomicbatch.exchange.response import UNKNOWN
from atomicbatch.model import Batch, Call, Headers, Outcome, Reply
from atomicbatch.problems import error_reply, outcome_header
from atomicbatch.server.database.database import Abandon
from atomicbatch.server.http.access_log import Entry
from atomicbatch.server.http.batches import Batches
from atomicbatch.server.principal import Identify, Principal

Answer = Reply | Response
Tell = Callable[[Answer | BaseException], None]
"""Is told a request's answer, or why there is none. Any thread may call it; it never waits."""
# Reading a batch of this size takes about a millisecond: below it a hop to a thread costs more
# than it gives to the other requests.
_INLINE_BYTES = 32 * 1024


class Asked(NamedTuple):
    """
    A request's head.

    Attributes:
        path: As sent, without the query and without the prefix that the server is mounted at.
        query: Without the ``?``.
        headers: Names in lower case.
        entry: What the access log is to tell of it.
    """

    method: str
    path: bytes
    query: bytes
    headers: Headers
    entry: Entry


class Answering(ABC):
    """A request whose head may pass, and which is answered once its body is there."""

    @abstractmethod
    def start(self, upload: Upload, tell: Tell) -> None:
        """
        Have the answer made from the whole body.

        Args:
            upload: Holds the body, and lets go of it.
            tell: Called exactly once, if ``start`` has not raised: also after ``abandon``.

        Raises:
            AtomicBatchError: Nothing has run; see ``refusal``.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Nobody waits for the answer any more: nothing may commit, unless COMMIT has been sent."""

    @abstractmethod
    def refusal(self, error: AtomicBatchError) -> Answer:
        """The answer where there is an error instead."""


class _Running(Answering):
    """A request that a worker thread answers."""

    # Up to this size the body is read on the event loop.
    _inline_bytes = heavy.INLINE_BYTES
    _tell: Tell
    _end: Abandon | None = None
    _is_abandoned = False

    def start(self, upload: Upload, tell: Tell) -> None:
        self._tell = tell
        if upload.size <= self._inline_bytes:
            self._begin(upload)
        else:
            heavy.submit(self._begin_beside, upload)

    def abandon(self) -> None:
        self._is_abandoned = True
        if self._end is not None:
            self._end()

    @abstractmethod
    def _run(self, body: bytes) -> Abandon:
        """Hand the request to a worker thread, with ``_tell``; raises as ``start`` does."""

    def _begin(self, upload: Upload) -> None:
        self._end = end = self._run(upload.take_all())
        if self._is_abandoned:  # by the event loop, while this thread was reading
            end()

    def _begin_beside(self, upload: Upload) -> None:
        try:
            self._begin(upload)
        except BaseException as error:
            self._tell(error)


class CallAnswering(_Running):
    """
    A plain request: a batch of one call, whose reply is sent as it is.

    Args:
        batches: Run it.
        identify: Says who asks.
        seconds: How long it may take, from now on, its body included.
        asked: Its head.
    """

    def __init__(self, batches: Batches, identify: Identify, seconds: float, asked: Asked) -> None:
        self._batches, self._identify = batches, identify
        self._deadline = time.monotonic() + seconds
        self._asked = asked

    def _run(self, body: bytes) -> Abandon:
        asked = self._asked
        principal = identified(self._identify, asked)
        call = Call(asked.method, asked.path, asked.query, asked.headers, body)
        return self._batches.start(
            Batch((call,)), (principal,), self._deadline, _only_reply, self._tell
        )

    def refusal(self, error: AtomicBatchError) -> Reply:
        reply = error_reply(error)
        if isinstance(error, UnknownOutcomeError):
            # The client has sent no batch. But whoever repeats requests by this header must see it.
            return reply._replace(headers=(*reply.headers, UNKNOWN))
        return reply


class BatchAnswering(_Running):
    """
    A batch.

    Args:
        batches: Run it.
        identify: Says who asks for it, and for each of its calls.
        options: Of the endpoint.
        asked: The request's head.
        head: The same, checked.
    """

    def __init__(
        self,
        batches: Batches,
        identify: Identify,
        options: EndpointOptions,
        asked: Asked,
        head: Head,
    ) -> None:
        self._batches, self._identify, self._options = batches, identify, options
        self._asked, self._head = asked, head
        self._deadline = 0.0
        # A few bytes that are compressed may become many.
        self._inline_bytes = -1 if head.codings else _INLINE_BYTES

    def start(self, upload: Upload, tell: Tell) -> None:
        self._deadline = time.monotonic() + self._options.limits.timeout_seconds
        super().start(upload, tell)

    def _run(self, body: bytes) -> Abandon:
        asked, identify = self._asked, self._identify
        identified(identify, asked)
        batch = read_request(
            self._head,
            asked.query,
            body,
            batch_paths=(self._options.path.encode(),),
            options=self._options,
        )
        del body  # it may be large, and the calls have copies
        asked.entry.calls = len(batch.calls)
        # A call's own Authorization counts for that call; the others have inherited the batch's.
        principals = [identify(call.headers) for call in batch.calls]
        return self._batches.start(batch, principals, self._deadline, self._finish, self._tell)

    def _finish(self, batch: Batch, outcome: Outcome) -> Response:
        self._asked.entry.outcome = outcome_header(outcome)
        return write_response(self._head, batch, outcome)

    def refusal(self, error: AtomicBatchError) -> Response:
        return refusal(error)


def identified(identify: Identify, asked: Asked) -> Principal | None:
    """Who asks for a request, which the access log tells too."""
    principal = identify(asked.headers)
    asked.entry.principal = None if principal is None else principal.name
    return principal


def _only_reply(batch: Batch, outcome: Outcome) -> Reply:  # noqa: ARG001 - one shape for all
    if outcome.committed or outcome.error is None:
        return outcome.replies[0]
    return error_reply(outcome.error)
