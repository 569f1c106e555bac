"""Limits: each bound, its unit, where its default comes from."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds on one batch. A batch beyond one of them is refused, and the problem names the bound.

    Raises:
        ValueError: A bound is not positive.
    """

    max_calls: int = 1000
    """Calls in one batch. Google and its clients stop at 1000."""
    max_body_bytes: int = 10 * 1024 * 1024
    """Bytes of the outer body, before and after its Content-Encoding is undone (Google: 10 MB)."""
    max_header_bytes: int = 64 * 1024
    """Bytes of one call's request line and headers. Node's default is 16 KiB."""
    max_header_lines: int = 200
    """Header lines of one call. Apache's LimitRequestFields is 100."""
    max_reply_bytes: int = 64 * 1024 * 1024
    """Bytes of one batch's reply bodies together, which are held until COMMIT has returned."""
    timeout_seconds: float = 30.0
    """Time for the whole batch, with all its replays."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """
    Bounds on what one batch endpoint in front of an app holds for all its batches together.

    Beyond a bound a batch is refused with 503 and Retry-After, and the problem names the bound.

    Raises:
        ValueError: A bound is not positive.
    """

    max_batches: int = 100
    """Batches that are received, run or answered at once. Most pools have 5 to 20 connections."""
    max_held_bytes: int = 256 * 1024 * 1024
    """Bytes of request bodies and replies that are held at once. A response that is being written
    takes as many again."""
    max_threads: int = 200
    """Worker threads for the ``def`` handlers of all batches. Beyond it each batch has two."""
    max_batch_threads: int = 40
    """Worker threads for one batch, since a call may start several. anyio's default is 40."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """
    Bounds on what one process of ``atomicbatch serve`` holds for its clients.

    Beyond a bound the client gets a problem that names it, or its connection is closed.

    Raises:
        ValueError: A bound is not positive.
    """

    max_connections: int = 1000
    """Connections at once. Beyond it 503. The usual limit on open files is 1024."""
    max_requests: int = 256
    """Requests received or answered at once. Beyond it 503. A few threads do the work."""
    max_readers: int = 8
    """Threads for batches and requests that only read. Each has a database connection."""
    max_writers: int = 8
    """The same for all others. On SQLite it is 1, since SQLite takes one writer at a time."""
    max_waiting: int = 200
    """Requests that wait for a reader, and as many that wait for a writer. Beyond it 503."""
    max_head_bytes: int = 64 * 1024
    """Bytes of one request's line and headers. Beyond it 431. uvicorn with h11 stops here too."""
    max_upload_bytes: int = 128 * 1024 * 1024
    """Bytes of all request bodies that are held at once. Beyond it 503."""
    max_unsent_bytes: int = 256 * 1024 * 1024
    """Bytes of all answers that clients have not read yet. Beyond it new requests get 503."""
    head_seconds: float = 10.0
    """Time for a request's line and headers, from the first byte on. Beyond it 408."""
    idle_seconds: float = 75.0
    """Time that a connection may stay open without a request. nginx's default is 75."""
    write_seconds: float = 30.0
    """Time for a client to read the next 64 KiB of its answer. Then its connection is cut."""

    def __post_init__(self) -> None:
        _check_positive(self)


def _check_positive(limits: Limits | EndpointLimits | ServerLimits) -> None:
    for field in fields(limits):
        if not getattr(limits, field.name) > 0:
            value = getattr(limits, field.name)
            raise ValueError(f"limit {field.name} must be positive, not {value!r}")
