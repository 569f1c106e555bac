"""Delete: DELETE of one row and of many."""

from __future__ import annotations

from atomicbatch.model import Call, Reply
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.arrays import JsonArray
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.plan import Known, One, Plan, Reached, Row, Steps
from atomicbatch.server.rows.preconditions import (
    Conditions,
    applied,
    current_row,
)
from atomicbatch.server.rows.preferences import ON_CHANGES
from atomicbatch.server.rows.reach import (
    check_affected,
    check_reached,
    dropped,
    filter_of,
    matching,
    not_reached,
)
from atomicbatch.server.rows.read import all_rows
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.resource import JSON, Resource


def delete_one(resource: Resource, call: Call, asked: Asked, key: Row) -> Plan:
    """DELETE of one row."""
    conditions = asked.conditions(ON_CHANGES)
    query = resource.item_query(call)
    shows = b"return=representation" in conditions.prefer
    if conditions.of_row or shows or resource.table.has_triggers:
        return _delete(resource, query, conditions, key, shows=shows)

    def finish(reached: int) -> Reply | Steps[Reply]:
        if reached == 0:
            return not_reached(resource, resource.sql.by_key, key)
        return _deleted(resource, query, conditions, None)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, {}, key)

    return Known(Reached(resource.sql.delete_by_key, key), finish, explain_it)


def _delete(
    resource: Resource, query: Query, conditions: Conditions, key: Row, *, shows: bool
) -> Steps[Reply]:
    before = yield from current_row(resource, conditions, key)
    if shows and before is None:
        before = yield One(resource.sql.select_by_key, key)
    try:
        reached = yield Reached(resource.sql.delete_by_key, key)
    except Exception as error:
        yield from explain(resource, error, {}, key)
        raise
    if reached == 0:
        yield from not_reached(resource, resource.sql.by_key, key)
    reply = _deleted(resource, query, conditions, before if shows else None)
    if resource.table.has_triggers and (yield One(resource.sql.select_by_key, key)) is not None:
        raise dropped()
    return reply


def _deleted(resource: Resource, query: Query, conditions: Conditions, before: Row | None) -> Reply:
    """The reply, with the row as it was where it is to be shown."""
    check_affected(conditions, 1)
    headers = applied(conditions, b"return=")
    if before is None:
        return Reply(204, tuple(headers), b"")
    body = resource.whole.one(before) if query.select is None else resource.body(query, before)
    return Reply(200, (JSON, *headers), body)


def delete_many(resource: Resource, call: Call, asked: Asked) -> Plan:
    """DELETE of the rows that a filter finds."""
    conditions = asked.conditions(ON_CHANGES)
    query = filter_of(resource, call, conditions)
    where, parameters = resource.where(query)
    delete = Reached(f"{resource.sql.delete} WHERE {where}", parameters)
    if b"return=representation" in conditions.prefer:
        return _delete_seen(resource, query, conditions, delete)

    def finish(reached: int) -> Reply:
        check_affected(conditions, reached)
        return Reply(204, tuple(applied(conditions, b"return=")), b"")

    def steps() -> Steps[Reply]:
        expected = yield from matching(resource, query)
        reached = yield delete
        check_reached(reached, expected)
        reply = finish(reached)
        check_reached(0, (yield from matching(resource, query)))
        return reply

    return steps() if resource.table.has_triggers else Known(delete, finish)


def _delete_seen(
    resource: Resource, query: Query, conditions: Conditions, delete: Reached
) -> Steps[Reply]:
    shown, columns_sql = resource.shown(query)
    where, parameters = resource.where(query)
    select = f"SELECT {columns_sql} FROM {resource.sql.name} WHERE {where}"
    array: JsonArray = yield all_rows(shown, select, parameters)
    check_reached((yield delete), array.count)
    check_affected(conditions, array.count)
    check_reached(0, (yield from matching(resource, query)))
    return Reply(200, (JSON, *applied(conditions, b"return=")), array.body())
