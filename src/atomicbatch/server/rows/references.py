"""References: which reference a write would break, where the database does not say (SQLite)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atomicbatch.drivers.meanings import FOREIGN
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.resource import Resource, Row


class References(Resource):
    """Says which reference a write would break."""

    def _explain(
        self, session: Session, error: Exception, sent: Mapping[str, Any], key: Row
    ) -> None:
        """
        Say which reference it was, where SQLite has said only that some does not hold.

        Args:
            session: Whose transaction.
            error: What a write of one row has raised; nothing is done where it is another error.
            sent: The new values of the row's columns, as parameters.
            key: The primary key's values of a row that is there, or empty.

        Raises:
            RowFault: This one.
        """
        if getattr(error, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_FOREIGNKEY":
            self._blame(session, sent, key)

    def _blame(self, session: Session, sent: Mapping[str, Any], key: Row) -> None:
        for reference in self.table.foreign_keys:
            values = [sent.get(name) for name in reference.columns]
            if None in values or reference.table == self.table.name:
                continue
            if not self._exists(session, reference.table, reference.target_columns, values):
                names = ", ".join(reference.columns)
                detail = f"the row points at a row of {reference.table!r} that does not exist"
                raise RowFault(FOREIGN.status, FOREIGN.slug, f"{detail} ({names})", column=names)
        row = self._row(session, key) if key else None
        if row is None:
            return
        for reference in self.table.referenced_by:
            values = [row[self._positions[name]] for name in reference.target_columns]
            if self._exists(session, reference.table, reference.columns, values):
                detail = f"a row of {reference.table!r} points at this one"
                names = ", ".join(reference.columns)
                raise RowFault(
                    FOREIGN.status,
                    FOREIGN.slug,
                    f"{detail} ({names})",
                    column=names,
                    table=reference.table,
                )

    def _exists(
        self, session: Session, table: str, names: Iterable[str], values: Sequence[Any]
    ) -> bool:
        quote = self._dialect.quote
        where = " AND ".join(f"{quote(name)} = ?" for name in names)
        sql = f"SELECT 1 FROM {quote(table)} WHERE {where} LIMIT 1"
        return session.execute(sql, values).fetchone() is not None
