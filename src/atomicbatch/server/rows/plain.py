"""
Plain: the plans of calls that ask for nothing but to create, read, change or delete one row.

Most calls do. What the headers and the query of others ask is looked at in ``create.py``,
``read.py``, ``update.py`` and ``delete.py``, and so is every body that does not fit at first sight.
Plans and replies are the same, made in fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign

from atomicbatch.model import Call, Reply
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
from atomicbatch.server.rows.writes import Fitting


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
        shown = (JSON, (b"etag", etag(body)))
        place = location(resource, call.path, row) if resource.key_positions else None
        return Reply(201, shown if place is None else ((b"location", place), *shown), body)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(write.names, parameters, strict=True)), ())

    if (whole := _row_of(fitting)) is None:
        return Known(First(write.sql, parameters), finish, explain_it)

    def finish_known(number: int | None) -> Reply:
        return finish(None if number is None else whole((number, *parameters)))

    return Known(Stored(write.bare, parameters), finish_known, explain_it)


def _row_of(fitting: Fitting) -> Callable[[Row], Row] | None:
    """What makes the row of its number and the parameters, if these are stored as they are."""
    if 0.0 in fitting.parameters and any(map(_is_negative_zero, fitting.parameters)):
        return None  # it may lose its sign
    return fitting.write.row


def _is_negative_zero(value: object) -> bool:
    return value.__class__ is float and value == 0 and copysign(1, value) < 0


def read(resource: Resource, call: Call, key: Row) -> Known:  # noqa: ARG001
    """GET of one row."""

    def finish(row: Row | None) -> Reply:
        if row is None:
            raise resource.no_row()
        return _shown(resource, row)

    return Known(One(resource.sql.select_by_key, key), finish)


def update(resource: Resource, call: Call, key: Row) -> Known | None:
    """PATCH of one row; None if the body has to be looked at more closely."""
    fitting = resource.sql.updates.fit(call.body)
    if fitting is None or may_be_kept(
        resource, zip(fitting.write.names, fitting.values, strict=True)
    ):
        return None
    write, _, parameters = fitting

    def finish(row: Row | None) -> Reply | Steps[Reply]:
        if row is None:
            return not_reached(resource, resource.sql.by_key, key)
        return _shown(resource, row)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, dict(zip(write.names, parameters, strict=True)), key)

    both = (*parameters, *key)
    if (whole := _row_of(fitting)) is not None:

        def finish_known(reached: int) -> Reply | Steps[Reply]:
            return finish(whole((*key, *parameters)) if reached == 1 else None)

        return Known(Reached(write.bare, both), finish_known, explain_it)
    if write.bare:
        select = resource.sql.select_by_key
        return Known(Altered(write.bare, both, select, key), finish, explain_it)
    return Known(One(write.by_key, both), finish, explain_it)


def _shown(resource: Resource, row: Row) -> Reply:
    body = resource.whole.one(row)
    return Reply(200, (JSON, (b"etag", etag(body))), body)


def delete(resource: Resource, call: Call, key: Row) -> Known:  # noqa: ARG001
    """DELETE of one row."""

    def finish(reached: int) -> Reply | Steps[Reply]:
        return _GONE if reached else not_reached(resource, resource.sql.by_key, key)

    def explain_it(error: Exception) -> Steps[None]:
        return explain(resource, error, {}, key)

    return Known(Reached(resource.sql.delete_by_key, key), finish, explain_it)


_GONE = Reply(204, (), b"")
