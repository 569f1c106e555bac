"""Dispatch: one call -> the app -> its reply, as if the call were a request of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import lru_cache
from typing import Any, Protocol

from atomicbatch.engine.spawning import followed
from atomicbatch.exchange import Held, Recording, ReplyBytes, ReplyHeaders
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Header, Reply
from atomicbatch.problems import TITLES, problem_reply
from atomicbatch.wsgi.environ import CallEnvirons
from atomicbatch.wsgi.types import Environ, ExcInfo, StartResponse, Write

logger = logging.getLogger("atomicbatch")


class Around(Protocol):
    """What calls run inside of."""

    def call(self) -> AbstractContextManager[Any]:
        """Make a context manager for one call."""
        ...


class Environs(Protocol):
    """Makes of each call what the app is called with."""

    def environ(self, call: Call) -> Any:
        """Make it, or return None: the call's path is outside of what the app is mounted at."""
        ...


class Dispatcher:
    """
    Sends the calls of one attempt at a batch to the app, one after the other.

    Args:
        app: Where to.
        outer: The batch request's environ, as it was when it reached us; or what makes the environs
            of the calls.
        limits: Their ``max_reply_bytes`` is for all replies together.
        around: What each call runs inside of. It may have a method ``took_part()``, as
            transactions/contract.py says.
        held: Counts the bytes of the replies, for whoever bounds all batches together.
    """

    def __init__(
        self,
        app: Callable[[Any, StartResponse], Iterable[bytes]],
        outer: Environ | Environs,
        limits: Limits,
        around: Around | None = None,
        held: Held | None = None,
    ) -> None:
        self._app = app
        self._environs: Environs = CallEnvirons(outer) if isinstance(outer, dict) else outer
        self._around = around
        self._bytes_left = ReplyBytes(limits.max_reply_bytes, held)
        self._reply_headers = ReplyHeaders(_header, str)

    def perform(self, call: Call) -> Reply:
        """
        Perform one call; it is over when the app's iterable has been closed.

        Raises:
            AtomicBatchError: The app raised, or did not give a complete reply.
            LimitError: The replies of the batch are too long together.
            TransactionError: The app let it through, or the transaction cannot go on after it.
        """
        if self._around is None:
            reply, error = self._perform(call)
        else:
            with self._around.call():
                reply, error = self._perform(call)
        if error is not None:
            # The app has sent an error page and raised again. After a conflict we do not get here:
            # the batch runs again, or says so itself.
            logger.error("a call's handler raised", exc_info=error)
        return reply

    def call(self) -> AbstractContextManager[Any]:
        """Make what one call runs inside of; SQL of the batch's own (``seal``) runs in one too."""
        return nullcontext() if self._around is None else self._around.call()

    def took_part(self) -> bool | None:
        """Tell whether the call that was performed last used a database that takes part."""
        told: Callable[[], bool | None] | None = getattr(self._around, "took_part", None)
        return None if told is None else told()

    def _perform(self, call: Call) -> tuple[Reply, BaseException | None]:
        """Perform one call; return its reply, and the exception behind its error page, if any."""
        environ = self._environs.environ(call)
        if environ is None:
            return _NOT_BELOW, None
        running = _Running(call, self._bytes_left, self._reply_headers)
        error: BaseException | None = None
        try:
            # A context of its own, so that variables set in one call do not show in the next.
            copy_context().run(followed, self._run, environ, running)
        except Exception as raised:
            error = raised
        running.check_bounds()
        return running.reply(error), error

    def _run(self, environ: Any, running: _Running) -> None:
        pieces = self._app(environ, running.start_response)
        try:
            for piece in pieces:
                running.write(piece)
            running.is_complete = bool(running.status)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()


_NOT_BELOW = problem_reply(
    404,
    "not-batchable",
    TITLES["not-batchable"],
    "the path is outside of the prefix that the app is mounted at; write the path as other "
    "requests have it",
)


class _Running(Recording):
    """One call as the app sees it: start_response() and write(), as a server has them."""

    __slots__ = ("_has_begun", "_reply_headers")

    def __init__(self, call: Call, bytes_left: ReplyBytes, reply_headers: ReplyHeaders) -> None:
        super().__init__(call.method, bytes_left)
        self._reply_headers = reply_headers
        # A server would have sent the head by now, so that it cannot be replaced any more.
        self._has_begun = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Write:
        if exc_info is not None:
            try:
                if self._has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle by way of its traceback
        elif self.status:
            raise AssertionError("start_response was called a second time without exc_info")
        code = _code_of(status)
        ours, are_good = self._reply_headers.read(headers)
        self.start(code, ours, is_checked=are_good)
        return self.write

    def write(self, piece: bytes) -> None:
        if not isinstance(piece, bytes):
            raise TypeError(f"a response is made of bytes, not of {type(piece).__name__}")
        if not piece:
            return
        if not self.status:
            raise AssertionError("the response's body came before start_response was called")
        self._has_begun = True
        self.take(piece)


@lru_cache(maxsize=64)
def _code_of(status: str) -> int:
    if not isinstance(status, str):
        raise TypeError(f"the status of a response is a str, not {type(status).__name__}")
    code, _, _ = status.partition(" ")
    if len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise ValueError(f"not a status of three digits: {status[:50]!r}")
    return int(code)


def _header(name: str, value: str) -> Header:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("names and values of headers are str")
    return name.lower().encode("latin-1"), value.encode("latin-1")
