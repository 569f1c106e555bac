"""Limits: each bound, its unit, where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds on one batch. A bound that is passed is named in the problem that refuses the batch.

    Raises:
        ValueError: A bound is not positive.
    """

    max_calls: int = 1000
    """Calls in one batch. Google and its clients stop at 1000."""
    max_body_bytes: int = 10 * 1024 * 1024
    """Bytes of the outer body, also after its Content-Encoding is undone (Google: 10 MB)."""
    max_header_bytes: int = 64 * 1024
    """Bytes of one call's request line and headers; Node's default is 16 KiB."""
    max_header_lines: int = 200
    """Header lines of one call; Apache's LimitRequestFields is 100."""
    max_reply_bytes: int = 64 * 1024 * 1024
    """Bytes of all reply bodies of one batch together: they are held until COMMIT has returned."""
    timeout_seconds: float = 30.0
    """Time for the whole batch, replays included."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """
    Bounds on what one batch endpoint in front of an app holds, for all its batches together.

    Beyond a bound a batch is refused with 503 and Retry-After; the problem names the bound.

    Raises:
        ValueError: A bound is not positive.
    """

    max_batches: int = 100
    """Batches being received, run or answered at once. Pools have 5 to 20 connections as a rule."""
    max_held_bytes: int = 256 * 1024 * 1024
    """Bytes of request bodies and replies that are held at once; a response being written takes
    as many again."""
    max_threads: int = 200
    """Worker threads for ``def`` handlers of all batches; beyond it each batch has two."""
    max_batch_threads: int = 40
    """Worker threads for one batch: what a call may do at a time. anyio's default is 40."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """
    Bounds on what one process of ``atomicbatch serve`` holds for its clients.

    Beyond a bound the client is told by a problem that names it, or its connection is closed.

    Raises:
        ValueError: A bound is not positive.
    """

    max_connections: int = 1000
    """Connections at once; beyond it 503. The usual limit on open files is 1024."""
    max_requests: int = 256
    """Requests being received or answered at once; beyond it 503. A few threads do the work."""
    max_readers: int = 8
    """Threads, with a database connection each, for batches and requests that only read."""
    max_writers: int = 8
    """Likewise for all others. SQLite takes one writer at a time, so that there it is 1."""
    max_waiting: int = 200
    """Requests that wait for a reader, and as many that wait for a writer; beyond it 503."""
    max_head_bytes: int = 64 * 1024
    """Bytes of one request's line and headers; beyond it 431. uvicorn with h11 stops here."""
    max_upload_bytes: int = 128 * 1024 * 1024
    """Bytes of all request bodies that are held at once; beyond it 503."""
    max_unsent_bytes: int = 256 * 1024 * 1024
    """Bytes of all answers that clients have not taken yet; beyond it new requests are 503."""
    head_seconds: float = 10.0
    """Time for a request's line and headers, from the first byte; beyond it 408."""
    idle_seconds: float = 75.0
    """Time that a connection may stay open without a request; nginx's default is 75."""
    write_seconds: float = 30.0
    """Time for a client to take the next 64 KiB of its answer; then its connection is cut."""

    def __post_init__(self) -> None:
        _check_positive(self)


def _check_positive(limits: Limits | EndpointLimits | ServerLimits) -> None:
    for field in fields(limits):
        if not getattr(limits, field.name) > 0:
            value = getattr(limits, field.name)
            raise ValueError(f"limit {field.name} must be positive, not {value!r}")
