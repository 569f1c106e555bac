"""The nouns of a batch: Call, Reply, Batch, Outcome. All are immutable."""

from __future__ import annotations

from enum import Enum
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
    """Three digits; 600 and more are errors (RFC 9110, section 15)."""
    headers: Headers
    body: bytes


class Batch(NamedTuple):
    """Ordered calls, all or nothing."""

    calls: tuple[Call, ...]


class Fate(Enum):
    """What became of a batch's work in the database."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    DRY_RUN = "dry-run"
    """Every call succeeded, and all that they did was undone, as was asked for."""
    UNKNOWN = "unknown"
    """COMMIT was sent, and no answer said what it came to."""


class Failure(NamedTuple):
    """A call that failed."""

    call: int
    """Its index, 0-based."""
    error: AtomicBatchError | None = None
    """Why it failed, where it gave no reply that says so."""


class Outcome(NamedTuple):
    """What became of a batch that ran: its fate, plus the replies."""

    fate: Fate
    replies: tuple[Reply, ...]
    """
    Of the calls that were performed, in order. Of a call that failed without a reply there is
    none; where other calls were performed after it, an empty one with its error's status.
    """
    failures: tuple[Failure, ...] = ()
    """The calls that failed, in order; none where no call is to blame."""
    error: AtomicBatchError | None = None
    """Why the batch was undone, where no reply says so: COMMIT failed, a conflict, time is up."""
    attempts: int = 1
    """How many times the batch was run; more than one after conflicts."""
    took_part: tuple[bool | None, ...] = ()
    """
    After a rollback, for each reply: whether its call used a database that takes part in the
    batch. None, or no value: nobody knows.
    """

    @property
    def committed(self) -> bool:
        """COMMIT has returned: everything is stored."""
        return self.fate is Fate.COMMITTED

    @property
    def failed(self) -> int | None:
        """The first call that failed (0-based); None where no call is to blame."""
        return self.failures[0].call if self.failures else None
