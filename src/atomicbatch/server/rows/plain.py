"""
Plain: the plans of calls that ask for nothing but to create, read, change or delete one row.

Most calls do. What the headers and the query of others ask is looked at in ``create.py``,
``read.py``, ``update.py`` and ``delete.py``, and so is every body that does not fit at first sight.
Plans and replies are the same, made in fewer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign
from typing import Any

from atomicbatch.model import Call, Headers, Reply
from atomicbatch.server.rows.keeping import may_be_kept
from atomicbatch.server.rows.keys import location
from atomicbatch.server.rows.plan import (
    Altered,
    First,
    Known,
    One,
    Reached,
    Row,
    Steps,
    Stored,
)
from atomicbatch.server.rows.reach import dropped, not_reached
from atomicbatch.server.rows.references import explain
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Resource

# A named tuple made so takes half the time.
_make = tuple.__new__


def create(resource: Resource, call: Call) -> Known | None:
    """POST of one row; None if the body has to be looked at more closely."""
    fitting = resource.sql.inserts.fit(call.body)
    if fitting is None:
        return None
    write, _, parameters = fitting

    def finish(row: Row | None) -> Reply:
        if row is None:
            raise dropped()
        body = resource.whole.one(row)
        headers: Headers = (JSON, (b"etag", etag(body)))
        if resource.key_positions and (place := location(resource, call.path, row)) is not None:
            headers = ((b"location", place), *headers)
        return _make(Reply, (201, headers, body))

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(write.names, parameters, strict=True)), ())

    if write.row is None or _may_change(parameters):
        return _make(Known, (_make(First, (write.sql, parameters)), finish, explain_it))
    whole = write.row

    def finish_known(number: int | None) -> Reply:
        return finish(None if number is None else whole((number, *parameters)))

    return _make(Known, (_make(Stored, (write.bare, parameters)), finish_known, explain_it))


def _may_change(parameters: Sequence[Any]) -> bool:
    """Whether SQLite may store one of these otherwise: a negative zero loses its sign."""
    return 0.0 in parameters and any(
        value.__class__ is float and value == 0 and copysign(1, value) < 0 for value in parameters
    )


def read(resource: Resource, call: Call, key: Row) -> Known:  # noqa: ARG001
    """GET of one row."""

    def finish(row: Row | None) -> Reply:
        if row is None:
            raise resource.no_row()
        return _shown(resource, row)

    return _make(Known, (_make(One, (resource.sql.select_by_key, key)), finish, None))


def update(resource: Resource, call: Call, key: Row) -> Known | None:
    """PATCH of one row; None if the body has to be looked at more closely."""
    fitting = resource.sql.updates.fit(call.body)
    if fitting is None:
        return None
    write, values, parameters = fitting
    if may_be_kept(resource, zip(write.names, values, strict=True)):
        return None

    def finish(row: Row | None) -> Reply | Steps[Reply]:
        if row is None:
            return not_reached(resource, resource.sql.by_key, key)
        return _shown(resource, row)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(write.names, parameters, strict=True)), key)

    both = (*parameters, *key)
    if not write.bare:
        return _make(Known, (_make(One, (write.by_key, both)), finish, explain_it))
    if write.row is None or _may_change(parameters):
        statement = Altered(write.bare, both, resource.sql.select_by_key, key)
        return _make(Known, (statement, finish, explain_it))
    whole = write.row

    def finish_known(reached: int) -> Reply | Steps[Reply]:
        return finish(whole((*key, *parameters)) if reached == 1 else None)

    return _make(Known, (_make(Reached, (write.bare, both)), finish_known, explain_it))


def _shown(resource: Resource, row: Row) -> Reply:
    body = resource.whole.one(row)
    return _make(Reply, (200, (JSON, (b"etag", etag(body))), body))


def delete(resource: Resource, call: Call, key: Row) -> Known:  # noqa: ARG001
    """DELETE of one row."""

    def finish(reached: int) -> Reply | Steps[Reply]:
        return _GONE if reached else not_reached(resource, resource.sql.by_key, key)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, {}, key)

    return _make(Known, (_make(Reached, (resource.sql.delete_by_key, key)), finish, explain_it))


_GONE = Reply(204, (), b"")
