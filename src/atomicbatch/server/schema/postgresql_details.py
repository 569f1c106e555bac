"""PostgreSQL details: what its catalogs tell of a table."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from atomicbatch.server.schema.column_types import ColumnType
from atomicbatch.server.schema.details import Details, Names
from atomicbatch.server.schema.postgresql_types import PostgreSQLTypes

_NULLS_EQUAL = """
    SELECT relname, indexrelid, attname FROM pg_catalog.pg_index
    JOIN pg_catalog.pg_class ON pg_class.oid = indrelid
    JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE relnamespace = current_schema()::regnamespace AND indisunique AND indnullsnotdistinct
    AND indpred IS NULL AND indexprs IS NULL
"""


class PostgreSQLDetails(Details):
    """
    Asks one database.

    Args:
        connection: To it.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._types = PostgreSQLTypes(connection)
        self._nulls_equal = _nulls_equal(connection)

    def column_type(self, table: str, column: ReflectedColumn) -> ColumnType:
        return self._types.column_type(table, column["name"])

    def default_sql(self, column: ReflectedColumn, default: str) -> str | None:  # noqa: ARG002
        # "%" is doubled as in names: the driver would read it as a placeholder.
        return None if "nextval(" in default else f"({default})".replace("%", "%%")

    def nulls_equal(self, table: str) -> frozenset[frozenset[str]]:
        return self._nulls_equal.get(table, frozenset())

    def place(self, table: str, columns: Collection[str]) -> Names:  # noqa: ARG002
        return ("tableoid", "ctid")


def _nulls_equal(connection: sa.Connection) -> dict[str, frozenset[frozenset[str]]]:
    """By table, the unique sets of columns that take one NULL only (from PostgreSQL 15 on)."""
    if (connection.dialect.server_version_info or ()) < (15,):
        return {}
    by_index: dict[tuple[str, int], set[str]] = {}
    for table, index, column in connection.exec_driver_sql(_NULLS_EQUAL):
        by_index.setdefault((table, index), set()).add(column)
    found: dict[str, frozenset[frozenset[str]]] = {}
    for (table, _), names in by_index.items():
        found[table] = found.get(table, frozenset()) | {frozenset(names)}
    return found
