"""Updating: UPDATE of one row, found by its key or by other columns that make it unique."""

from __future__ import annotations

from typing import Any

from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.keeping import Keeping
from atomicbatch.server.rows.resource import Row
from atomicbatch.server.rows.statements import Write
from atomicbatch.server.schema.tables import Column
from atomicbatch.server.values.codec import ValueProblem


class Updating(Keeping):
    """PATCH and PUT of a row that is there."""

    def _change(
        self,
        session: Session,
        key: Row,
        body: dict[str, Any],
        before: Row | None,
        *,
        by: tuple[Column, ...] = (),
    ) -> Row | None:
        """
        UPDATE one row.

        Args:
            session: Whose transaction.
            key: The values that the row is found by.
            body: The changes.
            before: The row as it is, where that is known.
            by: The columns of ``key``; empty for the primary key.

        Returns:
            The row as stored; ``before`` where nothing is to be changed.

        Raises:
            RowFault: There is no such row, or the change was dropped.
        """
        by = by or self.table.key
        where, key = self._sql.where(by, key)
        body, before, write, parameters = self._bind(session, where, key, body, before)
        if write is None:
            return before
        sql = f"{write.sql} WHERE {where}"
        sent = dict(zip(body, parameters, strict=True))
        returning = self._sql.returning if self._sql.update_returns else ""
        try:
            # SQLite checks references after it has returned the row.
            if returning:
                row = session.one(sql + returning, [*parameters, *key], self._room(session))
                reached = 0 if row is None else 1
            else:
                row, reached = None, session.execute(sql, [*parameters, *key]).rowcount
        except session.driver_error as error:
            self._explain(session, error, sent, key if by is self.table.key else ())
            raise
        if reached == 0:
            self._not_written(session, where, key)
        if returning:
            return row
        if by is self.table.key and any(column.name in sent for column in by):
            key = [sent.get(column.name, old) for column, old in zip(by, key, strict=True)]
        row = self._row_where(session, where, key)
        if row is None:
            self._dropped()
        return row

    def _overwrite(self, session: Session, key: Row, body: dict[str, Any], before: Row) -> Row:
        """Set every column: those not in ``body`` to their defaults."""
        where = self._sql.by_key
        keys = {column.name for column in self.table.key}
        sent = {name: value for name, value in body.items() if name not in keys}
        rest = [
            column
            for column in self.table.columns
            if column.writable and column.name not in sent and column.name not in keys
        ]
        kept, _, write, parameters = self._bind(session, where, key, sent, before)
        if write is None and not rest:
            return before
        defaults = self._sql.defaults(rest)
        sql = write.sql if write else f"UPDATE {self._sql.name} SET {defaults}"
        if write and rest:
            sql += f", {defaults}"
        try:
            reached = session.execute(f"{sql} WHERE {where}", [*parameters, *key]).rowcount
        except session.driver_error as error:
            self._explain(session, error, dict(zip(kept, parameters, strict=True)), key)
            raise
        if reached == 0:
            self._not_written(session, where, key)
        row = self._row(session, key)
        if row is None:
            self._dropped()
        return row

    def _bind(
        self, session: Session, where: str, key: Row, body: dict[str, Any], before: Row | None
    ) -> tuple[dict[str, Any], Row | None, Write | None, list[Any]]:
        """
        The UPDATE for ``body``, without the columns that are to be left alone.

        Returns:
            What is left of ``body``, the row before where it was read, the statement (None where
            nothing is left) and its parameters.
        """
        problem: ValueProblem | None = None
        if not self._may_be_kept(body):
            try:
                return body, before, *self._bound(body)
            except ValueProblem as refused:
                problem = refused
        if before is None:
            before = self._row_where(session, where, key)
            if before is None:
                self._no_row()
        kept = self._kept(before, body)
        if problem is not None and not kept:
            raise problem
        body = {name: value for name, value in body.items() if name not in kept}
        return body, before, *self._bound(body)

    def _bound(self, body: dict[str, Any]) -> tuple[Write | None, list[Any]]:
        if not body:
            return None, []
        write = self._sql.update(tuple(body))
        return write, write.parameters(body.values())
