"""Creating: POST of one row or many, with what is to happen to those that exist already."""

from __future__ import annotations

from typing import Any

from atomicbatch.errors import ConflictError
from atomicbatch.model import Call, Header, Reply
from atomicbatch.server.database.faults import RowFault, fault_of
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.query import Query
from atomicbatch.server.rows.arrays import JsonArray
from atomicbatch.server.rows.preconditions import Conditions, read_conditions
from atomicbatch.server.rows.preferences import NO_PREFERENCES, ON_CREATES
from atomicbatch.server.rows.representation import etag
from atomicbatch.server.rows.resource import JSON, Row, applied
from atomicbatch.server.rows.update import Updating
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import ValueProblem


class Creating(Updating):
    """POST."""

    def _create(self, call: Call, session: Session) -> Reply:
        conditions = read_conditions(call.headers, ON_CREATES)
        body = self._json_body(call, conditions)
        query = self._query(call)
        if query.filter or query.order or query.limit is not None or query.offset:
            raise RowFault(400, "invalid-query", "a create takes only select and on_conflict")
        self._no_conditions(conditions)
        target = self._conflict_target(query, conditions)
        if body.__class__ is dict:
            row, created = self._store(session, body, target, conditions)
            self._check_affected(conditions, int(created or not _ignores(conditions)))
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
            location = self._location(call.path, row)
            if location is not None:
                headers.append((b"location", location))
        if conditions.preferences is not NO_PREFERENCES:
            headers += applied(conditions, b"return=", b"resolution=")
        if row is None or b"return=minimal" in conditions.prefer:
            return Reply(status, tuple(headers), b"")
        body = self._whole.one(row)
        headers += (JSON, (b"etag", etag(body)))
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
        shown, _ = self._shown(query)
        array = JsonArray(shown, self._room(session))
        minimal = b"return=minimal" in conditions.prefer
        any_created = not bodies
        affected = 0
        for index, body in enumerate(bodies):
            if body.__class__ is not dict:
                raise RowFault(400, "wrong-type", f"item {index} of the array must be an object")
            try:
                row, created = self._store(session, body, target, conditions)
            except ValueProblem as problem:
                detail = f"item {index} of the array: {problem.detail}"
                raise ValueProblem(
                    problem.column, detail, status=problem.status, slug=problem.slug
                ) from None
            any_created = any_created or created
            affected += created or not _ignores(conditions)
            if row is not None and not minimal:
                array.extend((self._selected(query, row),))
        self._check_affected(conditions, affected)
        status = 201 if any_created else 200
        headers = applied(conditions, b"return=", b"resolution=")
        if minimal:
            return Reply(status, tuple(headers), b"")
        return Reply(status, (JSON, *headers), array.body())

    def _store(
        self,
        session: Session,
        body: dict[str, Any],
        target: tuple[Column, ...] | None,
        conditions: Conditions,
    ) -> tuple[Row | None, bool]:
        """INSERT, or what ``Prefer: resolution`` says; the row as stored, and whether it is new."""
        if target is None:
            return self._insert(session, body), True
        found = self._find(session, body, target)
        if found is None:
            return self._insert_unless_raced(session, body, target), True
        if _ignores(conditions):
            return found, False
        names = {column.name for column in target}
        changes = {name: value for name, value in body.items() if name not in names}
        by = self.table.key or target
        values = [found[self._positions[column.name]] for column in by]
        return self._change(session, values, changes, found, by=by), False

    def _insert_unless_raced(
        self, session: Session, body: dict[str, Any], target: tuple[Column, ...]
    ) -> Row | None:
        """
        INSERT a row that was looked for and not found.

        A unique violation then means that somebody else has just stored the row, which
        PostgreSQL shows only to a new transaction; or that other columns are taken. The first
        time it is a conflict, which runs the batch again; the second time it is what it says.
        """
        try:
            return self._insert(session, body)
        except session.driver_error as error:
            fault = fault_of(error)
            what = (self.table.name, *(str(body.get(column.name)) for column in target))
            if fault is None or fault.slug != "unique-violation" or session.raced(what):
                raise
            raise ConflictError("another transaction has just stored this row") from error

    def _insert(self, session: Session, body: dict[str, Any]) -> Row | None:
        write = self._sql.insert(tuple(body))
        parameters = write.parameters(body.values())
        row: Row | None = None
        try:
            cursor = session.execute(write.sql, parameters)
            if self._dialect.insert_returning:
                row = cursor.fetchone()
        except session.driver_error as error:
            self._explain(session, error, dict(zip(body, parameters, strict=True)), ())
            raise
        if self._dialect.insert_returning:
            if row is None:
                self._dropped()
            if not self._sql.returns_stale:
                return row
            if self._sql.select_back is None:
                # Without a key there is no way to see what the database made of the row.
                return None
            row = session.one(self._sql.select_back, row, self._room(session))
        else:
            if not self._key_positions:
                return None
            sent = dict(zip(body, parameters, strict=True))
            key = [sent.get(column.name) for column in self.table.key]
            if None in key:
                if not cursor.lastrowid:  # a default that is no number: nobody tells us which
                    return None
                # The database numbers one column of a key at most.
                key = [cursor.lastrowid if part is None else part for part in key]
            row = self._row(session, key)
        if row is None:
            # A trigger has deleted it, or has given it another key.
            self._dropped()
        return row

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
        nulls_equal = frozenset(column.name for column in target) in self.table.nulls_equal
        terms, parameters = [], []
        for column in target:
            quoted, value = self._dialect.quote(column.name), body.get(column.name)
            if value is not None:
                terms.append(f"{quoted} = {self._dialect.placeholder}")
                parameters.append(column.codec.from_json(value))
            elif column.name not in body and column.default_sql is not None:
                terms.append(f"{quoted} = {column.default_sql}")
            elif nulls_equal:
                terms.append(f"{quoted} IS NULL")
            else:
                return None  # a NULL is like no other, and a number is given anew each time
        where = " AND ".join(terms)
        return session.one(f"{self._sql.select} WHERE {where}", parameters, self._room(session))


def _ignores(conditions: Conditions) -> bool:
    """Whether rows that exist already are left as they are."""
    return b"resolution=ignore-duplicates" in conditions.prefer
