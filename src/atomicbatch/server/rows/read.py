"""Reading: GET and HEAD of many rows and of one."""

from __future__ import annotations

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.query import Query
from atomicbatch.server.query.sql import order_by
from atomicbatch.server.rows.preconditions import matches, read_conditions
from atomicbatch.server.rows.preferences import NO_PREFERENCES, ON_LISTS, ON_ROWS
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Resource, Row, applied

# So few rows, and short ones, are cheaper to take at once than one by one.
_FEW_ROWS = 20


class Reading(Resource):
    """GET and HEAD."""

    def _list(self, call: Call, session: Session) -> Reply:
        query = self._query(call)
        conditions = read_conditions(call.headers, ON_LISTS)
        shown, columns_sql = self._shown(query)
        where, parameters = self._where(query)
        sql = self._selection(f"SELECT {columns_sql} FROM {self._sql.name}", where, query)
        rows = None
        if query.limit is not None and query.limit <= _FEW_ROWS:
            rows = session.few(sql, parameters, self._room(session))
        if rows is not None:
            body, count = shown.many(rows), len(rows)
        else:
            array = self._read_all(session, sql, parameters, shown)
            body, count = array.body(), array.count
        tag = etag(body)
        if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
            self._precondition_failed()
        if conditions.if_none_match is not None and matches(
            conditions.if_none_match, tag, weak=True
        ):
            return Reply(304, ((b"etag", tag),), b"")
        headers = [JSON, (b"etag", tag)]
        if b"count=exact" in conditions.prefer:
            headers.append(self._content_range(session, query, count))
        if conditions.preferences is not NO_PREFERENCES:
            headers += applied(conditions, b"count=")
        return Reply(200, tuple(headers), body)

    def _selection(self, sql: str, where: str, query: Query) -> str:
        """WHERE, ORDER BY, LIMIT and OFFSET behind ``sql``."""
        if where:
            sql += f" WHERE {where}"
        # The key as tie-break: pages neither overlap nor leave a row out.
        order = ", ".join(
            part for part in (order_by(query.order, self._dialect), self._sql.key_order) if part
        )
        if order:
            sql += f" ORDER BY {order}"
        if query.limit is not None or query.offset:
            # Whole numbers, checked: no parameters, so that a stream can be limited too.
            most = 2**63 - 1 if query.limit is None else query.limit
            sql += f" LIMIT {most} OFFSET {query.offset}"
        return sql

    def _content_range(self, session: Session, query: Query, count: int) -> Header:
        sql = f"SELECT count(*) FROM {self._sql.name}"
        where, parameters = self._where(query)
        if where:
            sql += f" WHERE {where}"
        total = session.execute(sql, parameters).fetchone()[0]
        span = f"{query.offset}-{query.offset + count - 1}" if count else "*"
        return b"content-range", f"{span}/{total}".encode()

    def _read(self, call: Call, session: Session, key: Row) -> Reply:
        query = self._item_query(call)
        row = self._row(session, key)
        if row is None:
            self._no_row()
        body = self._whole.one(row)
        tag = etag(body)
        conditions = read_conditions(call.headers, ON_ROWS)
        if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
            self._precondition_failed()
        if conditions.if_none_match is not None and matches(
            conditions.if_none_match, tag, weak=True
        ):
            return Reply(304, ((b"etag", tag),), b"")
        if query.select is not None:
            body = self._project(query, row)
        return Reply(200, (JSON, (b"etag", tag)), body)
