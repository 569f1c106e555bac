"""SQLite details: what its pragmas tell of a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import (
    ReflectedColumn,
    ReflectedIndex,
    ReflectedUniqueConstraint,
)

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.schema.column_types import ColumnType, column_type
from atomicbatch.server.schema.details import Details, Names
from atomicbatch.server.values.kinds import Kind

# Declared types of which SQLite itself, and so SQLAlchemy, knows only the affinity.
_KINDS = {
    "": Kind.ANY,
    "ANY": Kind.ANY,
    "BOOL": Kind.BOOLEAN,
    "UUID": Kind.UUID,
    "JSONB": Kind.OTHER,
    "TIMESTAMPTZ": Kind.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMP,
}
_WORDS = frozenset(("NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"))
_DECLARATIONS = "SELECT name, type FROM pragma_table_xinfo(:table)"
_KEY_INDEXES = "SELECT 1 FROM pragma_index_list(:table) WHERE origin = 'pk'"
_UNIQUES = """
    SELECT i.name AS index_name, c.name AS column_name
    FROM pragma_index_list(:table) i, pragma_index_info(i.name) c
    WHERE i."unique" AND NOT i.partial
    ORDER BY i.seq, c.seqno
"""


class SQLiteDetails(Details):
    """
    Asks one database.

    Args:
        connection: To it.
        dialect: Its SQL.
        without_rowid: Its tables that number no rows.
    """

    def __init__(
        self, connection: sa.Connection, dialect: Dialect, without_rowid: frozenset[str]
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._without_rowid = without_rowid
        self._declarations = lru_cache(maxsize=1)(self._read_declarations)

    def _read_declarations(self, table: str) -> dict[str, str]:
        rows = self._connection.execute(sa.text(_DECLARATIONS), {"table": table})
        return {row.name: row.type for row in rows}

    def declared(self, table: str, column: str) -> str | None:
        return self._declarations(table).get(column)

    def column_type(self, table: str, column: ReflectedColumn) -> ColumnType:
        declared = self.declared(table, column["name"])
        # SQLAlchemy takes JSONB for JSON if it knows the word.
        if declared is not None and not isinstance(column["type"], sa.JSON):
            kind = _KINDS.get(declared.upper().partition("(")[0].strip())
            if kind is not None:
                return ColumnType(kind)
        return column_type(column["type"], self._dialect)

    def default_sql(self, column: ReflectedColumn, default: str) -> str | None:  # noqa: ARG002
        # SQLite takes "a" and a for texts in a default, and for columns everywhere else.
        if len(default) > 1 and default[0] == default[-1] == '"':
            text = default[1:-1].replace('""', '"')
            return "'" + text.replace("'", "''") + "'"
        if re.fullmatch(r"[A-Za-z_]\w*", default) and default.upper() not in _WORDS:
            return f"'{default}'"
        return f"({default})"

    def is_numbered(self, table: str, column: str, key: Collection[str]) -> bool:
        # A single INTEGER PRIMARY KEY gets its number by itself.
        return list(key) == [column] and (self.declared(table, column) or "").upper() == "INTEGER"

    def is_row_number(self, table: str, key: Collection[str]) -> bool:
        # INTEGER PRIMARY KEY DESC is not, by an old mistake: such a key has an index, as others do.
        indexes = self._connection.execute(sa.text(_KEY_INDEXES), {"table": table})
        return (
            table not in self._without_rowid
            and all(self.is_numbered(table, column, key) for column in key)
            and indexes.first() is None
        )

    def uniques(
        self,
        table: str,
        constraints: Iterable[ReflectedUniqueConstraint],  # noqa: ARG002
        indexes: Iterable[ReflectedIndex],  # noqa: ARG002
    ) -> tuple[Names, ...]:
        # SQLAlchemy reads constraints out of the CREATE statement, and misses some.
        found: dict[str, list[str | None]] = {}
        for row in self._connection.execute(sa.text(_UNIQUES), {"table": table}):
            found.setdefault(row.index_name, []).append(row.column_name)
        # An index on an expression has no column name there.
        return tuple(tuple(filter(None, names)) for names in found.values() if all(names))

    def place(self, table: str, columns: Collection[str]) -> Names:
        if table in self._without_rowid:
            return ()
        taken = {column.lower() for column in columns}
        return tuple([word for word in ("rowid", "_rowid_", "oid") if word not in taken][:1])
