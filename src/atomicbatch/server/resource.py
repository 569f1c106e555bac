"""Resource: what all calls on the rows of one table have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import quote, unquote_to_bytes

import msgspec

from atomicbatch.model import Call, Header
from atomicbatch.server.conditions import Conditions, is_json, matches
from atomicbatch.server.database import Session
from atomicbatch.server.dialect import Dialect
from atomicbatch.server.faults import RowFault
from atomicbatch.server.query import Query, read_query
from atomicbatch.server.representation import Representation
from atomicbatch.server.schema import Table
from atomicbatch.server.statements import Statements
from atomicbatch.server.values import decode_json

JSON: Header = (b"content-type", b"application/json")
Row = Sequence[Any]
_NO_QUERY = Query()


class Resource:
    """The rows of one table or view: its SQL, keys, bodies and conditions."""

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

    def _query(self, call: Call) -> Query:
        return read_query(self.table, self._dialect, call.query) if call.query else _NO_QUERY

    def _item_query(self, call: Call) -> Query:
        if not call.query:
            return _NO_QUERY
        query = read_query(self.table, self._dialect, call.query)
        others = query.filtered or query.order or query.limit is not None or query.offset
        if others or query.on_conflict:
            raise RowFault(400, "invalid-query", "a single row takes no filters, only select")
        return query

    def _json_body(self, call: Call, conditions: Conditions) -> Any:
        # A page of another site can make a browser send a body without a Content-Type, or with one
        # of forms and plain text, and is not asked first; with JSON's it is.
        if conditions.content_type is None:
            if call.body:
                detail = "the body needs a Content-Type: application/json"
                raise RowFault(415, "unsupported-media-type", detail)
        elif not is_json(conditions.content_type):
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
        return body

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

    def _has_address(self, row: Row) -> bool:
        """Whether a row's key can stand in a path: SQLite's may be NULL, and a text empty."""
        key = self._key_of(row)
        return None not in key and list(key) != [""]

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

    def _row(self, session: Session, key: Row) -> Row | None:
        row: Row | None = session.execute(self._sql.select_by_key, key).fetchone()
        return row

    def _shown(self, query: Query) -> tuple[Representation, str]:
        if query.select is None:
            return self._whole, self._sql.columns_sql
        columns = [column for column, _ in query.select]
        shown = Representation(columns, [name for _, name in query.select])
        return shown, ", ".join(self._sql.read_sql(column) for column in columns)

    def _project(self, query: Query, row: Row) -> bytes:
        shown, _ = self._shown(query)
        return shown.one([row[self._positions[column.name]] for column, _ in query.select or ()])

    def _many(self, query: Query, rows: list[Row]) -> bytes:
        if query.select is None:
            return self._whole.many(rows)
        shown, _ = self._shown(query)
        positions = [self._positions[column.name] for column, _ in query.select]
        return shown.many([[row[position] for position in positions] for row in rows])

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

    def _not_written(self, session: Session, key: Row) -> NoReturn:
        """A write by key has reached no row: there is none, or the write was dropped."""
        if self._row(session, key) is not None:
            self._dropped()
        self._no_row()

    def _matching(self, session: Session, query: Query) -> int | None:
        """How many rows a write must reach, where triggers could silently drop some of it."""
        if not self.table.has_triggers:
            return None
        sql = f"SELECT count(*) FROM {self._sql.name} WHERE {query.where}"
        count: int = session.execute(sql, query.parameters).fetchone()[0]
        return count

    def _check_reached(self, reached: int, expected: int | None) -> None:
        # RAISE(IGNORE) and ON CONFLICT IGNORE on SQLite, RETURN NULL on PostgreSQL: no error, and
        # no change.
        if expected is not None and reached != expected:
            self._dropped()

    def _check_affected(self, conditions: Conditions, count: int) -> None:
        """Refuse a write that has changed more rows than ``Prefer: max-affected`` allows."""
        most = conditions.preferences.max_affected
        if most is not None and count > most:
            raise RowFault(
                400,
                "too-many-affected",
                f"{count} rows would be changed, and Prefer: max-affected={most} allows fewer",
            )

    def _dropped(self) -> NoReturn:
        raise RowFault(
            422, "trigger-refused", "a trigger or rule of the database dropped or undid the change"
        )

    def _precondition_failed(self) -> NoReturn:
        raise RowFault(412, "precondition-failed", "the row is not in the state that was asked for")


def applied(conditions: Conditions, *kinds: bytes) -> list[Header]:
    """Preference-Applied for the preferences of these kinds (RFC 7240 section 3)."""
    applied = conditions.preferences.applied(*kinds)
    return [(b"preference-applied", applied)] if applied else []
