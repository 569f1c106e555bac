"""MariaDB details: what its information schema tells of a table; MySQL's is the same."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

from atomicbatch.server.dialect import MARIADB, Dialect
from atomicbatch.server.schema.column_types import ColumnType, column_type
from atomicbatch.server.schema.details import Details
from atomicbatch.server.values.kinds import Kind

_GEOMETRIES = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = database() AND data_type IN ('geometry', 'point', 'linestring', 'polygon',
    'multipoint', 'multilinestring', 'multipolygon', 'geometrycollection', 'geomcollection')
"""
_CHECKS = """
    SELECT check_clause FROM information_schema.check_constraints
    WHERE constraint_schema = database() AND table_name = :table
"""


class MariaDBDetails(Details):
    """
    Asks one database.

    Args:
        connection: To it.
        dialect: Its SQL; MariaDB's or MySQL's.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        # SQLAlchemy does not know that these hold geometry, in bytes.
        self._geometries = {(row[0], row[1]) for row in connection.exec_driver_sql(_GEOMETRIES)}
        self._json_columns = lru_cache(maxsize=1)(self._read_json_columns)

    def _read_json_columns(self, table: str) -> set[str]:
        """MariaDB's JSON is LONGTEXT with a check that it holds JSON."""
        if self._dialect is not MARIADB:
            return set()
        rows = self._connection.execute(sa.text(_CHECKS), {"table": table})
        found = (re.fullmatch(r"json_valid\(`(.+)`\)", row[0]) for row in rows)
        return {match[1].replace("``", "`") for match in found if match}

    def column_type(self, table: str, column: ReflectedColumn) -> ColumnType:
        name = column["name"]
        if (table, name) in self._geometries:
            return ColumnType(Kind.BYTES)
        if name in self._json_columns(table):
            return ColumnType(Kind.JSON)
        return column_type(column["type"], self._dialect)

    def default_sql(self, column: ReflectedColumn, default: str) -> str | None:  # noqa: ARG002
        return f"DEFAULT({self._dialect.quote(column['name'])})"


def unescape_names(read: Any) -> None:
    """
    Undo the doubling of backticks, which SQLAlchemy leaves in all names but tables' own.

    Args:
        read: What one of its inspector's ``get_multi_...`` methods has returned.
    """
    for described in (item for value in read.values() for item in _listed(value)):
        if "type" in described and "name" in described:
            described["name"] = described["name"].replace("``", "`")
        for member in ("constrained_columns", "referred_columns", "column_names"):
            if member in described:
                described[member] = [
                    name if name is None else name.replace("``", "`") for name in described[member]
                ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
