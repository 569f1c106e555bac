"""Resource: what all calls on the rows of one table have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any, NoReturn
from urllib.parse import quote, unquote_to_bytes

import msgspec

from atomicbatch.model import Call, Header
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.dialect import Dialect
from atomicbatch.server.query.query import Query, read_query
from atomicbatch.server.query.sql import Where, where
from atomicbatch.server.rows.arrays import JsonArray
from atomicbatch.server.rows.preconditions import Conditions, is_json, matches
from atomicbatch.server.rows.representation import Representation
from atomicbatch.server.rows.statements import Statements
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.codec import ValueProblem, decode_json
from atomicbatch.server.values.kinds import Kind

JSON: Header = (b"content-type", b"application/json")
Row = Sequence[Any]
_NO_QUERY = Query()
_ALL = Where("", ())
_decode_documents = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Resource:
    """The rows of one table or view: its SQL, keys, bodies and conditions."""

    def __init__(self, table: Table, dialect: Dialect, *, read_only: bool, max_bytes: int) -> None:
        self.table = table
        self._dialect = dialect
        self._read_only = read_only or table.read_only
        self._max_bytes = max_bytes
        self._sql = Statements(table, dialect, most_bytes=max_bytes)
        self._typed = dialect.name != "sqlite"
        self._whole = Representation(table.columns, typed=self._typed)
        positions = {column.name: index for index, column in enumerate(table.columns)}
        self._key_positions = tuple(positions[column.name] for column in table.key)
        self._positions = positions
        self._documents = tuple(c for c in table.columns if c.kind is Kind.JSON)

    def _query(self, call: Call) -> Query:
        return read_query(self.table, call.query) if call.query else _NO_QUERY

    def _item_query(self, call: Call) -> Query:
        if not call.query:
            return _NO_QUERY
        query = read_query(self.table, call.query)
        others = query.filter or query.order or query.limit is not None or query.offset
        if others or query.on_conflict:
            raise RowFault(400, "invalid-query", "a single row takes no filters, only select")
        return query

    def _where(self, query: Query) -> Where:
        return _ALL if query.filter is None else where(query.filter, self._dialect)

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
            body = decode_json(call.body)
            return self._with_documents(body, call.body) if self._documents else body
        except msgspec.DecodeError as error:
            raise RowFault(400, "malformed-json", f"the body is not JSON: {error}") from None
        except RecursionError:
            raise RowFault(400, "malformed-json", "the body is nested too deeply") from None

    def _with_documents(self, body: Any, text: bytes) -> Any:
        """The body with its JSON columns as they were written, to the last digit and blank."""
        if body.__class__ is dict:
            documents = _decode_documents(text)
            for column in self._documents:
                if column.name in body:
                    document = documents[column.name]
                    # NULL where the column takes it; else null can only be the document.
                    is_null = column.nullable and body[column.name] is None
                    body[column.name] = None if is_null else document
        elif body.__class__ is list:
            texts = _decode_list(text)
            return [self._with_documents(row, bytes(texts[n])) for n, row in enumerate(body)]
        return body

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

    def _location(self, path: bytes, row: Row) -> bytes | None:
        """The path of a row; None where its key cannot stand in one."""
        parts = []
        for column, value in zip(self.table.key, self._key_of(row), strict=True):
            if value.__class__ is int:
                parts.append(str(value))
                continue
            text = _key_text(column, value)
            # SQLite lets any column hold anything; the text must lead back to the row.
            if text is None or (self._dialect.name == "sqlite" and _read(column, text) != value):
                return None
            parts.append(quote(text, safe=""))
        segment = ",".join(parts)
        # Clients take dots out of a path, percent-encoded ones too (RFC 3986 section 6.2.2).
        if segment in ("", ".", ".."):
            return None
        return path.rstrip(b"/") + b"/" + segment.encode()

    def _row(self, session: Session, key: Row) -> Row | None:
        return session.one(self._sql.select_by_key, key, self._room(session))

    def _room(self, session: Session) -> int:
        """How many bytes the replies of this batch may still take."""
        return max(0, self._max_bytes - session.reply_bytes)

    def _shown(self, query: Query) -> tuple[Representation, str]:
        if query.select is None:
            return self._whole, self._sql.columns_sql
        columns = [column for column, _ in query.select]
        shown = Representation(columns, [name for _, name in query.select], typed=self._typed)
        return shown, ", ".join(self._sql.read_sql(column) for column in columns)

    def _project(self, query: Query, row: Row) -> bytes:
        shown, _ = self._shown(query)
        return shown.one(self._selected(query, row))

    def _selected(self, query: Query, row: Row) -> Row:
        """What ``select`` asks for of a whole row."""
        if query.select is None:
            return row
        return [row[self._positions[column.name]] for column, _ in query.select]

    def _read_all(
        self, session: Session, sql: str, parameters: Sequence[Any], shown: Representation
    ) -> JsonArray:
        """All rows of a SELECT or RETURNING, written as they arrive."""
        room = self._room(session)
        array = JsonArray(shown, room)
        with closing(session.stream(sql, parameters, room)) as rows:
            array.extend(rows)
        return array

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

    def _row_where(self, session: Session, where: str, parameters: Row) -> Row | None:
        sql = f"{self._sql.select} WHERE {where}"
        return session.one(sql, parameters, self._room(session))

    def _not_written(self, session: Session, where: str, key: Row) -> NoReturn:
        """A write of one row has reached none: there is none, or the write was dropped."""
        if self._row_where(session, where, key) is not None:
            self._dropped()
        self._no_row()

    def _matching(self, session: Session, query: Query) -> int | None:
        """How many rows a write must reach, where triggers could silently drop some of it."""
        if not self.table.has_triggers:
            return None
        where, parameters = self._where(query)
        sql = f"SELECT count(*) FROM {self._sql.name} WHERE {where}"
        count: int = session.execute(sql, parameters).fetchone()[0]
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


def _key_text(column: Column, value: Any) -> str | None:
    """A part of a key as it is written in a path, or None where it cannot be."""
    if value is None:
        return None
    if isinstance(value, bytes) and column.kind is not Kind.BYTES:
        return None
    shown = value if column.codec.to_json is None else column.codec.to_json(value)
    if isinstance(shown, msgspec.Raw):
        return bytes(shown).decode()
    if column.kind is Kind.ARRAY:
        return str(value)  # the database's text form, which a path takes
    if isinstance(shown, bool):
        return "true" if shown else "false"
    if isinstance(shown, str) and not _is_utf8(shown):
        return None
    return str(shown) if isinstance(shown, str | int | float) else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(column: Column, text: str) -> Any:
    try:
        return column.codec.from_text(text)
    except ValueProblem:
        return None


def applied(conditions: Conditions, *kinds: bytes) -> list[Header]:
    """Preference-Applied for the preferences of these kinds (RFC 7240 section 3)."""
    applied = conditions.preferences.applied(*kinds)
    return [(b"preference-applied", applied)] if applied else []
