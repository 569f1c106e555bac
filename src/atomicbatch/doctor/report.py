"""Report: what was seen of a call -> a verdict with reasons -> lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from atomicbatch.doctor.trying import Tried
from atomicbatch.errors import BrokenTransactionError, LimitError, NotBatchableError
from atomicbatch.openapi.calls import Operation

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, section 9.2.1


class Verdict(Enum):
    """Whether a handler can run in a batch."""

    SAFE = "safe"
    WARNING = "warning"
    UNSAFE = "unsafe"
    NOT_JUDGED = "not judged"


_COLOURS = {
    Verdict.SAFE: "green",
    Verdict.WARNING: "yellow",
    Verdict.UNSAFE: "red",
    Verdict.NOT_JUDGED: "cyan",
}
_NOT_SEEN = (
    "safe: as far as can be seen from outside. Not seen: work that a handler puts into a queue for "
    "a thread or task that was running before its call."
)
_NOTHING_JUDGED = (
    "No call was judged. If all of them answered 404, the app is below another path: name it with "
    "--prefix. Otherwise sign in with --header, or pass calls that the app accepts with --http."
)
# Any token will do that is in both; Django takes one of 32 letters and digits.
_BY_CSRF = (
    "send one token of 32 letters twice, with --header 'X-CSRFToken: ...' and "
    "--header 'Cookie: csrftoken=...'; for https also --header 'Referer: https://...'"
)
_WIDTH = max(len(verdict.value) for verdict in Verdict) + 2


class Finding(NamedTuple):
    """The verdict on one operation, and why."""

    operation: Operation
    verdict: Verdict
    reasons: tuple[str, ...]


class Line(NamedTuple):
    """One line for people: a coloured part, if the terminal has colours, and the rest."""

    coloured: str
    colour: str
    rest: str


def judge(operation: Operation, tried: Tried) -> Finding:
    """Weigh what was seen: the worst of it decides."""
    unsafe = [*_unsafe(tried)]
    outward = [*_outward(tried)]
    warnings = []
    if tried.call.method in _SAFE_METHODS:
        # By HTTP's rules there is nothing to undo. But what is read is not the batch's own data.
        warnings = outward
    else:
        unsafe += outward
    warnings += [
        *_read_elsewhere(tried),
        *_appended(tried),
        *_left_running(tried),
        *_outlived(tried),
    ]
    obstacles = [*_obstacles(tried)]
    if not unsafe and not obstacles:
        warnings += _unseen_changes(tried)
    notes = _notes(tried)
    if unsafe:
        verdict = Verdict.UNSAFE
        # Then it does not matter why the call itself failed.
        obstacles = []
    elif obstacles:
        verdict = Verdict.NOT_JUDGED
    else:
        verdict = Verdict.WARNING if warnings else Verdict.SAFE
    return Finding(operation, verdict, (*unsafe, *warnings, *obstacles, *notes))


def not_tried(operation: Operation) -> Finding:
    """The finding on an operation for which no call could be made."""
    reason = f"{operation.obstacle}: put a call for it into an .http file (--http)"
    return Finding(operation, Verdict.NOT_JUDGED, (reason,))


def _unsafe(tried: Tried) -> Iterator[str]:
    if isinstance(tried.error, (NotBatchableError, BrokenTransactionError, LimitError)):
        yield tried.error.message
    inside = [one for one in tried.databases or () if not one.outside]
    writers = [one.name for one in inside if one.wrote]
    if len(writers) > 1:
        yield f"it changes {len(writers)} databases, which cannot be committed as one: " + (
            ", ".join(writers)
        )
    for database in tried.watch.databases:
        yield (
            f"uses SQLite's {database} by a connection that takes no part in batches (refused "
            f"here); open it by sqlite3.connect(), or take it from an engine"
        )


def _outward(tried: Tried) -> Iterator[str]:
    for address in tried.watch.addresses:
        yield f"talks to {address} (refused here, see --allow); a rollback does not undo that"
    for program in tried.watch.programs:
        yield f"starts {program} (refused here); a rollback does not undo that"
    for change in tried.watch.files:
        yield f"{change} (refused here, see --allow); a rollback does not undo that"


def _read_elsewhere(tried: Tried) -> Iterator[str]:
    for what in tried.watch.reads:
        yield (
            f"reads from {what} by a connection that takes no part in the batch, so that it does "
            f"not see what earlier calls of the batch have stored; give DriverTransaction() too"
        )


def _appended(tried: Tried) -> Iterator[str]:
    for change in tried.watch.appended:
        yield f"{change}; a rollback does not undo that"


def _left_running(tried: Tried) -> Iterator[str]:
    for task in tried.watch.tasks:
        yield (
            f"leaves a task running ({task}), which goes on although the batch is rolled back; "
            f"await it, or start it with on_commit"
        )
    for thread in tried.watch.threads:
        yield (
            f"leaves a thread running ({thread}), which goes on although the batch is rolled back; "
            f"join it, or start it with on_commit"
        )


def _outlived(tried: Tried) -> Iterator[str]:
    for kind in dict.fromkeys(tried.outlived):
        yield (
            f"gives its {kind} to a background task or on_commit, which runs after COMMIT: by then "
            f"the {kind} has ended; let it open its own"
        )


def _obstacles(tried: Tried) -> Iterator[str]:
    """Why a handler cannot be judged although nothing bad was seen."""
    reply, raised = tried.reply, tried.raised
    if raised is not None and (reply is None or reply.status >= 500):
        yield f"raised {type(raised).__name__}: {raised}"
    elif reply is None or tried.error is not None:
        yield f"no reply: {tried.error.message if tried.error else 'it gave none'}"
    elif reply.status == 403 and b"CSRF" in reply.body:
        yield f"{_answered(403)}, for its CSRF check: {_BY_CSRF}"
    elif reply.status in (401, 403):
        yield f"{_answered(reply.status)}: sign in with --header 'Authorization: ...'"
    elif reply.status >= 400:
        yield f"{_answered(reply.status)}: put a call that it accepts into an .http file (--http)"
    elif reply.status in (301, 302, 307, 308):
        yield f"{_answered(reply.status)}: put a call to the new place into an .http file (--http)"


def _answered(status: int) -> str:
    try:
        return f"answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"answered {status}"


def _unseen_changes(tried: Tried) -> Iterator[str]:
    # A handler that has used a database and written nothing only reads.
    if tried.databases == () and tried.call.method not in _SAFE_METHODS:
        yield "used no database that batches can see; does it use another driver?"


def _notes(tried: Tried) -> Iterator[str]:
    databases = tried.databases or ()
    if len(databases) > 1:
        yield f"note: uses {len(databases)} databases: " + ", ".join(one.name for one in databases)
    for one in databases:
        if one.outside:
            yield f"note: {one.name} is outside of batches; what is done there is not rolled back"
    for what in tried.watch.outside:
        yield f"note: writes to {what} (refused here), which is outside of batches, and would stay"
    for act in tried.watch.allowed:
        yield f"note: {act}, which is allowed; a rollback does not undo that"


def lines(findings: Iterable[Finding], adapters: str = "") -> Iterator[Line]:
    """
    One line per operation, with its reason; several reasons below it; a summary.

    Args:
        findings: On each operation.
        adapters: What batches were tried with, if it was not the app's own.
    """
    counts: Counter[Verdict] = Counter()
    for operation, verdict, reasons in findings:
        counts[verdict] += 1
        where = f"{operation.call.method} {operation.path}"
        if operation.name:
            where += f"  ({operation.name})"
        if len(reasons) == 1:
            where += f": {reasons[0]}"
        yield Line(verdict.value.ljust(_WIDTH), _COLOURS[verdict], where)
        if len(reasons) > 1:
            for reason in reasons:
                yield Line("", "", " " * _WIDTH + reason)
    if adapters:
        yield Line("", "", f"Tried with transaction={adapters}: the app has no batches of its own.")
    worst = next((one for one in (Verdict.UNSAFE, Verdict.WARNING) if counts[one]), Verdict.SAFE)
    total = counts.total()
    summary = ", ".join(f"{counts[one]} {one.value}" for one in Verdict)
    yield Line(f"{total} call{'' if total == 1 else 's'}", _COLOURS[worst], f": {summary}")
    if counts[Verdict.SAFE]:
        yield Line("", "", _NOT_SEEN)
    if counts[Verdict.NOT_JUDGED] == total:
        yield Line("", "", _NOTHING_JUDGED)
