"""Problems: our errors as problem documents (RFC 9457), and what each call is told after one."""

from __future__ import annotations

import json
from typing import Any

from atomicbatch.errors import AtomicBatchError, BrokenTransactionError, LimitError
from atomicbatch.model import Batch, Failure, Fate, Header, Headers, Outcome, Reply

URN = "urn:atomicbatch:problem:"
"""Start of every problem's ``type``: a URN, since no web page can be promised for ever."""

TITLES = {
    "call-took-no-part": "The call took no part in the batch's transaction",
    "call-undone": "The call was undone",
    "call-not-attempted": "The call was not attempted",
    "commit-failed": "The database refused the batch at COMMIT",
    "conflict": "Other transactions were in the way",
    "database-busy": "The database is busy",
    "internal-error": "Something went wrong in the server",
    "limit-exceeded": "A limit is exceeded",
    "malformed-batch": "The batch is malformed",
    "malformed-request": "The request is malformed",
    "method-not-allowed": "The batch endpoint does not take this method",
    "nested-batch": "A batch cannot hold a batch",
    "not-batchable": "The call cannot be part of a batch",
    "not-supported": "The server does not do this",
    "outcome-unknown": "It is not known whether the batch was stored",
    "server-busy": "The server is busy",
    "timeout": "The time limit has passed",
    "transaction-broken": "The transaction broke before COMMIT",
    "transaction-failed": "The transaction failed",
    "unsupported-media-type": "The media type or content coding is not supported",
}
"""The slug of each problem, and its title."""

PROBLEM_TYPE: Header = (b"content-type", b"application/problem+json")
RETRY_AFTER: Header = (b"retry-after", b"1")

# A client that retries call by call must retry every call after one of these (SPEC 5.2).
_CONTAGIOUS = frozenset({401, 429, 503})
_CONTAGIOUS_HEADERS = frozenset({b"www-authenticate", b"retry-after"})


def problem_reply(status: int, slug: str, title: str, detail: str, **members: Any) -> Reply:
    """
    Make a reply with a problem document.

    Args:
        status: The HTTP status, which the document repeats.
        slug: The last segment of the problem's type.
        title: The kind of problem, in the same words each time.
        detail: What happened this time, for people.
        members: Further members, for programs. Those that are None are left out.
    """
    return Reply(status, (PROBLEM_TYPE,), _document(status, slug, title, detail, members))


def problem_document(error: AtomicBatchError) -> bytes:
    """
    Describe an error in one line of JSON.

    Members: ``type, title, status, detail``, and if they are known ``call`` (1-based),
    ``offset`` (bytes), ``limit`` and ``maximum``.
    """
    members: dict[str, Any] = {
        "call": None if error.call_index is None else error.call_index + 1,
        "offset": error.offset,
    }
    if isinstance(error, LimitError):
        members |= {"limit": error.limit, "maximum": error.maximum}
    title = TITLES.get(error.slug, TITLES["internal-error"])
    return _document(error.status, error.slug, title, str(error), members)


def error_reply(error: AtomicBatchError) -> Reply:
    """Make the reply for an error, with Retry-After if trying again may help."""
    headers: Headers = (PROBLEM_TYPE,)
    # A batch of unknown outcome that is sent again may be stored twice, so nobody is invited to.
    if error.status == 503 and error.slug != "outcome-unknown":
        headers = (PROBLEM_TYPE, RETRY_AFTER)
    return Reply(error.status, headers, problem_document(error))


def replies_for(batch: Batch, outcome: Outcome) -> tuple[Reply, ...]:
    """
    Give every call of the batch a reply (SPEC 5.2).

    After a commit or a dry run these are the calls' own. After a rollback a failed call shows its
    own reply; every other call shows 424 and whether it was undone or not attempted. If the cause
    is 401, 429 or 503, every call has that status and its WWW-Authenticate and Retry-After.
    """
    if outcome.fate in (Fate.COMMITTED, Fate.DRY_RUN):
        return outcome.replies
    cause = _cause(outcome)
    if not outcome.failures and cause.status in _CONTAGIOUS:
        return (cause,) * len(batch.calls)
    own = {failure.call: _own(outcome, failure) for failure in outcome.failures[1:]}
    if outcome.failed is not None:
        own[outcome.failed] = cause
    not_attempted = _bystander(outcome, cause, None)
    undone: dict[tuple[int, bool | None], Reply] = {}
    replies: list[Reply] = []
    for index in range(len(batch.calls)):
        if index in own:
            replies.append(own[index])
        elif index < len(outcome.replies):
            took_part = outcome.took_part[index] if index < len(outcome.took_part) else None
            key = (outcome.replies[index].status, took_part)
            if key not in undone:
                undone[key] = _bystander(outcome, cause, *key)
            replies.append(undone[key])
        else:
            replies.append(not_attempted)
    return tuple(replies)


def outcome_header(outcome: Outcome) -> bytes:
    """Write the value of ``Batch-Outcome`` (SPEC 5.1, 6.3, 6.4)."""
    if outcome.fate is not Fate.ROLLED_BACK:
        return str(outcome.fate.value).encode()
    at = b",".join(b"%d" % (failure.call + 1) for failure in outcome.failures) or b"commit"
    return b"rolled-back; failed=%s; status=%d" % (at, _cause(outcome).status)


def _cause(outcome: Outcome) -> Reply:
    """Return the reply that says why the batch was rolled back."""
    if outcome.error is not None:
        return error_reply(outcome.error)
    return _own(outcome, outcome.failures[0])


def _own(outcome: Outcome, failure: Failure) -> Reply:
    """Return the reply of a call that failed."""
    if failure.error is not None:
        return error_reply(failure.error)
    return outcome.replies[failure.call]


# Only what was seen to take part may be called undone (SPEC 4.7).
_FATES = {
    True: "what this call did is undone",
    False: "this call used no database that takes part; what it did elsewhere stays",
    None: "what this call did in the batch's transaction is undone",
}


def _bystander(
    outcome: Outcome, cause: Reply, original_status: int | None, took_part: bool | None = None
) -> Reply:
    """
    Make the reply of a call that did not fail itself.

    Args:
        outcome: The batch's.
        cause: The reply that says why the batch was rolled back.
        original_status: What the call had answered before it was undone; None: not attempted.
        took_part: Whether it used a database that takes part in the batch; None: nobody knows.
    """
    if original_status is None:
        slug, fate = "call-not-attempted", "this call was not attempted"
    else:
        slug = "call-took-no-part" if took_part is False else "call-undone"
        fate = _FATES[took_part]
        error = outcome.error
        broken = isinstance(error, BrokenTransactionError) and error.may_be_stored
        if took_part is not False and broken:
            fate += ", unless it had been committed before that"
    call = None if outcome.failed is None else outcome.failed + 1
    if call is not None:
        why = f"call {call} answered {cause.status}"
    elif outcome.error is not None:
        why = str(outcome.error)
    else:
        why = "the transaction failed"
    status: int = 424
    headers: Headers = ()
    if cause.status in _CONTAGIOUS:
        status = cause.status
        headers = tuple(h for h in cause.headers if h[0] in _CONTAGIOUS_HEADERS)
    members = {
        "call": call,
        "cause": cause.status,
        "original_status": original_status,
    }
    reply = problem_reply(
        status, slug, TITLES[slug], f"the batch was rolled back ({why}): {fate}", **members
    )
    return reply._replace(headers=reply.headers + headers)


def _document(status: int, slug: str, title: str, detail: str, members: dict[str, Any]) -> bytes:
    document: dict[str, Any] = {
        "type": URN + slug,
        "title": title,
        "status": status,
        "detail": detail,
    }
    document |= {name: value for name, value in members.items() if value is not None}
    # ASCII only, so that the line reads the same in whatever encoding a client expects.
    return json.dumps(document, separators=(",", ":")).encode()
