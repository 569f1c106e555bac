"""Reach: which rows a write has reached, and what it means if some were not reached."""

from __future__ import annotations

from typing import NoReturn

from atomicbatch.model import Call
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.plan import First, One, Row, Steps
from atomicbatch.server.rows.preconditions import Conditions, no_conditions
from atomicbatch.server.rows.resource import Resource


def dropped() -> RowFault:
    """
    The fault of a write that had no effect, and no error.

    SQLite: RAISE(IGNORE) and ON CONFLICT IGNORE. PostgreSQL: a trigger that returns NULL.
    """
    return RowFault(
        422, "trigger-refused", "a trigger or rule of the database dropped or undid the change"
    )


def not_reached(resource: Resource, where: str, parameters: Row) -> Steps[NoReturn]:
    """A write has reached no row: say whether there is none, or the write was dropped."""
    row = yield One(f"{resource.sql.select} WHERE {where}", parameters)
    raise resource.no_row() if row is None else dropped()


def matching(resource: Resource, query: Query) -> Steps[int | None]:
    """How many rows a write must reach; None if nothing can silently drop a part of it."""
    if not resource.table.has_triggers:
        return None
    where, parameters = resource.where(query)
    (count,) = yield First(f"SELECT count(*) FROM {resource.sql.name} WHERE {where}", parameters)
    return int(count)


def check_reached(reached: int, expected: int | None) -> None:
    """Refuse a write that has reached fewer rows than it must, see ``matching``."""
    if expected is not None and reached != expected:
        raise dropped()


def check_affected(conditions: Conditions, count: int) -> None:
    """Refuse a write that has changed more rows than ``Prefer: max-affected`` allows."""
    most = conditions.preferences.max_affected
    if most is not None and count > most:
        raise RowFault(
            400,
            "too-many-affected",
            f"{count} rows would be changed, but Prefer: max-affected={most} allows fewer",
        )


def filter_of(resource: Resource, call: Call, conditions: Conditions) -> Query:
    """
    The query of a write of many rows, which must have a filter.

    Raises:
        RowFault: It has none, or the call says something that does not fit a write of many rows.
    """
    query = resource.query(call)
    if query.filter is None:
        raise RowFault(
            400,
            "filter-required",
            f"{call.method} without a filter would affect every row of {resource.table.name!r}",
        )
    if query.order or query.limit is not None or query.offset or query.on_conflict:
        raise RowFault(
            400,
            "invalid-query",
            f"{call.method} takes no order, limit, offset or on_conflict",
        )
    no_conditions(conditions)
    return query
