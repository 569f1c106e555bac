"""
Errors: every exception of ours, drawn as a tree.

::

    AtomicBatchError
    ├── WireError                   the bytes are no batch we run; nothing ran
    │   ├── MalformedError          400  the grammar is broken, or a rule of ours
    │   ├── LimitError              413  too large or too many; ``limit`` names the bound
    │   ├── MediaTypeError          415  not multipart/mixed, or an unknown Content-Encoding
    │   └── UnsupportedError        400  a header asks for what batches do not do
    └── TransactionError            the database did not keep the batch
        ├── ConflictError           503  another transaction was in the way; running again may help
        ├── BusyError               503  no connection or no lock within the time given
        ├── TimeoutExceededError    504  the whole-batch time limit has passed
        ├── CommitError             409  COMMIT was refused and the batch is rolled back
        ├── NotBatchableError       501  a handler did what cannot be part of a batch
        ├── BrokenTransactionError  500  the transaction ended or broke before COMMIT
        └── UnknownOutcomeError     503  no answer said what COMMIT came to

A call that answers 409 is no exception: it is a Reply, and the Outcome says rolled back.
"""

from __future__ import annotations


class AtomicBatchError(Exception):
    """
    Base of all our errors.

    Attributes:
        message: What happened, for people.
        status: The HTTP status that fits this error.
        slug: The last segment of the problem's ``type``; the docs explain each.
        call_index: The call to blame, 0-based, or None.
        offset: Where in the outer request's (decoded) body, in bytes, or None.
    """

    status: int = 500
    slug: str = "internal-error"

    def __init__(
        self, message: str, *, call_index: int | None = None, offset: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.call_index = call_index
        self.offset = offset

    def __str__(self) -> str:
        where = "" if self.call_index is None else f"call {self.call_index + 1}: "
        at = "" if self.offset is None else f" at offset {self.offset}"
        return f"{where}{self.message}{at}"


class WireError(AtomicBatchError):
    """The bytes are no batch that we run. Raised before anything runs."""

    status = 400
    slug = "malformed-batch"


class MalformedError(WireError):
    """The body breaks the grammar (RFC 2046, RFC 9112) or a rule of ours."""


class LimitError(WireError):
    """
    Too large or too many.

    Attributes:
        limit: The name of the bound in ``Limits``.
        maximum: Its value.
    """

    status = 413
    slug = "limit-exceeded"

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        maximum: float,
        call_index: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message, call_index=call_index, offset=offset)
        self.limit = limit
        self.maximum = maximum


class MediaTypeError(WireError):
    """The outer request is not ``multipart/mixed``, or we cannot undo its Content-Encoding."""

    status = 415
    slug = "unsupported-media-type"


class UnsupportedError(WireError):
    """
    A header asks for something that batches do not do.

    It is refused, since the sender relies on it: that a batch is not kept, say, or not run twice.
    """

    slug = "not-supported"


class TransactionError(AtomicBatchError):
    """The database did not keep the batch."""

    slug = "transaction-failed"


class ConflictError(TransactionError):
    """
    Another transaction was in the way. This one is surely rolled back, and may be run again.

    Attributes:
        alone: The batch should run again while nothing else runs, or it may meet the same again.
    """

    status = 503
    slug = "conflict"
    alone = False


class BusyError(TransactionError):
    """The database had no free connection, or gave no lock, within the time it had."""

    status = 503
    slug = "database-busy"


class TimeoutExceededError(TransactionError):
    """The whole-batch time limit has passed; the batch is rolled back."""

    status = 504
    slug = "timeout"


class CommitError(TransactionError):
    """COMMIT was refused (a deferred constraint, say); the batch is rolled back."""

    status = 409
    slug = "commit-failed"


class NotBatchableError(TransactionError):
    """A handler did what cannot be part of one transaction; the message says what to do instead."""

    status = 501
    slug = "not-batchable"
    place: str = ""

    def stands_at(self, place: str) -> None:
        """Say where in the app it was done, unless that is said already; empty: nobody knows."""
        if place and not self.place:
            self.place = place
            self.message = f"{self.message} ({place})"
            self.args = (self.message,)


class BrokenTransactionError(TransactionError):
    """
    The transaction ended or broke before COMMIT. Whatever was left of it is rolled back.

    Attributes:
        may_be_stored: Some of its work may have been committed before that.
    """

    slug = "transaction-broken"

    def __init__(
        self, message: str, *, may_be_stored: bool = True, call_index: int | None = None
    ) -> None:
        super().__init__(message, call_index=call_index)
        self.may_be_stored = may_be_stored


class UnknownOutcomeError(TransactionError):
    """
    COMMIT was sent, and the database has not said what came of it.

    A lost connection, a time limit, an answer that nobody could read: all of the batch is stored,
    or nothing of it.

    Args:
        why: What happened instead of an answer. The message adds what to do.
    """

    status = 503
    slug = "outcome-unknown"

    def __init__(self, why: str, **where: int | None) -> None:
        super().__init__(
            f"{why}: everything is stored, or nothing; look before you send it again", **where
        )


def kind_of(error: BaseException) -> str:
    """
    Name the kind of an error for the log: the driver's class and the database's code.

    The text is left out, since it may hold rows or credentials, and so is the traceback, since the
    code explains a database's error.
    """
    inner: BaseException = error
    for _ in range(20):  # a chain may be a circle
        following = getattr(inner, "orig", None)
        if not isinstance(following, BaseException) and isinstance(inner, AtomicBatchError):
            following = inner.__cause__
        if not isinstance(following, BaseException):
            break
        inner = following
    code: object = inner.args[0] if inner.args and isinstance(inner.args[0], int) else ""
    for name in ("sqlite_errorname", "sqlstate", "pgcode"):
        code = code or getattr(inner, name, None) or ""
    return f"{type(inner).__name__} {code}".rstrip()[:100]
