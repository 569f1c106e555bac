"""Run: performs plans on a session, one after another, each statement when the last is answered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar, cast

from atomicbatch.model import Reply
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.plan import (
    Altered,
    Few,
    First,
    Known,
    Numbered,
    One,
    Outdated,
    Plan,
    Raced,
    Reached,
    Room,
    Row,
    Steps,
    Stored,
    Stream,
)

_T = TypeVar("_T")


def run(plan: Plan, session: Session, max_bytes: int) -> Reply:
    """
    Perform a plan in the session's transaction.

    Args:
        plan: The call's.
        session: Inside its transaction.
        max_bytes: How many bytes the replies of one batch may take together.

    Raises:
        RowFault, ValueProblem, QueryProblem: The call's own fault.
        TooMuchError: The reply would take more than is left of ``max_bytes``.
        Exception: The driver's errors, as they are.
    """
    room = max_bytes - session.reply_bytes
    if room < 0:
        room = 0
    if plan.__class__ is Known:
        statement, finish, explain = plan
        try:
            answer = _ANSWERS[statement.__class__](session, statement, room)
        except session.driver_error as error:
            if explain is not None:
                run_steps(explain(error), session, room)
            raise
        plan = finish(answer)
    if plan.__class__ is Reply:
        return plan
    return run_steps(cast("Steps[Reply]", plan), session, room)


def run_steps(steps: Steps[_T], session: Session, room: int) -> _T:
    """Perform steps to their end, with ``room`` bytes left for replies; their result."""
    try:
        step = next(steps)
        while True:
            try:
                answer = _ANSWERS[step.__class__](session, step, room)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: _T = end.value
        return result


def _stream(session: Session, step: Stream, room: int) -> Any:
    with closing(session.stream(step.sql, step.parameters, room)) as rows:
        return step.take(rows, room)


def _stored(session: Session, step: Stored, room: int) -> int | None:  # noqa: ARG001
    cursor = session.execute(step.sql, step.parameters)
    number: int | None = cursor.lastrowid if cursor.rowcount == 1 else None
    return number


def _altered(session: Session, step: Altered, room: int) -> Row | None:
    if session.execute(step.sql, step.parameters).rowcount != 1:
        return None
    return session.one(step.select, step.key, room)


# The answer to each kind of step.
_ANSWERS: dict[type, Callable[[Session, Any, int], Any]] = {
    Reached: lambda session, step, room: session.execute(step.sql, step.parameters).rowcount,
    Numbered: lambda session, step, room: session.execute(step.sql, step.parameters).lastrowid,
    Stored: _stored,
    Altered: _altered,
    First: lambda session, step, room: session.execute(step.sql, step.parameters).fetchone(),
    One: lambda session, step, room: session.one(step.sql, step.parameters, room),
    Few: lambda session, step, room: session.few(step.sql, step.parameters, room),
    Stream: _stream,
    Room: lambda session, step, room: room,
    Raced: lambda session, step, room: session.raced(step.what),
    Outdated: lambda session, step, room: session.outdated(),
}
