"""Read: GET and HEAD of one row and of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.query.query import Query
from atomicbatch.server.query.sql import order_by
from atomicbatch.server.rows.arrays import JsonArray
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.plan import Few, First, Known, One, Plan, Row, Steps, Stream
from atomicbatch.server.rows.preconditions import (
    Conditions,
    applied,
    is_unchanged,
)
from atomicbatch.server.rows.preferences import ON_LISTS, ON_ROWS
from atomicbatch.server.rows.representation import Representation, etag
from atomicbatch.server.rows.resource import JSON, Resource, Selection

# So few rows, and short ones, are cheaper to take at once than one by one.
_FEW_ROWS = 20


def read_one(resource: Resource, call: Call, asked: Asked, key: Row) -> Plan:
    """GET of one row."""
    query = resource.item_query(call)

    def finish(row: Row | None) -> Reply:
        if row is None:
            raise resource.no_row()
        body = resource.whole.one(row)
        tag = etag(body)
        if is_unchanged(tag, asked.conditions(ON_ROWS)):
            return Reply(304, ((b"etag", tag),), b"")
        if query.select is not None:
            body = resource.body(query, row)
        return Reply(200, (JSON, (b"etag", tag)), body)

    return Known(One(resource.sql.select_by_key, key), finish)


def read_many(resource: Resource, call: Call, asked: Asked) -> Plan:
    """GET of the rows that a query asks for."""
    selection = _selection(resource, call)
    conditions = asked.conditions(ON_LISTS)
    query, shown, sql, parameters = selection
    listing = _Listing(resource, query, conditions, shown, sql, parameters)
    few = query.limit is not None and query.limit <= _FEW_ROWS
    if b"count=exact" in conditions.prefer:
        return listing.steps(few=few)
    statement = Few(sql, parameters) if few else all_rows(shown, sql, parameters)
    return Known(statement, listing.finish)


def _selection(resource: Resource, call: Call) -> Selection:
    """What the query of a call selects; clients ask the same again and again."""
    text, kept = call.query, resource.selections
    selection = kept.get(text)
    if selection is None:
        query = resource.query(call)
        shown, columns_sql = resource.shown(query)
        where, parameters = resource.where(query)
        sql = f"SELECT {columns_sql} FROM {resource.sql.name}{_rest(resource, query, where)}"
        selection = Selection(query, shown, sql, parameters)
        if _is_kept(text):
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            kept[text] = selection
    return selection


_MOST_KEPT = 256
_LONGEST_KEPT = 500


def _is_kept(query: bytes) -> bool:
    """Not where it is long, or says who asks: Google's clients put a key into every query."""
    return len(query) <= _LONGEST_KEPT and b"key" not in query and b"%" not in query


def _rest(resource: Resource, query: Query, where: str) -> str:
    """WHERE, ORDER BY, LIMIT and OFFSET."""
    sql = f" WHERE {where}" if where else ""
    # The key as tie-break: pages neither overlap nor leave a row out.
    parts = (order_by(query.order, resource.dialect), resource.sql.key_order)
    order = ", ".join([part for part in parts if part])
    if order:
        sql += f" ORDER BY {order}"
    if query.limit is not None or query.offset:
        # Whole numbers, checked: no parameters, so that a stream can be limited too.
        most = 2**63 - 1 if query.limit is None else query.limit
        sql += f" LIMIT {most} OFFSET {query.offset}"
    return sql


class _Listing(NamedTuple):
    """A GET of many rows, ready to be read."""

    resource: Resource
    query: Query
    conditions: Conditions
    shown: Representation
    sql: str
    parameters: Sequence[Any]

    def finish(self, rows: JsonArray | list[Row] | None) -> Reply | Steps[Reply]:
        """The reply with the rows; without any they are long, and have to be streamed."""
        if rows is None:
            return self.steps(few=False)
        body = rows.body() if isinstance(rows, JsonArray) else self.shown.many(rows)
        return self._reply(body)

    def steps(self, *, few: bool) -> Steps[Reply]:
        """Read the rows, ``few`` of them at once if they are short, and perhaps count all."""
        rows: list[Row] | None = (yield Few(self.sql, self.parameters)) if few else None
        if rows is None:
            array: JsonArray = yield all_rows(self.shown, self.sql, self.parameters)
            body, count = array.body(), array.count
        else:
            body, count = self.shown.many(rows), len(rows)
        reply = self._reply(body)
        if reply.status == 304 or b"count=exact" not in self.conditions.prefer:
            return reply
        content_range = yield from self._content_range(count)
        return reply._replace(headers=(*reply.headers[:2], content_range, *reply.headers[2:]))

    def _reply(self, body: bytes) -> Reply:
        tag = etag(body)
        if is_unchanged(tag, self.conditions):
            return Reply(304, ((b"etag", tag),), b"")
        return Reply(200, (JSON, (b"etag", tag), *applied(self.conditions, b"count=")), body)

    def _content_range(self, count: int) -> Steps[Header]:
        sql = f"SELECT count(*) FROM {self.resource.sql.name}"
        where, parameters = self.resource.where(self.query)
        if where:
            sql += f" WHERE {where}"
        (total,) = yield First(sql, parameters)
        offset = self.query.offset
        span = f"{offset}-{offset + count - 1}" if count else "*"
        return b"content-range", f"{span}/{total}".encode()


def all_rows(shown: Representation, sql: str, parameters: Sequence[Any]) -> Stream:
    """All rows of a SELECT or RETURNING; the answer is a JsonArray, written as they arrive."""

    def take(rows: Iterable[Row], room: int) -> JsonArray:
        array = JsonArray(shown, room)
        array.extend(rows)
        return array

    return Stream(sql, parameters, take)
