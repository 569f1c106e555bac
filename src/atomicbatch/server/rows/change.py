"""Change: UPDATE of one row, found by its key or by other unique columns."""

from __future__ import annotations

from typing import Any, NamedTuple

from atomicbatch.server.rows.keeping import kept, may_be_kept
from atomicbatch.server.rows.plan import One, Reached, Row, Steps
from atomicbatch.server.rows.reach import dropped, not_reached
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.rows.writes import Write
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import ValueProblem


def change(
    resource: Resource,
    key: Row,
    body: dict[str, Any],
    before: Row | None,
    *,
    by: tuple[Column, ...] = (),
) -> Steps[Row | None]:
    """
    UPDATE one row.

    Args:
        resource: Its table.
        key: The values that the row is found by.
        body: The changes.
        before: The row as it is, if it has been read.
        by: The columns of ``key``; empty for the primary key.

    Returns:
        The row as stored; ``before`` if there is nothing to change.

    Raises:
        RowFault: There is no such row, or the change was dropped.
    """
    by = by or resource.table.key
    where, key = resource.sql.where(by, key)
    body, before, write, parameters = yield from bind(resource, where, key, body, before)
    if write is None:
        return before
    sql = f"{write.sql} WHERE {where}"
    sent = dict(zip(body, parameters, strict=True))
    returning = resource.sql.update_returns
    try:
        if returning:
            answer = yield One(sql + resource.sql.returning, [*parameters, *key])
        else:
            answer = yield Reached(sql, [*parameters, *key])
    except Exception as error:
        yield from explain(resource, error, sent, key if by is resource.table.key else ())
        raise
    if not answer:  # no row, or none reached
        yield from not_reached(resource, where, key)
    if not returning:
        if by is resource.table.key and any(column.name in sent for column in by):
            key = [sent.get(column.name, old) for column, old in zip(by, key, strict=True)]
        answer = yield One(f"{resource.sql.select} WHERE {where}", key)
        if answer is None:
            raise dropped()
    row: Row = answer
    return row


class Bound(NamedTuple):
    """
    An UPDATE of one row, without the columns to leave alone (see ``keeping.py``).

    Attributes:
        body: The changes that are left.
        before: The row as it is, if it has been read.
        write: The statement; None if nothing is left to change.
        parameters: The values of ``body``.
    """

    body: dict[str, Any]
    before: Row | None
    write: Write | None
    parameters: list[Any]


def bind(
    resource: Resource, where: str, key: Row, body: dict[str, Any], before: Row | None
) -> Steps[Bound]:
    """
    The UPDATE for ``body``. The row is read first if it may show just what ``body`` holds.

    Raises:
        RowFault: There is no such row.
        ValueProblem: A value does not fit its column.
    """
    problem: ValueProblem | None = None
    if not may_be_kept(resource, body.items()):
        try:
            return Bound(body, before, *_bound(resource, body))
        except ValueProblem as refused:
            problem = refused
    if before is None:
        before = yield One(f"{resource.sql.select} WHERE {where}", key)
        if before is None:
            raise resource.no_row()
    names = kept(resource, before, body)
    if problem is not None and not names:
        raise problem
    body = {name: value for name, value in body.items() if name not in names}
    return Bound(body, before, *_bound(resource, body))


def _bound(resource: Resource, body: dict[str, Any]) -> tuple[Write | None, list[Any]]:
    if not body:
        return None, []
    write = resource.sql.updates.of(tuple(body))
    return write, write.parameters(body.values())
