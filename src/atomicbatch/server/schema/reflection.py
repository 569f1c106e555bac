"""Reflection: a live database -> Schema, by SQLAlchemy's inspector and a database's own details."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine.interfaces import (
    ReflectedColumn,
    ReflectedForeignKeyConstraint,
    ReflectedIndex,
    ReflectedUniqueConstraint,
)
from sqlalchemy.engine.reflection import Inspector, ObjectKind

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.schema.column_types import ColumnType
from atomicbatch.server.schema.details import Details
from atomicbatch.server.schema.effects import Effects, effects
from atomicbatch.server.schema.mariadb_details import MariaDBDetails, unescape_names
from atomicbatch.server.schema.postgresql_details import PostgreSQLDetails
from atomicbatch.server.schema.sqlite_details import SQLiteDetails
from atomicbatch.server.schema.sqlite_storage import keeps
from atomicbatch.server.schema.tables import Column, ForeignKey, Schema, Table
from atomicbatch.server.values.codecs import codec_for
from atomicbatch.server.values.kinds import Bounds

# What a type declares and a column has an attribute for.
_BOUNDS = tuple(name for name in Bounds.__slots__ if name in Column.__slots__)


def read_schema(connection: sa.Connection, dialect: Dialect) -> Schema:
    """
    Read every table and view of the database's default schema.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached or read.
    """
    with warnings.catch_warnings():
        # Types that SQLAlchemy does not know are served in the database's own text form.
        warnings.simplefilter("ignore", exc.SAWarning)
        tables = _Reader(connection, dialect).tables()
    if dialect.name == "sqlite":
        tables = _with_references(tables)
    return Schema(dialect, tables, _shown(connection.engine.url))


def _shown(url: sa.URL) -> str:
    """What is served, for people who need not know where it is kept and by whom."""
    name = url.database or ""
    return PurePath(name).name if url.get_backend_name() == "sqlite" else name


class _Reflected(NamedTuple):
    """What SQLAlchemy's inspector tells of one table or view."""

    name: str
    is_view: bool
    columns: list[ReflectedColumn]
    key: list[str]
    foreign_keys: list[ReflectedForeignKeyConstraint]
    uniques: list[ReflectedUniqueConstraint]
    indexes: list[ReflectedIndex]


def _reflect(inspector: Inspector, dialect: Dialect) -> list[_Reflected]:
    """Ask for all tables and views at once, in few queries; in the order of their names."""
    columns = inspector.get_multi_columns(kind=ObjectKind.ANY)
    keys = inspector.get_multi_pk_constraint(kind=ObjectKind.TABLE)
    foreign = inspector.get_multi_foreign_keys(kind=ObjectKind.TABLE)
    uniques = inspector.get_multi_unique_constraints(kind=ObjectKind.TABLE)
    indexes = inspector.get_multi_indexes(kind=ObjectKind.TABLE)
    views = set(inspector.get_multi_columns(kind=ObjectKind.ANY_VIEW))
    if dialect.name == "mysql":
        for read in (columns, keys, foreign, uniques, indexes):
            unescape_names(read)
    found = []
    for full_name in sorted(columns, key=lambda pair: pair[1]):
        key = keys.get(full_name)
        found.append(
            _Reflected(
                full_name[1],
                full_name in views,
                columns[full_name],
                key["constrained_columns"] if key else [],
                foreign.get(full_name, []),
                uniques.get(full_name, []),
                indexes.get(full_name, []),
            )
        )
    return found


def _details(connection: sa.Connection, dialect: Dialect, beyond: Effects) -> Details:
    if dialect.name == "sqlite":
        return SQLiteDetails(connection, dialect, beyond.without_rowid)
    if dialect.name == "postgresql":
        return PostgreSQLDetails(connection)
    return MariaDBDetails(connection, dialect)


class _Reader:
    """Makes our tables of what is known of one database."""

    def __init__(self, connection: sa.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        self._effects = effects(connection, dialect.name)
        self._details = _details(connection, dialect, self._effects)

    def tables(self) -> dict[str, Table]:
        reflected = _reflect(sa.inspect(self._connection), self._dialect)
        return {
            found.name: self._table(found)
            for found in reflected
            if not found.name.startswith("sqlite_")
        }

    def _table(self, found: _Reflected) -> Table:
        name = found.name
        columns = tuple(self._column(found, column) for column in found.columns)
        by_name = {column.name: column for column in columns}
        why = "it is a view" if found.is_view else self._effects.read_only.get(name, "")
        return Table(
            name=name,
            columns=columns,
            key=tuple(by_name[key] for key in found.key),
            foreign_keys=tuple(
                ForeignKey(
                    tuple(key["constrained_columns"]),
                    key["referred_table"],
                    tuple(key["referred_columns"]),
                )
                for key in found.foreign_keys
            ),
            uniques=self._details.uniques(name, found.uniques, found.indexes),
            nulls_equal=self._details.nulls_equal(name),
            has_triggers=name in self._effects.indirect,
            place=self._details.place(name, by_name),
            number=self._number(name, columns, found.key),
            read_only=bool(why),
            read_only_why=why,
        )

    def _number(self, table: str, columns: Sequence[Column], key: list[str]) -> Column | None:
        """See ``Table.number``."""
        if table not in self._effects.direct or not self._details.is_row_number(table, key):
            return None
        by_name = {column.name: column for column in columns if column.writable}
        # No column may be computed.
        return by_name[key[0]] if key and len(by_name) == len(columns) else None

    def _column(self, found: _Reflected, column: ReflectedColumn) -> Column:
        table, name = found.name, column["name"]
        held = self._details.column_type(table, column)
        numbered = self._details.is_numbered(table, name, found.key)
        nullable = bool(column["nullable"]) and not held.not_null
        has_default = numbered or held.has_default or _has_default(column)
        codec = codec_for(self._dialect, name, held.kind, held.bounds)
        declared = self._type_name(table, column)
        return Column(
            name=name,
            kind=held.kind,
            nullable=nullable and name not in found.key,
            required=not (nullable or has_default) and not found.is_view,
            writable=not _is_computed(column),
            default_sql=self._default_sql(column),
            select_sql=self._select_sql(name, held),
            keeps=self._dialect.name == "sqlite" and keeps(held.kind, declared),
            sql_type=declared,
            comment=column.get("comment"),
            # A number that SQLite has given is one, whatever SQLite allows in other columns.
            codec=replace(codec, to_json=None) if numbered else codec,
            **{bound: getattr(held.bounds, bound) for bound in _BOUNDS},
        )

    def _default_sql(self, column: ReflectedColumn) -> str | None:
        default = column.get("default")
        if default is None or "computed" in column:
            return None
        return self._details.default_sql(column, default)

    def _select_sql(self, name: str, held: ColumnType) -> str | None:
        return None if held.cast is None else held.cast.format(self._dialect.quote(name))

    def _type_name(self, table: str, column: ReflectedColumn) -> str:
        declared = self._details.declared(table, column["name"])
        if declared is not None:
            return declared
        try:
            return column["type"].compile(self._connection.dialect)
        except exc.CompileError:
            return ""


def _has_default(column: ReflectedColumn) -> bool:
    """Whether a row can be created without a value for this column."""
    return (
        column.get("default") is not None
        or column.get("autoincrement") is True
        or "identity" in column
        or "computed" in column
    )


def _is_computed(column: ReflectedColumn) -> bool:
    """Whether the database computes the column, so that nobody else can write it."""
    identity: Any = column.get("identity", {})
    return "computed" in column or bool(identity.get("always"))


def _with_references(tables: dict[str, Table]) -> dict[str, Table]:
    """The tables, each with the foreign keys of others that point at it."""
    pointing: dict[str, list[ForeignKey]] = {}
    for table in tables.values():
        for key in table.foreign_keys:
            pointing.setdefault(key.table.lower(), []).append(replace(key, table=table.name))
    return {
        name: replace(table, referenced_by=tuple(pointing.get(name.lower(), ())))
        for name, table in tables.items()
    }
