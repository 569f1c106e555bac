"""Endpoint: reads one batch request, lets it be answered, sends the response."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from atomicbatch.engine.current import inside_batch
from atomicbatch.errors import AtomicBatchError, MalformedError
from atomicbatch.exchange import (
    Head,
    Held,
    Response,
    Upload,
    body_too_slow,
    check_head,
    nested_batch,
    refusal,
)
from atomicbatch.exchange.response import SharedLimits
from atomicbatch.limits import Limits
from atomicbatch.wsgi.environ import headers_of
from atomicbatch.wsgi.types import Environ, StartResponse

Answer = Callable[[Environ, Head, bytes], Response]

_PIECE_BYTES = 64 * 1024


class BatchEndpoint:
    """
    Answers the requests of one path. It leaves what is to be done with a batch to ``answer``.

    Args:
        answer: Called with the environ, the outer head and the body as it came; returns the
            response. What it raises of our errors becomes a refusal; anything else goes to the
            server.
        limits: Bounds on the body and on the time it takes to arrive.
        shared_limits: The other bounds, which OPTIONS lists too.
        held: Counts what the batch holds, for whoever bounds all batches together.
    """

    def __init__(
        self, answer: Answer, *, limits: Limits, shared_limits: SharedLimits, held: Held
    ) -> None:
        self._answer = answer
        self._limits = limits
        self._shared_limits = shared_limits
        self._held = held

    def response(self, environ: Environ) -> Response:
        """Answer the request."""
        if inside_batch():
            return nested_batch()
        method, headers = environ["REQUEST_METHOD"], headers_of(environ)
        head = check_head(method, headers, self._limits, self._shared_limits)
        if isinstance(head, Response):
            return head
        try:
            self._held.enter()
            return self._answer(environ, head, read_body(environ, self._limits, self._held))
        except AtomicBatchError as error:
            return refusal(error)


def read_body(environ: Environ, limits: Limits, held: Held | None = None) -> bytes:
    """
    Read a whole body.

    The time limit is checked between two reads. How long a read may wait is the server's business.

    Raises:
        LimitError: It is too long; what follows is not read.
        TimeoutExceededError: It took too long (408).
        MalformedError: It ended early, or nobody knows where it ends (411).
    """
    left = _length_of(environ)
    upload, until = Upload(limits, held), time.monotonic() + limits.timeout_seconds
    read = environ["wsgi.input"].read
    while left is None or left > 0:
        piece = read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
        if time.monotonic() > until:
            raise body_too_slow()
        if not piece:
            if left is not None:
                raise MalformedError("the body ended before its Content-Length")
            break
        upload.take(piece)
        if left is not None:
            left -= len(piece)
    return upload.body()


def _length_of(environ: Environ) -> int | None:
    """Tell how many bytes the body has; None: as many as there are until the input's end."""
    coded = "HTTP_TRANSFER_ENCODING" in environ
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared and not coded:
        if not (declared.isascii() and declared.isdigit()):
            raise MalformedError("Content-Length is no number")
        return int(declared)
    if environ.get("wsgi.input_terminated"):
        return None
    if coded:
        # To read on might take for ever. To take the body for empty would lose the batch.
        error = MalformedError("this server needs a Content-Length in place of Transfer-Encoding")
        error.status = 411
        raise error
    return 0


class Sending:
    """
    The response as the server takes it.

    It has been sent when the server closes it, as PEP 3333 demands, or asks for more than there is.
    Test clients may do neither; then it counts as sent when nobody refers to it any more.

    Args:
        body: All of it.
        when_sent: Called once.
    """

    def __init__(self, body: bytes, when_sent: Callable[[], object]) -> None:
        self._body: bytes | None = body
        self._when_sent: Callable[[], object] | None = when_sent

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        body, self._body = self._body, None
        if body is None:
            self.close()
            raise StopIteration
        return body

    def close(self) -> None:
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            when_sent()

    __del__ = close


def send(
    response: Response,
    environ: Environ,
    start_response: StartResponse,
    when_sent: Callable[[], object],
) -> Sending:
    """Hand a response to the server; ``when_sent`` is called in any case, once."""
    sending = Sending(b"" if environ["REQUEST_METHOD"] == "HEAD" else response.body, when_sent)
    try:
        start_response(
            f"{response.status} {response.reason}",
            [
                (name.decode("latin-1").title(), value.decode("latin-1"))
                for name, value in response.headers
            ],
        )
    except BaseException:
        sending.close()
        raise
    return sending
