"""Reflection: a live database -> Schema, by SQLAlchemy's inspector."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import mysql
from sqlalchemy.engine.interfaces import (
    ReflectedColumn,
    ReflectedIndex,
    ReflectedUniqueConstraint,
)
from sqlalchemy.engine.reflection import Inspector, ObjectKind

from atomicbatch.server.dialect import MARIADB, Dialect
from atomicbatch.server.schema.effects import Effects, effects
from atomicbatch.server.schema.postgresql_types import PostgreSQLTypes
from atomicbatch.server.schema.tables import Column, ForeignKey, Schema, Table
from atomicbatch.server.values.codec import Bounds
from atomicbatch.server.values.codecs import codec_for
from atomicbatch.server.values.kinds import Kind

TableKey = tuple[str | None, str]


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
    return Schema(dialect, tables, _shown(connection.engine.url))


def _shown(url: sa.URL) -> str:
    """What is served, for people who may not know where it is kept and by whom."""
    name = url.database or ""
    return PurePath(name).name if url.get_backend_name() == "sqlite" else name


class _Reader:
    """Everything the inspector knows of one database, fetched table by table in few queries."""

    def __init__(self, connection: sa.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        self._inspector: Inspector = sa.inspect(connection)
        self._geometries = self._mysql_geometries()
        self._types = PostgreSQLTypes(connection) if dialect.name == "postgresql" else None

    def tables(self) -> dict[str, Table]:
        inspector = self._inspector
        columns = inspector.get_multi_columns(kind=ObjectKind.ANY)
        keys = inspector.get_multi_pk_constraint(kind=ObjectKind.TABLE)
        foreign = inspector.get_multi_foreign_keys(kind=ObjectKind.TABLE)
        uniques = inspector.get_multi_unique_constraints(kind=ObjectKind.TABLE)
        indexes = inspector.get_multi_indexes(kind=ObjectKind.TABLE)
        views = {name for _, name in inspector.get_multi_columns(kind=ObjectKind.ANY_VIEW)}
        nulls_equal = {} if self._types is None else self._types.nulls_equal
        beyond = effects(self._connection, self._dialect.name)
        read_only = beyond.read_only | dict.fromkeys(views, "it is a view")
        if self._dialect.name == "mysql":
            for read in (columns, keys, foreign, uniques, indexes):
                _unescape(read)
        found: dict[str, Table] = {}
        for full_name in sorted(columns, key=lambda pair: pair[1]):
            _, name = full_name
            if name.startswith("sqlite_"):
                continue
            key = keys.get(full_name)
            key_names = key["constrained_columns"] if key else []
            made = self._columns(name, columns[full_name], key_names, is_view=name in views)
            by_name = {column.name: column for column in made}
            found[name] = Table(
                name=name,
                columns=tuple(made),
                key=tuple(by_name[key] for key in key_names),
                foreign_keys=tuple(
                    ForeignKey(
                        tuple(key["constrained_columns"]),
                        key["referred_table"],
                        tuple(key["referred_columns"]),
                    )
                    for key in foreign.get(full_name, [])
                ),
                uniques=self._sqlite_uniques(name)
                if self._dialect.name == "sqlite"
                else _unique_sets(uniques.get(full_name, []), indexes.get(full_name, [])),
                nulls_equal=nulls_equal.get(name, frozenset()),
                has_triggers=name in beyond.indirect,
                place=self._place(name, made, beyond),
                read_only=name in read_only,
                read_only_why=read_only.get(name, ""),
            )
        return _with_references(found) if self._dialect.name == "sqlite" else found

    def _place(self, name: str, columns: list[Column], effects: Effects) -> tuple[str, ...]:
        """What tells where the database keeps a row; see ``Table.place``."""
        if self._dialect.name == "postgresql":
            return ("tableoid", "ctid")
        if self._dialect.name == "sqlite" and name not in effects.without_rowid:
            taken = {column.name.lower() for column in columns}
            return tuple([word for word in ("rowid", "_rowid_", "oid") if word not in taken][:1])
        return ()

    def _columns(
        self, table: str, reflected: list[ReflectedColumn], key: list[str], *, is_view: bool
    ) -> list[Column]:
        declared = self._sqlite_declarations(table) if self._dialect.name == "sqlite" else {}
        json_columns = self._mariadb_json_columns(table)
        made = []
        for column in reflected:
            name = column["name"]
            if self._types is not None:
                held = self._types.of(table, name)
                kind, bounds, cast = held.kind, held.bounds, _POSTGRESQL_CASTS.get(held.kind)
            else:
                held = None
                kind, facts = _kind_of(
                    column["type"], self._dialect, declared.get(name), is_json=name in json_columns
                )
                cast = facts.pop("cast", None)
                bounds = Bounds(**facts)
                if (table, name) in self._geometries:
                    kind = Kind.BYTES
            computed = "computed" in column or (
                bool(column.get("identity", {}).get("always")) if "identity" in column else False
            )
            # SQLite gives a single INTEGER PRIMARY KEY its number by itself.
            numbered = (
                self._dialect.name == "sqlite"
                and key == [name]
                and (declared.get(name) or "").upper() == "INTEGER"
            )
            has_default = (
                column.get("default") is not None
                or column.get("autoincrement") is True
                or "identity" in column
                or computed
                or numbered
                or (held is not None and held.has_default)
            )
            nullable = bool(column["nullable"]) and not (held is not None and held.not_null)
            codec = codec_for(self._dialect, name, kind, bounds)
            made.append(
                Column(
                    name=name,
                    kind=kind,
                    nullable=nullable and name not in key,
                    required=not (nullable or has_default) and not is_view,
                    writable=not computed,
                    default_sql=_default_sql(column, self._dialect),
                    select_sql=self._select_sql(name, cast),
                    sql_type=_type_name(column["type"], declared.get(name), self._connection),
                    comment=column.get("comment"),
                    codec=replace(codec, to_json=None) if numbered else codec,
                    **{fact: getattr(bounds, fact) for fact in _FACTS},
                )
            )
        return made

    def _select_sql(self, name: str, cast: str | None) -> str | None:
        return None if cast is None else cast.format(self._dialect.quote(name))

    def _sqlite_declarations(self, table: str) -> dict[str, str]:
        rows = self._connection.execute(
            sa.text("SELECT name, type FROM pragma_table_xinfo(:table)"), {"table": table}
        )
        return {row.name: row.type for row in rows}

    def _sqlite_uniques(self, table: str) -> tuple[tuple[str, ...], ...]:
        # SQLAlchemy reads constraints out of the CREATE statement, and misses some.
        rows = self._connection.execute(
            sa.text(
                "SELECT i.name AS index_name, c.name AS column_name"
                " FROM pragma_index_list(:table) i,"
                ' pragma_index_info(i.name) c WHERE i."unique" AND NOT i.partial'
                " ORDER BY i.seq, c.seqno"
            ),
            {"table": table},
        )
        found: dict[str, list[str | None]] = {}
        for row in rows:
            found.setdefault(row.index_name, []).append(row.column_name)
        # An index on an expression has no column name there.
        return tuple(tuple(filter(None, names)) for names in found.values() if all(names))

    def _mysql_geometries(self) -> set[tuple[str, str]]:
        """Columns of which SQLAlchemy does not know that they hold geometry, in bytes."""
        if self._dialect.name != "mysql":
            return set()
        rows = self._connection.exec_driver_sql(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = database() AND data_type IN ('geometry', 'point', 'linestring',"
            " 'polygon', 'multipoint', 'multilinestring', 'multipolygon', 'geometrycollection',"
            " 'geomcollection')"
        )
        return {(row[0], row[1]) for row in rows}

    def _mariadb_json_columns(self, table: str) -> set[str]:
        """MariaDB's JSON is LONGTEXT with a check that it holds JSON."""
        if self._dialect is not MARIADB:
            return set()
        rows = self._connection.execute(
            sa.text(
                "SELECT check_clause FROM information_schema.check_constraints"
                " WHERE constraint_schema = database() AND table_name = :table"
            ),
            {"table": table},
        )
        found = (re.fullmatch(r"json_valid\(`(.+)`\)", row[0]) for row in rows)
        return {match[1].replace("``", "`") for match in found if match}


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


def _unescape(read: Any) -> None:
    """Undo the doubling of backticks, which SQLAlchemy leaves in all names but tables' own."""
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


# In the server's own text form, whatever the driver knows of the type.
_POSTGRESQL_CASTS = {Kind.OTHER: "{}::text", Kind.ARRAY: "{}::text"}
_FACTS = tuple(name for name in Bounds.__slots__ if name in Column.__slots__)


def _unique_sets(
    constraints: list[ReflectedUniqueConstraint], indexes: list[ReflectedIndex]
) -> tuple[tuple[str, ...], ...]:
    """The sets of columns that cannot repeat, by a constraint or by a plain unique index."""
    found = [constraint["column_names"] for constraint in constraints]
    for index in indexes:
        names = [name for name in index["column_names"] if name is not None]
        # An index on expressions, or on some rows only, says nothing about plain columns.
        partial = any(key.endswith("_where") for key in index.get("dialect_options", {}))
        if index["unique"] and len(names) == len(index["column_names"]) and not partial:
            found.append(names)
    return tuple(dict.fromkeys(tuple(names) for names in found))


def _default_sql(column: ReflectedColumn, dialect: Dialect) -> str | None:
    default = column.get("default")
    if default is None or "computed" in column:
        return None
    if dialect.name == "mysql":
        return f"DEFAULT({dialect.quote(column['name'])})"
    if dialect.name == "postgresql":
        return None if "nextval(" in default else f"({default})".replace("%", "%%")
    # SQLite takes "a" and a for texts in a default, and for columns everywhere else.
    if len(default) > 1 and default[0] == default[-1] == '"':
        text = default[1:-1].replace('""', '"')
        return "'" + text.replace("'", "''") + "'"
    if re.fullmatch(r"[A-Za-z_]\w*", default) and default.upper() not in _SQLITE_WORDS:
        return f"'{default}'"
    return f"({default})"


_SQLITE_WORDS = frozenset(
    ("NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP")
)


def _type_name(type_: sa.types.TypeEngine[Any], declared: str | None, bind: sa.Connection) -> str:
    if declared is not None:
        return declared
    try:
        return type_.compile(bind.dialect)
    except exc.CompileError:
        return ""


_INTEGER_BITS: dict[type[sa.types.TypeEngine[Any]], int] = {
    mysql.TINYINT: 8,
    sa.SmallInteger: 16,
    mysql.SMALLINT: 16,
    mysql.MEDIUMINT: 24,
    sa.BigInteger: 64,
    mysql.BIGINT: 64,
}


def _kind_of(
    type_: sa.types.TypeEngine[Any], dialect: Dialect, declared: str | None, *, is_json: bool
) -> tuple[Kind, dict[str, Any]]:
    """The kind of a column, and its bounds by the names of Column's attributes."""
    if is_json or isinstance(type_, sa.JSON):
        return Kind.JSON, {}
    if declared is not None:
        kind = _sqlite_kind(declared)
        if kind is not None:
            return kind, {}
    if isinstance(type_, sa.Boolean) or (
        isinstance(type_, mysql.TINYINT) and type_.display_width == 1
    ):
        return Kind.BOOLEAN, {}
    if isinstance(type_, mysql.BIT):
        return Kind.INTEGER, {"minimum": 0, "maximum": 2 ** (type_.length or 1) - 1, "cast": "{}+0"}
    if isinstance(type_, mysql.YEAR):
        return Kind.INTEGER, {"minimum": 0, "maximum": 2155}
    if isinstance(type_, sa.Integer):
        return Kind.INTEGER, {} if declared is not None else _integer_range(type_)
    if isinstance(type_, sa.Float):
        # MariaDB shows a single-precision FLOAT with six digits, which is fewer than it keeps.
        single = isinstance(type_, mysql.FLOAT)
        return Kind.FLOAT, {"cast": "CAST({} AS DOUBLE)"} if single else {}
    if isinstance(type_, sa.Numeric):
        return Kind.DECIMAL, {"precision": type_.precision, "scale": _scale(type_, dialect)}
    return _other_kind_of(type_, dialect)


def _other_kind_of(
    type_: sa.types.TypeEngine[Any], dialect: Dialect
) -> tuple[Kind, dict[str, Any]]:
    digits = _fraction_digits(type_, dialect)
    if isinstance(type_, sa.DateTime):
        # MariaDB's TIMESTAMP is a point in time; SQLite's and PostgreSQL's plain one is not.
        aware = type_.timezone or isinstance(type_, mysql.TIMESTAMP)
        return Kind.TIMESTAMP if aware else Kind.DATETIME, {"fraction_digits": digits}
    if isinstance(type_, sa.Date):
        return Kind.DATE, {}
    if isinstance(type_, sa.Time):
        return Kind.TIME, {"fraction_digits": digits}
    if isinstance(type_, sa.LargeBinary | sa.types._Binary):
        return Kind.BYTES, {"length": type_.length}
    if isinstance(type_, sa.Uuid):
        return Kind.UUID, {}
    if isinstance(type_, sa.Enum):
        return Kind.TEXT, {"choices": tuple(type_.enums)}
    if isinstance(type_, mysql.SET):
        return Kind.OTHER, {}
    if isinstance(type_, sa.String):
        # MySQL's TEXT types carry a length in bytes, or none: the server checks those itself.
        counted = not isinstance(type_, sa.Text)
        return Kind.TEXT, {"length": type_.length if counted else None}
    if isinstance(type_, sa.types.NullType) and dialect.name == "sqlite":
        return Kind.ANY, {}
    return Kind.OTHER, {}


def _sqlite_kind(declared: str) -> Kind | None:
    """Declared types of which SQLite itself, and so SQLAlchemy, knows only the affinity."""
    word = declared.upper().partition("(")[0].strip()
    return {
        "": Kind.ANY,
        "ANY": Kind.ANY,
        "BOOL": Kind.BOOLEAN,
        "UUID": Kind.UUID,
        "JSONB": Kind.OTHER,
        "TIMESTAMPTZ": Kind.TIMESTAMP,
        "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMP,
    }.get(word)


def _integer_range(type_: sa.types.TypeEngine[Any]) -> dict[str, Any]:
    bits = next((n for cls, n in _INTEGER_BITS.items() if isinstance(type_, cls)), 32)
    if getattr(type_, "unsigned", False):
        return {"minimum": 0, "maximum": 2**bits - 1}
    return {"minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}


def _scale(type_: sa.Numeric[Any], dialect: Dialect) -> int | None:
    # DECIMAL(10) means no digits after the point, where the database keeps to it.
    if type_.scale is None and type_.precision is not None and dialect.name != "sqlite":
        return 0
    return type_.scale


def _fraction_digits(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> int | None:
    if dialect.name == "mysql":
        return getattr(type_, "fsp", None) or 0
    return getattr(type_, "precision", None)
