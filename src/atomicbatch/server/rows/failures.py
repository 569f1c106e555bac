"""Failures: the reply of a call that was refused, or that the database refused."""

from __future__ import annotations

import logging
from typing import Any

from atomicbatch.errors import ConflictError, TimeoutExceededError
from atomicbatch.model import Reply
from atomicbatch.problems import problem_reply
from atomicbatch.server.database.bounds import TOO_LONG, TooMuchError
from atomicbatch.server.database.faults import (
    RowFault,
    fault_of,
    is_outdated,
    logged_as,
    shortage_of,
)
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.names import QueryProblem
from atomicbatch.server.values.codec import ValueProblem

_log = logging.getLogger("atomicbatch.server")

FAULTS = (RowFault, ValueProblem, QueryProblem, TooMuchError, UnicodeEncodeError)
"""What a call raises that is its own fault. The errors of the driver come in addition."""

# These depend on the schema. A missing row, or a condition that does not hold, does not.
_BY_SCHEMA = frozenset(
    {
        *("not-found", "method-not-allowed", "unknown-column", "read-only-column", "invalid-query"),
        *("invalid-key", "wrong-type", "value-out-of-range", "value-too-long"),
    }
)


def reply_to(error: Exception, session: Session, max_bytes: int) -> Reply:
    """
    The reply of a call that has failed.

    Args:
        error: One of ``FAULTS``, or an error of the driver.
        session: Whose transaction it has failed in.
        max_bytes: How many bytes the replies of one batch may take together.

    Raises:
        TransactionError: The error concerns the whole batch, which may run again: another
            transaction was in the way, or the schema has changed since the call was planned.
    """
    if isinstance(error, TooMuchError):
        return too_much(max_bytes)
    if isinstance(error, UnicodeEncodeError):  # SQLite keeps any bytes as text
        detail = "a key is not valid UTF-8: use filters and Prefer: return=minimal"
        return problem(RowFault(400, "invalid-key", detail))
    fault = _own_fault(error)
    if fault is None:
        refused = _driver_fault(error, session)
        # RETURNING has shown a value that is too long to be read, see ``Statements.read_sql``.
        return too_much(max_bytes) if TOO_LONG in str(error) else problem(refused)
    if fault.slug in _BY_SCHEMA and session.outdated():
        raise schema_changed()
    return problem(fault)


def _own_fault(error: Exception) -> RowFault | None:
    if isinstance(error, RowFault):
        return error
    if isinstance(error, ValueProblem):
        return RowFault(error.status, error.slug, str(error), column=error.column)
    if isinstance(error, QueryProblem):
        return RowFault(400, "invalid-query", error.detail, parameter=error.parameter)
    return None


def _driver_fault(error: Exception, session: Session) -> RowFault:
    trouble = session.trouble(error)
    if isinstance(trouble, TimeoutExceededError):
        # We have interrupted the statement ourselves, often because the client has hung up. Its
        # error would tell the reader of a log nothing.
        raise trouble from None
    if trouble is not None:
        raise trouble from error
    if session.takes_any_text(error):
        raise ConflictError("a text is not UTF-8") from error
    if is_outdated(error) and session.outdated(surely=True):
        raise schema_changed() from error
    if (shortage := shortage_of(error)) is not None:
        raise shortage from None
    fault = fault_of(error)
    if fault is None:
        _log.error("the database refused a statement: %s", logged_as(error))
        return RowFault(500, "internal-error", "the database refused the statement")
    return fault


def schema_changed() -> ConflictError:
    """The error that has the batch run again, by the schema as it is now."""
    return ConflictError("the database's schema has changed")


def too_much(max_bytes: int) -> Reply:
    """The reply of a call whose reply would make the batch's replies too long."""
    detail = (
        f"the replies of one batch hold at most {max_bytes} bytes: ask for fewer rows "
        "with limit and offset, or for none with Prefer: return=minimal"
    )
    members = {"limit": "max_reply_bytes", "maximum": max_bytes}
    return problem(RowFault(413, "limit-exceeded", detail, **members))


TITLES = {
    "not-found": "There is no such resource",
    "method-not-allowed": "The resource does not support this method",
    "unknown-column": "There is no such column",
    "wrong-type": "A value has the wrong type",
    "value-out-of-range": "A value is out of range for its column",
    "value-too-long": "A value is too long for its column",
    "unique-violation": "The row exists already",
    "foreign-key-violation": "A reference between rows does not hold",
    "not-null-violation": "A value is missing",
    "check-violation": "A value breaks a rule of the table",
    "trigger-refused": "The database refused the row",
    "read-only-column": "The database computes this column",
    "read-only": "The database is read-only",
    "invalid-query": "The query is not understood",
    "invalid-key": "The key in the path is not understood",
    "key-mismatch": "The body has another key than the path",
    "invalid-precondition": "The precondition cannot be used here",
    "precondition-failed": "The precondition does not hold",
    "filter-required": "A filter is required",
    "invalid-preference": "A preference is not understood or not honoured",
    "not-supported": "The server does not support this",
    "too-many-affected": "The write would change more rows than allowed",
    "unexpected-body": "The method takes no body",
    "malformed-json": "The body is not JSON",
    "unsupported-media-type": "The body's media type is not supported",
    "forbidden": "The server is not allowed to do this",
    "database-full": "The database is full",
    "limit-exceeded": "A limit is exceeded",
    "internal-error": "Something went wrong in the server",
}


def problem(fault: RowFault) -> Reply:
    """A fault as a problem document."""
    members: dict[str, Any] = dict(fault.members)
    allow = members.pop("allow", None)
    reply = problem_reply(fault.status, fault.slug, TITLES[fault.slug], fault.detail, **members)
    if allow is None:
        return reply
    return reply._replace(headers=(*reply.headers, (b"allow", allow.encode())))
