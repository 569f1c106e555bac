"""Replace: PUT of one row; it creates the row if there is none."""

from __future__ import annotations

from typing import Any

from atomicbatch.model import Call, Reply
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.bodies import object_body
from atomicbatch.server.rows.change import bind
from atomicbatch.server.rows.insert import insert
from atomicbatch.server.rows.keys import location, with_key
from atomicbatch.server.rows.plan import One, Plan, Reached, Row, Steps
from atomicbatch.server.rows.preconditions import (
    Conditions,
    check_tag,
    precondition_failed,
)
from atomicbatch.server.rows.preferences import ON_CHANGES
from atomicbatch.server.rows.reach import dropped, not_reached
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.rows.update import changed


def replace(resource: Resource, call: Call, asked: Asked, key: Row) -> Plan:
    """PUT of one row."""
    conditions = asked.conditions(ON_CHANGES)
    body = object_body(resource, call, conditions)
    query = resource.item_query(call)
    collection, _, segment = call.path.rpartition(b"/")
    body = with_key(resource, body, key, segment)

    def steps() -> Steps[Reply]:
        before = yield One(resource.sql.select_by_key, key)
        _check(resource, before, conditions)
        if before is not None:
            row = yield from _overwrite(resource, key, body, before)
            return changed(resource, query, conditions, row)
        created = yield from insert(resource, body)
        if created is None:
            raise resource.no_row()
        reply = changed(resource, query, conditions, created, 201)
        place = location(resource, collection, created)
        if place is None:
            return reply
        return reply._replace(headers=(*reply.headers, (b"location", place)))

    return steps()


def _check(resource: Resource, before: Row | None, conditions: Conditions) -> None:
    """Check the conditions against the row as it is, or against there being none."""
    if before is None:
        if conditions.if_match is not None:
            raise precondition_failed()
    elif conditions.of_row:
        check_tag(etag(resource.whole.one(before)), conditions)


def _overwrite(resource: Resource, key: Row, body: dict[str, Any], before: Row) -> Steps[Row]:
    """Set every column: those not in ``body`` to their defaults."""
    sql, where = resource.sql, resource.sql.by_key
    keys = {column.name for column in resource.table.key}
    sent = {name: value for name, value in body.items() if name not in keys}
    rest = [
        column
        for column in resource.table.columns
        if column.writable and column.name not in sent and column.name not in keys
    ]
    kept, _, write, parameters = yield from bind(resource, where, key, sent, before)
    if write is None and not rest:
        return before
    parts = [write.assignments] if write else []
    parts += [sql.defaults(rest)] if rest else []
    update = f"UPDATE {sql.name} SET {', '.join(parts)} WHERE {where}"
    try:
        reached = yield Reached(update, [*parameters, *key])
    except Exception as error:
        yield from explain(resource, error, dict(zip(kept, parameters, strict=True)), key)
        raise
    if reached == 0:
        yield from not_reached(resource, where, key)
    row: Row | None = yield One(sql.select_by_key, key)
    if row is None:
        raise dropped()
    return row
