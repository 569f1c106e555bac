"""Duplicates: what ``Prefer: resolution`` does with a row that exists already."""

from __future__ import annotations

from typing import Any

from atomicbatch.errors import ConflictError
from atomicbatch.server.database.faults import RowFault, fault_of
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.change import change
from atomicbatch.server.rows.insert import insert
from atomicbatch.server.rows.plan import One, Raced, Row, Steps
from atomicbatch.server.rows.preconditions import Conditions
from atomicbatch.server.rows.resource import Resource
from atomicbatch.server.schema.tables import Column

Target = tuple[Column, ...]
"""The columns by which a row is a duplicate."""


def conflict_target(resource: Resource, query: Query, conditions: Conditions) -> Target | None:
    """
    The columns by which a row is a duplicate; None where duplicates are errors.

    Raises:
        RowFault: The call does not say which columns, or they are not unique.
    """
    wanted = {wish for wish in conditions.prefer if wish.startswith(b"resolution=")}
    if not wanted:
        return None
    if not wanted <= {b"resolution=merge-duplicates", b"resolution=ignore-duplicates"}:
        raise RowFault(
            400, "invalid-query", "resolution must be merge-duplicates or ignore-duplicates"
        )
    table = resource.table
    if query.on_conflict is None:
        if not table.key:
            raise RowFault(
                400,
                "invalid-query",
                "the table has no primary key: name unique columns in on_conflict",
            )
        return table.key
    known = {frozenset(unique) for unique in table.uniques}
    known.add(frozenset(column.name for column in table.key))
    if frozenset(query.on_conflict) not in known:
        raise RowFault(400, "invalid-query", "on_conflict must name a unique set of columns")
    return tuple(table.by_name[name] for name in query.on_conflict)


def ignores(conditions: Conditions) -> bool:
    """Whether rows that exist already are left as they are."""
    return b"resolution=ignore-duplicates" in conditions.prefer


def store(
    resource: Resource, body: dict[str, Any], target: Target | None, conditions: Conditions
) -> Steps[tuple[Row | None, bool]]:
    """INSERT a row, or do what ``Prefer: resolution`` says with the one that is there.

    Returns:
        The row as stored, and whether it is new.
    """
    if target is None:
        return (yield from insert(resource, body)), True
    found = yield from _find(resource, body, target)
    if found is None:
        return (yield from _insert_unless_raced(resource, body, target)), True
    if ignores(conditions):
        return found, False
    names = {column.name for column in target}
    changes = {name: value for name, value in body.items() if name not in names}
    by = resource.table.key or target
    values = [found[resource.positions[column.name]] for column in by]
    return (yield from change(resource, values, changes, found, by=by)), False


def _insert_unless_raced(
    resource: Resource, body: dict[str, Any], target: Target
) -> Steps[Row | None]:
    """
    INSERT a row that was looked for and not found.

    A unique violation then means one of two things. Another transaction has just stored the row,
    which PostgreSQL shows only to a new transaction; or other columns are not unique. So the first
    time it is a conflict, and the batch is run again. The second time it is reported as it is.
    """
    try:
        return (yield from insert(resource, body))
    except Exception as error:
        fault = fault_of(error)
        what = (resource.table.name, *(str(body.get(column.name)) for column in target))
        if fault is None or fault.slug != "unique-violation" or (yield Raced(what)):
            raise
        raise ConflictError("another transaction has just stored this row") from error


def _find(resource: Resource, body: dict[str, Any], target: Target) -> Steps[Row | None]:
    # Looking first is safe: the transaction is serializable, and has the write lock on SQLite.
    nulls_equal = frozenset(column.name for column in target) in resource.table.nulls_equal
    terms, parameters = [], []
    for column in target:
        quoted, value = resource.dialect.quote(column.name), body.get(column.name)
        if value is not None:
            terms.append(f"{quoted} = {resource.dialect.placeholder}")
            parameters.append(column.codec.from_json(value))
        elif column.name not in body and column.default_sql is not None:
            terms.append(f"{quoted} = {column.default_sql}")
        elif nulls_equal:
            terms.append(f"{quoted} IS NULL")
        else:
            return None  # a NULL equals no other, and the database gives a new number each time
    row: Row | None = yield One(f"{resource.sql.select} WHERE {' AND '.join(terms)}", parameters)
    return row
