"""What a batch is made of: Call, Reply, Batch, Outcome. Immutable, without behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from atomicbatch.errors import AtomicBatchError

Header = tuple[bytes, bytes]
"""One header: (lower-case name, value), as in ASGI. Values stay bytes."""

Headers = tuple[Header, ...]
"""Headers in wire order; repeated names are kept apart, never merged."""


# Named tuples, not frozen dataclasses: a batch makes one Call and one Reply for each of up to
# thousands of calls, and a frozen dataclass takes three times as long to make.


class Call(NamedTuple):
    """One inner HTTP request, complete: what it inherits from the outer request is in it."""

    method: str
    """Any token, as sent (methods are case-sensitive, RFC 9110 section 9.1)."""
    path: bytes
    """As sent: percent-encoded, starts with one ``/``."""
    query: bytes
    """As sent, without the ``?``; empty where there is none."""
    headers: Headers
    body: bytes
    content_id: bytes | None = None
    """The part's Content-ID as sent, brackets included; only echoed, never consulted."""


class Reply(NamedTuple):
    """One inner HTTP response."""

    status: int
    """100 to 599."""
    headers: Headers
    body: bytes


class Batch(NamedTuple):
    """Ordered calls, all or nothing."""

    calls: tuple[Call, ...]


class Outcome(NamedTuple):
    """What became of a batch that ran: committed or rolled back, plus the replies."""

    committed: bool
    replies: tuple[Reply, ...]
    """The replies of the calls that were performed, in order; the last one failed if any did."""
    failed: int | None = None
    """The call that failed (0-based); None where the batch committed, or no call is to blame."""
    error: AtomicBatchError | None = None
    """Why the batch was rolled back where no reply says it: COMMIT failed, conflict, timeout."""
    attempts: int = 1
    """How many times the batch was run; more than one after conflicts."""
    took_part: tuple[bool | None, ...] = ()
    """
    After a rollback, of each reply's call: it used a database that takes part in the batch. None,
    or no value: nobody knows.
    """
