"""Insert: INSERT of one row, and the row as it is stored in the end."""

from __future__ import annotations

from typing import Any

from atomicbatch.server.rows.plan import First, Numbered, One, Row, Steps
from atomicbatch.server.rows.reach import dropped
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.resource import Resource


def insert(resource: Resource, body: dict[str, Any]) -> Steps[Row | None]:
    """
    INSERT one row.

    Returns:
        The row as stored; None if there is no way to find it again.

    Raises:
        ValueProblem: A value does not fit its column.
        RowFault: The row was dropped, or a reference of it does not hold.
    """
    write = resource.sql.inserts.of(tuple(body))
    parameters = write.parameters(body.values())
    returning = resource.dialect.insert_returning
    try:
        answer = yield (First if returning else Numbered)(write.sql, parameters)
    except Exception as error:
        yield from explain(resource, error, dict(zip(body, parameters, strict=True)), ())
        raise
    if returning:
        if answer is None:
            raise dropped()
        if resource.sql.returns_row:
            row: Row = answer
            return row
    back = _place(resource, dict(zip(body, parameters, strict=True)), answer)
    if back is None:
        return None
    stored: Row | None = yield back
    if stored is None:  # a trigger has deleted it, or has given it another key
        raise dropped()
    return stored


def _place(resource: Resource, sent: dict[str, Any], answer: Any) -> One | None:
    """
    What reads a new row back.

    Args:
        resource: Its table.
        sent: Its values, as parameters.
        answer: What RETURNING has given; without RETURNING the number that the row was given.
    """
    sql = resource.sql
    if resource.dialect.insert_returning:
        # Without a key there is no way to find the row again.
        return None if sql.select_back is None else One(sql.select_back, answer)
    if not resource.table.key:
        return None
    key = [sent.get(column.name) for column in resource.table.key]
    if None in key:
        if not answer:  # a default that is not a number: nobody tells us its value
            return None
        # The database numbers at most one column of a key.
        key = [answer if part is None else part for part in key]
    return One(sql.select_by_key, key)
