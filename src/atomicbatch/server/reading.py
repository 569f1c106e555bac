"""Reading: GET and HEAD of many rows and of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.conditions import matches, read_conditions
from atomicbatch.server.database import Session
from atomicbatch.server.faults import RowFault
from atomicbatch.server.query import Query
from atomicbatch.server.representation import Representation, etag
from atomicbatch.server.resource import JSON, Resource, Row

# How many rows are fetched between two looks at the size of the reply.
_FETCH_ROWS = 1000


class Reading(Resource):
    """GET and HEAD."""

    def _list(self, call: Call, session: Session) -> Reply:
        query = self._query(call)
        conditions = read_conditions(call.headers)
        shown, columns_sql = self._shown(query)
        sql, parameters = self._selection(f"SELECT {columns_sql} FROM {self._sql.name}", query)
        body, count = self._fetch(session, sql, parameters, shown)
        tag = etag(body)
        if conditions.if_none_match is not None and matches(
            conditions.if_none_match, tag, weak=True
        ):
            return Reply(304, ((b"etag", tag),), b"")
        headers = [JSON, (b"etag", tag)]
        if b"count=exact" in conditions.prefer:
            headers += self._content_range(session, query, count)
        return Reply(200, tuple(headers), body)

    def _selection(self, sql: str, query: Query) -> tuple[str, tuple[Any, ...]]:
        """WHERE, ORDER BY, LIMIT and OFFSET behind ``sql``."""
        parameters = query.parameters
        if query.where:
            sql += f" WHERE {query.where}"
        # The key as tie-break: pages neither overlap nor leave a row out.
        order = ", ".join(part for part in (query.order, self._sql.key_order) if part)
        if order:
            sql += f" ORDER BY {order}"
        if query.limit is not None or query.offset:
            mark = self._dialect.placeholder
            most = 2**63 - 1 if query.limit is None else query.limit
            sql += f" LIMIT {mark} OFFSET {mark}"
            parameters = (*parameters, most, query.offset)
        return sql, parameters

    def _fetch(
        self, session: Session, sql: str, parameters: Sequence[Any], shown: Representation
    ) -> tuple[bytes, int]:
        cursor = session.execute(sql, parameters)
        rows = cursor.fetchmany(_FETCH_ROWS)
        body = shown.many(rows)
        count = len(rows)
        while len(rows) == _FETCH_ROWS:
            rows = cursor.fetchmany(_FETCH_ROWS)
            if not rows:
                break
            count += len(rows)
            body = body[:-1] + b"," + shown.many(rows)[1:]
            if session.reply_bytes + len(body) > self._max_bytes:
                raise RowFault(
                    413,
                    "limit-exceeded",
                    f"the replies of one batch hold at most {self._max_bytes} bytes: "
                    "ask for fewer rows with limit and offset",
                    limit="max_reply_bytes",
                    maximum=self._max_bytes,
                )
        return body, count

    def _content_range(self, session: Session, query: Query, count: int) -> list[Header]:
        sql = f"SELECT count(*) FROM {self._sql.name}"
        if query.where:
            sql += f" WHERE {query.where}"
        total = session.execute(sql, query.parameters).fetchone()[0]
        span = f"{query.offset}-{query.offset + count - 1}" if count else "*"
        return [
            (b"content-range", f"{span}/{total}".encode()),
            (b"preference-applied", b"count=exact"),
        ]

    def _read(self, call: Call, session: Session, key: Row) -> Reply:
        query = self._item_query(call)
        row = self._row(session, key)
        if row is None:
            self._no_row()
        body = self._whole.one(row)
        tag = etag(body)
        conditions = read_conditions(call.headers)
        if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
            self._precondition_failed()
        if conditions.if_none_match is not None and matches(
            conditions.if_none_match, tag, weak=True
        ):
            return Reply(304, ((b"etag", tag),), b"")
        if query.select is not None:
            body = self._project(query, row)
        return Reply(200, (JSON, (b"etag", tag)), body)
