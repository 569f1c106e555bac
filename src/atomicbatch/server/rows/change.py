"""Changing: PATCH, PUT and DELETE of one row, PATCH and DELETE of many."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.arrays import JsonArray, Keys
from atomicbatch.server.rows.create import Creating
from atomicbatch.server.rows.preconditions import Conditions, read_conditions
from atomicbatch.server.rows.preferences import NO_PREFERENCES, ON_CHANGES
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Row, applied
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import decode_json
from atomicbatch.server.values.kinds import Kind


class Changing(Creating):
    """PATCH, PUT (which may create) and DELETE."""

    def _update(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers, ON_CHANGES)
        body = self._object_body(call, conditions)
        query = self._item_query(call)
        before = self._check_current(session, key, conditions)
        if not body and before is None:
            before = self._row(session, key)
            if before is None:
                self._no_row()
        row = self._change(session, key, body, before)
        if row is None:
            self._no_row()
        return self._changed(conditions, query, row)

    def _check_current(self, session: Session, key: Row, conditions: Conditions) -> Row | None:
        """The current row where a condition needs it, checked against the condition."""
        if conditions.if_match is None and conditions.if_none_match is None:
            return None
        row = self._row(session, key)
        if row is None:
            self._no_row()
        self._check_tag(etag(self._whole.one(row)), conditions)
        return row

    def _changed(self, conditions: Conditions, query: Query, row: Row, status: int = 200) -> Reply:
        self._check_affected(conditions, 1)
        body = self._whole.one(row)
        headers: list[Header] = [(b"etag", etag(body))]
        if conditions.preferences is not NO_PREFERENCES:
            headers += applied(conditions, b"return=")
        if b"return=minimal" in conditions.prefer:
            return Reply(204 if status == 200 else status, tuple(headers), b"")
        if query.select is not None:
            body = self._project(query, row)
        return Reply(status, (JSON, *headers), body)

    def _replace(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers, ON_CHANGES)
        body = self._object_body(call, conditions)
        query = self._item_query(call)
        body = self._with_key(body, key, call)
        before = self._row(session, key)
        self._check_put(before, conditions)
        if before is None:
            row = self._insert(session, body)
            if row is None:
                self._no_row()
            reply = self._changed(conditions, query, row, 201)
            location = self._location(call.path.rpartition(b"/")[0], row)
            if location is None:
                return reply
            return reply._replace(headers=(*reply.headers, (b"location", location)))
        row = self._overwrite(session, key, body, before)
        return self._changed(conditions, query, row)

    def _with_key(self, body: dict[str, Any], key: Row, call: Call) -> dict[str, Any]:
        """The body of a PUT with its key, which may be in the body too if it is the URL's."""
        segment = call.path.rpartition(b"/")[2]
        texts = self._key_texts(segment)
        whole = dict(body)
        for column, part, text in zip(self.table.key, key, texts, strict=True):
            if column.name not in body:
                whole[column.name] = _json_of(column, text)
            elif body[column.name] is None or not _is_same(
                column, column.codec.from_json(body[column.name]), part
            ):
                raise RowFault(
                    400, "key-mismatch", f"column {column.name!r} is not the key in the URL"
                )
        return whole

    def _check_put(self, before: Row | None, conditions: Conditions) -> None:
        if before is not None:
            if conditions.if_match is not None or conditions.if_none_match is not None:
                self._check_tag(etag(self._whole.one(before)), conditions)
        elif conditions.if_match is not None:
            self._precondition_failed()

    def _delete(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers, ON_CHANGES)
        query = self._item_query(call)
        shows = b"return=representation" in conditions.prefer
        before = self._check_current(session, key, conditions)
        if shows and before is None:
            before = self._row(session, key)
        try:
            cursor = session.execute(f"{self._sql.delete} WHERE {self._sql.by_key}", key)
        except session.driver_error as error:
            self._explain(session, error, {}, key)
            raise
        if cursor.rowcount == 0:
            self._not_written(session, self._sql.by_key, key)
        self._check_affected(conditions, 1)
        if self.table.has_triggers and self._row(session, key) is not None:
            self._dropped()
        headers = applied(conditions, b"return=")
        if not shows or before is None:
            return Reply(204, tuple(headers), b"")
        body = self._whole.one(before) if query.select is None else self._project(query, before)
        return Reply(200, (JSON, *headers), body)

    def _update_many(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers, ON_CHANGES)
        body = self._object_body(call, conditions)
        query = self._filter(call, conditions)
        if not body:
            raise RowFault(400, "wrong-type", "the body names no column to change")
        write = self._sql.update(tuple(body))
        where, filtered = self._where(query)
        parameters = (*write.parameters(body.values()), *filtered)
        sql = f"{write.sql} WHERE {where}"
        headers = applied(conditions, b"return=")
        if b"return=minimal" in conditions.prefer:
            expected = self._matching(session, query)
            reached = session.execute(sql, parameters).rowcount
            self._check_reached(reached, expected)
            self._check_affected(conditions, reached)
            return Reply(204, tuple(headers), b"")
        if self._sql.update_returns:
            shown, columns_sql = self._shown(query)
            array = self._read_all(session, f"{sql} RETURNING {columns_sql}", parameters, shown)
        else:
            array = self._update_and_read_back(session, sql, parameters, query, body)
        self._check_affected(conditions, array.count)
        return Reply(200, (JSON, *headers), array.body())

    def _update_and_read_back(
        self,
        session: Session,
        sql: str,
        parameters: Sequence[Any],
        query: Query,
        body: dict[str, Any],
    ) -> JsonArray:
        if not self._key_positions or any(column.name in body for column in self.table.key):
            raise RowFault(
                400, "invalid-query", "these rows cannot be read back: use Prefer: return=minimal"
            )
        order = f" ORDER BY {self._sql.key_order}"
        shown, columns_sql = self._shown(query)
        array = JsonArray(shown, self._room(session))
        where, filtered = self._where(query)
        select = f"SELECT {self._sql.key_order} FROM {self._sql.name} WHERE {where}{order}"
        # No row takes less than its names.
        most = self._room(session) // sum(len(name) + 4 for name in shown.names)
        with closing(session.stream(select, filtered, self._room(session))) as found:
            keys = Keys(found, most=most)
        self._check_reached(session.execute(sql, parameters).rowcount, keys.count)
        select = f"SELECT {columns_sql} FROM {self._sql.name} WHERE {self._sql.by_key}"
        array.extend(self._row_or_dropped(session, select, key) for key in keys)
        return array

    def _row_or_dropped(self, session: Session, select: str, key: Row) -> Row:
        row = session.one(select, key, self._room(session))
        if row is None:
            self._dropped()
        return row

    def _delete_many(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers, ON_CHANGES)
        query = self._filter(call, conditions)
        headers = applied(conditions, b"return=")
        where, parameters = self._where(query)
        sql = f"{self._sql.delete} WHERE {where}"
        if b"return=representation" not in conditions.prefer:
            expected = self._matching(session, query)
            reached = session.execute(sql, parameters).rowcount
            self._check_reached(reached, expected)
            self._check_affected(conditions, reached)
            self._check_reached(0, self._matching(session, query))
            return Reply(204, tuple(headers), b"")
        shown, columns_sql = self._shown(query)
        select = f"SELECT {columns_sql} FROM {self._sql.name} WHERE {where}"
        array = self._read_all(session, select, parameters, shown)
        self._check_reached(session.execute(sql, parameters).rowcount, array.count)
        self._check_affected(conditions, array.count)
        self._check_reached(0, self._matching(session, query))
        return Reply(200, (JSON, *headers), array.body())

    def _filter(self, call: Call, conditions: Conditions) -> Query:
        query = self._query(call)
        if query.filter is None:
            raise RowFault(
                400,
                "filter-required",
                f"{call.method} without a filter would reach every row of {self.table.name!r}",
            )
        if query.order or query.limit is not None or query.offset or query.on_conflict:
            raise RowFault(
                400,
                "invalid-query",
                f"{call.method} takes no order, limit, offset or on_conflict",
            )
        self._no_conditions(conditions)
        return query


def _is_same(column: Column, one: Any, other: Any) -> bool:
    """Whether two parameters of a column are the same, however they are written."""
    if column.kind is Kind.JSON:
        return bool(decode_json(one.encode()) == decode_json(other.encode()))
    if column.kind is Kind.ARRAY and column.codec.to_json is not None:
        return bool(column.codec.to_json(one) == column.codec.to_json(other))
    return bool(one == other)


def _json_of(column: Column, text: str) -> Any:
    """The text of a key in a URL as the JSON value that means the same."""
    parameter = column.codec.from_text(text)
    if column.kind is Kind.JSON:
        return msgspec.Raw(parameter.encode())
    value = column.codec.to_json(parameter) if column.codec.to_json else parameter
    return repr(value) if value.__class__ is float else value
