"""Update: PATCH of one row and of many."""

from __future__ import annotations

from typing import Any

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.arrays import JsonArray, Keys
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.bodies import object_body
from atomicbatch.server.rows.change import change
from atomicbatch.server.rows.keeping import may_be_kept
from atomicbatch.server.rows.plan import Known, One, Plan, Reached, Room, Row, Steps, Stream
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
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Resource
from atomicbatch.server.values.codec import ValueProblem


def update_one(resource: Resource, call: Call, asked: Asked, key: Row) -> Plan:
    """PATCH of one row."""
    conditions = asked.conditions(ON_CHANGES)
    body = object_body(resource, call, conditions)
    query = resource.item_query(call)
    if body and not conditions.of_row and not may_be_kept(resource, body.items()):
        known = _known(resource, call, query, conditions, key, body)
        if known is not None:
            return known
    return _update(resource, query, conditions, key, body)


def changed(
    resource: Resource, query: Query, conditions: Conditions, row: Row, status: int = 200
) -> Reply:
    """The reply with a row that was changed, or with status 201 created."""
    check_affected(conditions, 1)
    body = resource.whole.one(row)
    headers: list[Header] = [(b"etag", etag(body)), *applied(conditions, b"return=")]
    if b"return=minimal" in conditions.prefer:
        return Reply(204 if status == 200 else status, tuple(headers), b"")
    if query.select is not None:
        body = resource.body(query, row)
    return Reply(status, (JSON, *headers), body)


def _known(
    resource: Resource,
    call: Call,
    query: Query,
    conditions: Conditions,
    key: Row,
    body: dict[str, Any],
) -> Known | None:
    """The plan where UPDATE shows the row as it is stored; else None."""
    if not resource.sql.update_returns:
        return None
    try:
        write = resource.sql.updates.of(tuple(body))
        parameters = write.parameters(body.values())
    except ValueProblem:  # unless the row shows just this value: it has to be read first
        return None
    resource.sql.updates.remember(call.body, write)

    def finish(row: Row | None) -> Reply | Steps[Reply]:
        if row is None:
            return not_reached(resource, resource.sql.by_key, key)
        return changed(resource, query, conditions, row)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(body, parameters, strict=True)), key)

    return Known(One(write.by_key, [*parameters, *key]), finish, explain_it)


def _update(
    resource: Resource, query: Query, conditions: Conditions, key: Row, body: dict[str, Any]
) -> Steps[Reply]:
    before = yield from current_row(resource, conditions, key)
    if not body and before is None:
        before = yield One(resource.sql.select_by_key, key)
        if before is None:
            raise resource.no_row()
    row = yield from change(resource, key, body, before)
    if row is None:
        raise resource.no_row()
    return changed(resource, query, conditions, row)


def update_many(resource: Resource, call: Call, asked: Asked) -> Plan:
    """PATCH of the rows that a filter finds."""
    conditions = asked.conditions(ON_CHANGES)
    body = object_body(resource, call, conditions)
    query = filter_of(resource, call, conditions)
    if not body:
        raise RowFault(400, "wrong-type", "the body names no column to change")
    write = resource.sql.updates.of(tuple(body))
    where, filtered = resource.where(query)
    parameters = (*write.parameters(body.values()), *filtered)
    sql = f"{write.sql} WHERE {where}"
    if b"return=minimal" in conditions.prefer:
        return _update_unseen(resource, query, conditions, Reached(sql, parameters))
    return _update_seen(resource, query, conditions, body, Reached(sql, parameters))


def _update_unseen(
    resource: Resource, query: Query, conditions: Conditions, update: Reached
) -> Plan:
    def finish(reached: int) -> Reply:
        check_affected(conditions, reached)
        return Reply(204, tuple(applied(conditions, b"return=")), b"")

    def steps() -> Steps[Reply]:
        expected = yield from matching(resource, query)
        reached = yield update
        check_reached(reached, expected)
        return finish(reached)

    return steps() if resource.table.has_triggers else Known(update, finish)


def _update_seen(
    resource: Resource,
    query: Query,
    conditions: Conditions,
    body: dict[str, Any],
    update: Reached,
) -> Steps[Reply]:
    if resource.sql.update_returns:
        shown, columns_sql = resource.shown(query)
        sql = f"{update.sql} RETURNING {columns_sql}"
        array: JsonArray = yield all_rows(shown, sql, update.parameters)
    else:
        array = yield from _update_and_read_back(resource, query, body, update)
    check_affected(conditions, array.count)
    return Reply(200, (JSON, *applied(conditions, b"return=")), array.body())


def _update_and_read_back(
    resource: Resource, query: Query, body: dict[str, Any], update: Reached
) -> Steps[JsonArray]:
    if not resource.table.key or any(column.name in body for column in resource.table.key):
        raise RowFault(
            400, "invalid-query", "the changed rows cannot be read back: use Prefer: return=minimal"
        )
    shown, columns_sql = resource.shown(query)
    table, order = resource.sql.name, resource.sql.key_order
    where, parameters = resource.where(query)
    room = yield Room()
    array = JsonArray(shown, room)
    # No row takes less than its names.
    most = room // sum(len(name) + 4 for name in shown.names)
    select = f"SELECT {order} FROM {table} WHERE {where} ORDER BY {order}"
    keys: Keys = yield Stream(select, parameters, lambda rows, _: Keys(rows, most=most))
    check_reached((yield update), keys.count)
    select = f"SELECT {columns_sql} FROM {table} WHERE {resource.sql.by_key}"
    for key in keys:
        row = yield One(select, key)
        if row is None:
            raise dropped()
        array.add(row)
        del row  # it may be as large as all that may be sent
    array.flush()
    return array
