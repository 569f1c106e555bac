"""Rows: a call on one table's rows -> SQL -> reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import quote, unquote_to_bytes

import msgspec

from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.conditions import Conditions, is_json, matches, read_conditions
from atomicbatch.server.database import Session
from atomicbatch.server.dialect import Dialect
from atomicbatch.server.faults import RowFault
from atomicbatch.server.query import Query, read_query
from atomicbatch.server.representation import Representation, etag
from atomicbatch.server.schema import Column, Table
from atomicbatch.server.statements import Statements
from atomicbatch.server.values import ValueProblem, decode_json

_JSON: Header = (b"content-type", b"application/json")
_NO_QUERY = Query()
# How many rows are fetched between two looks at the size of the reply.
_FETCH_ROWS = 1000

Row = Sequence[Any]


class Rows:
    """The rows of one table or view as resources."""

    def __init__(self, table: Table, dialect: Dialect, *, read_only: bool, max_bytes: int) -> None:
        self.table = table
        self._dialect = dialect
        self._read_only = read_only or table.read_only
        self._max_bytes = max_bytes
        self._sql = Statements(table, dialect)
        self._whole = Representation(table.columns)
        positions = {column.name: index for index, column in enumerate(table.columns)}
        self._key_positions = tuple(positions[column.name] for column in table.key)
        self._positions = positions

    # A method not in these tables is 405; the order is that of the Allow header.

    def collection(self, call: Call, session: Session) -> Reply:
        """Perform a call on ``/v1/api/{table}``."""
        method = call.method
        if method == "POST" and not self._read_only:
            return self._create(call, session)
        if method in ("GET", "HEAD"):
            return self._list(call, session)
        if method == "PATCH" and not self._read_only:
            return self._update_many(call, session)
        if method == "DELETE" and not self._read_only:
            return self._delete_many(call, session)
        return self._not_allowed(method, "GET, HEAD, POST, PATCH, DELETE, OPTIONS")

    def item(self, call: Call, session: Session, segment: bytes) -> Reply:
        """Perform a call on ``/v1/api/{table}/{key}``; ``segment`` is the key as sent."""
        method = call.method
        if not self._key_positions:
            raise RowFault(404, "not-found", f"{self.table.name!r} has no primary key: use filters")
        if method == "OPTIONS" or (self._read_only and method not in ("GET", "HEAD")):
            return self._not_allowed(method, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")
        key = self._read_key(segment)
        if method in ("GET", "HEAD"):
            return self._read(call, session, key)
        if method == "PATCH":
            return self._update(call, session, key)
        if method == "PUT":
            return self._replace(call, session, key)
        if method == "DELETE":
            return self._delete(call, session, key)
        return self._not_allowed(method, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")

    def _not_allowed(self, method: str, allow: str) -> Reply:
        if self._read_only:
            allow = "GET, HEAD, OPTIONS"
        if method == "OPTIONS":
            return Reply(204, ((b"allow", allow.encode()),), b"")
        what = "view" if self.table.read_only else "table"
        why = f"the {what} {self.table.name!r} is read-only: " if self._read_only else ""
        raise RowFault(405, "method-not-allowed", f"{why}use one of {allow}", allow=allow)

    # Reading

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
        headers = [_JSON, (b"etag", tag)]
        if b"count=exact" in conditions.prefer:
            headers += self._content_range(session, query, count)
        return Reply(200, tuple(headers), body)

    def _shown(self, query: Query) -> tuple[Representation, str]:
        if query.select is None:
            return self._whole, self._sql.columns_sql
        columns = [column for column, _ in query.select]
        shown = Representation(columns, [name for _, name in query.select])
        return shown, ", ".join(self._sql.read_sql(column) for column in columns)

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
        return Reply(200, (_JSON, (b"etag", tag)), body)

    def _row(self, session: Session, key: Row) -> Row | None:
        row: Row | None = session.execute(self._sql.select_by_key, key).fetchone()
        return row

    def _project(self, query: Query, row: Row) -> bytes:
        assert query.select is not None
        shown, _ = self._shown(query)
        return shown.one([row[self._positions[column.name]] for column, _ in query.select])

    # Creating

    def _create(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers)
        body = self._json_body(call, conditions)
        query = self._query(call)
        if query.filtered or query.order or query.limit is not None or query.offset:
            raise RowFault(400, "invalid-query", "a create takes only select and on_conflict")
        self._no_conditions(conditions)
        target = self._conflict_target(query, conditions)
        if body.__class__ is dict:
            row, created = self._store(session, body, target, conditions)
            return self._created(call, query, conditions, row, created=created)
        if body.__class__ is not list:
            raise RowFault(400, "wrong-type", "the body must be a JSON object, or an array of them")
        return self._create_many(session, body, query, target, conditions)

    def _created(
        self, call: Call, query: Query, conditions: Conditions, row: Row | None, *, created: bool
    ) -> Reply:
        status = 201 if created else 200
        headers: list[Header] = []
        if row is not None and self._key_positions:
            headers.append((b"location", self._location(call.path, row)))
        if conditions.prefer:
            headers += _applied(conditions, b"return=", b"resolution=")
        if row is None or b"return=minimal" in conditions.prefer:
            return Reply(status, tuple(headers), b"")
        body = self._whole.one(row)
        headers += (_JSON, (b"etag", etag(body)))
        if query.select is not None:
            body = self._project(query, row)
        return Reply(status, tuple(headers), body)

    def _create_many(
        self,
        session: Session,
        bodies: list[Any],
        query: Query,
        target: tuple[Column, ...] | None,
        conditions: Conditions,
    ) -> Reply:
        rows: list[Row] = []
        any_created = not bodies
        for index, body in enumerate(bodies):
            if body.__class__ is not dict:
                raise RowFault(400, "wrong-type", f"item {index} of the array must be an object")
            try:
                row, created = self._store(session, body, target, conditions)
            except ValueProblem as problem:
                detail = f"item {index} of the array: {problem.detail}"
                raise ValueProblem(problem.column, detail, status=problem.status) from None
            any_created = any_created or created
            if row is not None:
                rows.append(row)
        status = 201 if any_created else 200
        headers = _applied(conditions, b"return=", b"resolution=")
        if b"return=minimal" in conditions.prefer:
            return Reply(status, tuple(headers), b"")
        return Reply(status, (_JSON, *headers), self._many(query, rows))

    def _many(self, query: Query, rows: list[Row]) -> bytes:
        if query.select is None:
            return self._whole.many(rows)
        shown, _ = self._shown(query)
        positions = [self._positions[column.name] for column, _ in query.select]
        return shown.many([[row[position] for position in positions] for row in rows])

    def _store(
        self,
        session: Session,
        body: dict[str, Any],
        target: tuple[Column, ...] | None,
        conditions: Conditions,
    ) -> tuple[Row | None, bool]:
        """INSERT, or what ``Prefer: resolution`` says; the row as stored, and whether it is new."""
        if target is not None and all(body.get(column.name) is not None for column in target):
            found = self._find(session, body, target)
            if found is not None:
                if b"resolution=ignore-duplicates" in conditions.prefer:
                    return found, False
                names = {column.name for column in target}
                changes = {name: value for name, value in body.items() if name not in names}
                return self._change(session, self._key_of(found), changes, found), False
        return self._insert(session, body), True

    def _insert(self, session: Session, body: dict[str, Any]) -> Row | None:
        write = self._sql.insert(tuple(body))
        parameters = write.parameters(body.values())
        cursor = session.execute(write.sql, parameters)
        if self._dialect.insert_returning:
            row: Row | None = cursor.fetchone()
            if row is None:  # a BEFORE trigger of PostgreSQL can swallow the row
                raise RowFault(422, "trigger-refused", "a trigger of the database dropped the row")
            return self._row(session, row) if self._sql.reads_back else row
        if not self._key_positions:
            return None
        sent = dict(zip(body, parameters, strict=True))
        key = [sent.get(column.name) for column in self.table.key]
        if None in key:  # the database numbers one column of a key at most
            key = [cursor.lastrowid if part is None else part for part in key]
        return self._row(session, key)

    def _conflict_target(self, query: Query, conditions: Conditions) -> tuple[Column, ...] | None:
        wanted = {wish for wish in conditions.prefer if wish.startswith(b"resolution=")}
        if not wanted:
            return None
        if not wanted <= {b"resolution=merge-duplicates", b"resolution=ignore-duplicates"}:
            raise RowFault(
                400, "invalid-query", "resolution is merge-duplicates or ignore-duplicates"
            )
        if query.on_conflict is None:
            if not self.table.key:
                raise RowFault(400, "invalid-query", "a table without a key needs on_conflict")
            return self.table.key
        known = {frozenset(unique) for unique in self.table.uniques}
        known.add(frozenset(column.name for column in self.table.key))
        if frozenset(query.on_conflict) not in known:
            raise RowFault(400, "invalid-query", "on_conflict must name a unique set of columns")
        return tuple(self.table.by_name[name] for name in query.on_conflict)

    def _find(
        self, session: Session, body: dict[str, Any], target: tuple[Column, ...]
    ) -> Row | None:
        # Looking first is safe: the transaction is serializable, and has the write lock on SQLite.
        where = " AND ".join(
            f"{self._dialect.quote(column.name)} = {self._dialect.placeholder}" for column in target
        )
        parameters = [column.codec.from_json(body[column.name]) for column in target]
        row: Row | None = session.execute(
            f"{self._sql.select} WHERE {where}", parameters
        ).fetchone()
        return row

    # Changing one row

    def _update(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers)
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

    def _change(
        self, session: Session, key: Row, body: dict[str, Any], before: Row | None
    ) -> Row | None:
        """UPDATE one row; the row as stored, or None where there is none."""
        if not body:
            return before
        write = self._sql.update(tuple(body))
        sql = f"{write.sql} WHERE {self._sql.by_key}"
        parameters = write.parameters(body.values())
        sent = dict(zip(body, parameters, strict=True))
        parameters += key
        if self._sql.update_returns:
            row: Row | None = session.execute(sql + self._sql.returning, parameters).fetchone()
            return row
        if session.execute(sql, parameters).rowcount == 0:
            return None
        pairs = zip(self.table.key, key, strict=True)
        return self._row(session, [sent.get(column.name, old) for column, old in pairs])

    def _changed(self, conditions: Conditions, query: Query, row: Row, status: int = 200) -> Reply:
        body = self._whole.one(row)
        headers: list[Header] = [(b"etag", etag(body))]
        if conditions.prefer:
            headers += _applied(conditions, b"return=")
        if b"return=minimal" in conditions.prefer:
            return Reply(204 if status == 200 else status, tuple(headers), b"")
        if query.select is not None:
            body = self._project(query, row)
        return Reply(status, (_JSON, *headers), body)

    def _replace(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers)
        body = self._object_body(call, conditions)
        query = self._item_query(call)
        body = self._with_key(body, key, call)
        before = self._row(session, key)
        self._check_put(before, conditions)
        if before is None:
            row = self._insert(session, body)
            assert row is not None
            reply = self._changed(conditions, query, row, 201)
            location = (b"location", self._location(call.path.rpartition(b"/")[0], row))
            return reply._replace(headers=(*reply.headers, location))
        row = self._overwrite(session, key, body)
        if row is None:
            self._no_row()
        return self._changed(conditions, query, row)

    def _with_key(self, body: dict[str, Any], key: Row, call: Call) -> dict[str, Any]:
        """The body of a PUT with its key, which may be in the body too if it is the URL's."""
        segment = call.path.rpartition(b"/")[2]
        texts = self._key_texts(segment)
        whole = dict(body)
        for column, part, text in zip(self.table.key, key, texts, strict=True):
            if column.name not in body:
                whole[column.name] = _json_of(column, text)
            elif body[column.name] is None or column.codec.from_json(body[column.name]) != part:
                raise RowFault(
                    400, "key-mismatch", f"column {column.name!r} is not the key in the URL"
                )
        return whole

    def _overwrite(self, session: Session, key: Row, body: dict[str, Any]) -> Row | None:
        """Set every column: those not in ``body`` to their defaults."""
        keys = {column.name for column in self.table.key}
        sent = {name: value for name, value in body.items() if name not in keys}
        rest = [
            column
            for column in self.table.columns
            if column.writable and column.name not in sent and column.name not in keys
        ]
        write = self._sql.update(tuple(sent)) if sent else None
        defaults = self._sql.defaults(rest)
        if write is None and not rest:
            return self._row(session, key)
        sql = write.sql if write else f"UPDATE {self._sql.name} SET {defaults}"
        if write and rest:
            sql += f", {defaults}"
        parameters = (write.parameters(sent.values()) if write else []) + list(key)
        session.execute(f"{sql} WHERE {self._sql.by_key}", parameters)
        return self._row(session, key)

    def _delete(self, call: Call, session: Session, key: Row) -> Reply:
        conditions = read_conditions(call.headers)
        query = self._item_query(call)
        shows = b"return=representation" in conditions.prefer
        before = self._check_current(session, key, conditions)
        if shows and before is None:
            before = self._row(session, key)
        cursor = session.execute(f"{self._sql.delete} WHERE {self._sql.by_key}", key)
        if cursor.rowcount == 0:
            self._no_row()
        headers = _applied(conditions, b"return=")
        if not shows or before is None:
            return Reply(204, tuple(headers), b"")
        body = self._whole.one(before) if query.select is None else self._project(query, before)
        return Reply(200, (_JSON, *headers), body)

    # Changing many rows

    def _update_many(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers)
        body = self._object_body(call, conditions)
        query = self._filter(call, conditions)
        if not body:
            raise RowFault(400, "wrong-type", "the body names no column to change")
        write = self._sql.update(tuple(body))
        parameters = (*write.parameters(body.values()), *query.parameters)
        sql = f"{write.sql} WHERE {query.where}"
        headers = _applied(conditions, b"return=")
        if b"return=minimal" in conditions.prefer:
            session.execute(sql, parameters)
            return Reply(204, tuple(headers), b"")
        if self._sql.update_returns:
            rows = session.execute(sql + self._sql.returning, parameters).fetchall()
        else:
            rows = self._update_and_read_back(session, sql, parameters, query, body)
        return Reply(200, (_JSON, *headers), self._many(query, rows))

    def _update_and_read_back(
        self,
        session: Session,
        sql: str,
        parameters: Sequence[Any],
        query: Query,
        body: dict[str, Any],
    ) -> list[Row]:
        if not self._key_positions or any(column.name in body for column in self.table.key):
            raise RowFault(
                400, "invalid-query", "these rows cannot be read back: use Prefer: return=minimal"
            )
        order = f" ORDER BY {self._sql.key_order}"
        found = session.execute(
            f"SELECT {self._sql.key_order} FROM {self._sql.name} WHERE {query.where}{order}",
            query.parameters,
        ).fetchall()
        session.execute(sql, parameters)
        rows = (self._row(session, key) for key in found)
        return [row for row in rows if row is not None]

    def _delete_many(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers)
        query = self._filter(call, conditions)
        headers = _applied(conditions, b"return=")
        sql = f"{self._sql.delete} WHERE {query.where}"
        if b"return=representation" not in conditions.prefer:
            session.execute(sql, query.parameters)
            return Reply(204, tuple(headers), b"")
        rows = session.execute(
            f"{self._sql.select} WHERE {query.where}", query.parameters
        ).fetchall()
        session.execute(sql, query.parameters)
        return Reply(200, (_JSON, *headers), self._many(query, rows))

    def _filter(self, call: Call, conditions: Conditions) -> Query:
        query = self._query(call)
        if not query.filtered:
            raise RowFault(
                400,
                "filter-required",
                f"{call.method} without a filter would reach every row of {self.table.name!r}",
            )
        if query.order or query.limit is not None or query.offset:
            raise RowFault(400, "invalid-query", f"{call.method} takes no order, limit or offset")
        self._no_conditions(conditions)
        return query

    # What calls have in common

    def _query(self, call: Call) -> Query:
        return read_query(self.table, self._dialect, call.query) if call.query else _NO_QUERY

    def _item_query(self, call: Call) -> Query:
        if not call.query:
            return _NO_QUERY
        query = read_query(self.table, self._dialect, call.query)
        if query.filtered or query.order or query.limit is not None or query.offset:
            raise RowFault(400, "invalid-query", "a single row takes no filters, only select")
        return query

    def _json_body(self, call: Call, conditions: Conditions) -> Any:
        if conditions.content_type is not None and not is_json(conditions.content_type):
            raise RowFault(415, "unsupported-media-type", "the body must be application/json")
        if conditions.content_encoding not in (None, b"identity"):
            raise RowFault(415, "unsupported-media-type", "the body of a call is never compressed")
        try:
            return decode_json(call.body)
        except msgspec.DecodeError as error:
            raise RowFault(400, "malformed-json", f"the body is not JSON: {error}") from None
        except RecursionError:
            raise RowFault(400, "malformed-json", "the body is nested too deeply") from None

    def _object_body(self, call: Call, conditions: Conditions) -> dict[str, Any]:
        body = self._json_body(call, conditions)
        if body.__class__ is not dict:
            raise RowFault(400, "wrong-type", "the body must be a JSON object")
        return body  # type: ignore[no-any-return]

    def _key_texts(self, segment: bytes) -> list[str]:
        parts = segment.split(b",") if len(self.table.key) > 1 else [segment]
        if len(parts) != len(self.table.key):
            names = ",".join(column.name for column in self.table.key)
            raise RowFault(400, "invalid-key", f"the key has {len(self.table.key)} parts: {names}")
        try:
            return [unquote_to_bytes(part).decode() for part in parts]
        except UnicodeDecodeError:
            raise RowFault(400, "invalid-key", "the key is not UTF-8") from None

    def _read_key(self, segment: bytes) -> list[Any]:
        texts = self._key_texts(segment)
        pairs = zip(self.table.key, texts, strict=True)
        return [column.codec.from_text(text) for column, text in pairs]

    def _key_of(self, row: Row) -> Row:
        return [row[position] for position in self._key_positions]

    def _location(self, path: bytes, row: Row) -> bytes:
        parts = []
        for column, position in zip(self.table.key, self._key_positions, strict=True):
            value = row[position]
            if value.__class__ is int:
                parts.append(str(value))
                continue
            if column.codec.to_json is not None:
                value = column.codec.to_json(value)
            parts.append(quote(str(value), safe=""))
        return path.rstrip(b"/") + b"/" + ",".join(parts).encode()

    def _check_current(self, session: Session, key: Row, conditions: Conditions) -> Row | None:
        """The current row where a condition needs it, checked against the condition."""
        if conditions.if_match is None and conditions.if_none_match is None:
            return None
        row = self._row(session, key)
        if row is None:
            self._no_row()
        self._check_tag(etag(self._whole.one(row)), conditions)
        return row

    def _check_put(self, before: Row | None, conditions: Conditions) -> None:
        if before is not None:
            if conditions.if_match is not None or conditions.if_none_match is not None:
                self._check_tag(etag(self._whole.one(before)), conditions)
        elif conditions.if_match is not None:
            self._precondition_failed()

    def _check_tag(self, tag: bytes, conditions: Conditions) -> None:
        if conditions.if_match is not None and not matches(conditions.if_match, tag, weak=False):
            self._precondition_failed()
        if conditions.if_none_match is not None and matches(
            conditions.if_none_match, tag, weak=True
        ):
            self._precondition_failed()

    def _no_conditions(self, conditions: Conditions) -> None:
        # Ignoring them would let a client believe that they held.
        if conditions.if_match is not None or conditions.if_none_match is not None:
            raise RowFault(
                400, "invalid-precondition", "If-Match and If-None-Match fit single rows only"
            )

    def _no_row(self) -> NoReturn:
        raise RowFault(404, "not-found", f"{self.table.name!r} has no row with this key")

    def _precondition_failed(self) -> NoReturn:
        raise RowFault(412, "precondition-failed", "the row is not in the state that was asked for")


def _applied(conditions: Conditions, *kinds: bytes) -> list[Header]:
    """Preference-Applied for the preferences of these kinds (RFC 7240 section 3)."""
    applied = sorted(wish for wish in conditions.prefer if wish.startswith(kinds))
    return [(b"preference-applied", b", ".join(applied))] if applied else []


def _json_of(column: Column, text: str) -> Any:
    """The text of a key in a URL as the JSON value that means the same."""
    parameter = column.codec.from_text(text)
    return column.codec.to_json(parameter) if column.codec.to_json else parameter
