"""Create: POST of one row and of many."""

from __future__ import annotations

from typing import Any

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.arrays import JsonArray
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.bodies import json_body
from atomicbatch.server.rows.duplicates import Target, conflict_target, ignores, store
from atomicbatch.server.rows.keys import location
from atomicbatch.server.rows.plan import First, Known, Plan, Room, Row, Steps
from atomicbatch.server.rows.preconditions import (
    Conditions,
    applied,
    no_conditions,
)
from atomicbatch.server.rows.preferences import ON_CREATES
from atomicbatch.server.rows.reach import check_affected, dropped
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Resource
from atomicbatch.server.values.codec import ValueProblem


def create(resource: Resource, call: Call, asked: Asked) -> Plan:
    """POST of one row, or of an array of them."""
    conditions = asked.conditions(ON_CREATES)
    body = json_body(resource, call, conditions)
    query = resource.query(call)
    if query.filter or query.order or query.limit is not None or query.offset:
        raise RowFault(400, "invalid-query", "POST takes only select and on_conflict")
    no_conditions(conditions)
    target = conflict_target(resource, query, conditions)
    if body.__class__ is list:
        return _create_many(resource, body, query, target, conditions)
    if body.__class__ is not dict:
        raise RowFault(400, "wrong-type", "the body must be a JSON object, or an array of them")
    if target is None and resource.sql.returns_row:
        return _known(resource, call, query, conditions, body)
    return _create(resource, call, query, conditions, body, target)


def _known(
    resource: Resource, call: Call, query: Query, conditions: Conditions, body: dict[str, Any]
) -> Known:
    """The plan where INSERT shows the row as it is stored."""
    write = resource.sql.inserts.of(tuple(body))
    parameters = write.parameters(body.values())
    resource.sql.inserts.remember(call.body, write)

    def finish(row: Row | None) -> Reply:
        if row is None:
            raise dropped()
        check_affected(conditions, 1)
        return _created(resource, call, query, conditions, row)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(body, parameters, strict=True)), ())

    return Known(First(write.sql, parameters), finish, explain_it)


def _create(
    resource: Resource,
    call: Call,
    query: Query,
    conditions: Conditions,
    body: dict[str, Any],
    target: Target | None,
) -> Steps[Reply]:
    row, created = yield from store(resource, body, target, conditions)
    check_affected(conditions, int(created or not ignores(conditions)))
    return _created(resource, call, query, conditions, row, 201 if created else 200)


def _created(
    resource: Resource,
    call: Call,
    query: Query,
    conditions: Conditions,
    row: Row | None,
    status: int = 201,
) -> Reply:
    headers: list[Header] = []
    if row is not None and resource.key_positions:
        place = location(resource, call.path, row)
        if place is not None:
            headers.append((b"location", place))
    headers += applied(conditions, b"return=", b"resolution=")
    if row is None or b"return=minimal" in conditions.prefer:
        return Reply(status, tuple(headers), b"")
    body = resource.whole.one(row)
    headers += (JSON, (b"etag", etag(body)))
    if query.select is not None:
        body = resource.body(query, row)
    return Reply(status, tuple(headers), body)


def _create_many(
    resource: Resource,
    bodies: list[Any],
    query: Query,
    target: Target | None,
    conditions: Conditions,
) -> Steps[Reply]:
    shown, _ = resource.shown(query)
    array = JsonArray(shown, (yield Room()))
    minimal = b"return=minimal" in conditions.prefer
    any_created, affected = not bodies, 0
    for index, body in enumerate(bodies):
        row, created = yield from _store_item(resource, index, body, target, conditions)
        any_created = any_created or created
        affected += created or not ignores(conditions)
        if row is not None and not minimal:
            array.extend((resource.selected(query, row),))
    check_affected(conditions, affected)
    status = 201 if any_created else 200
    headers = applied(conditions, b"return=", b"resolution=")
    if minimal:
        return Reply(status, tuple(headers), b"")
    return Reply(status, (JSON, *headers), array.body())


def _store_item(
    resource: Resource, index: int, body: Any, target: Target | None, conditions: Conditions
) -> Steps[tuple[Row | None, bool]]:
    """One row of many; what is wrong with it is told with its place in the array."""
    if body.__class__ is not dict:
        raise RowFault(400, "wrong-type", f"item {index} of the array must be an object")
    try:
        return (yield from store(resource, body, target, conditions))
    except ValueProblem as problem:
        detail = f"item {index} of the array: {problem.detail}"
        raise ValueProblem(
            problem.column, detail, status=problem.status, slug=problem.slug
        ) from None
