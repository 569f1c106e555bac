"""PostgreSQL's types: what each column holds, looked up through domains and arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from atomicbatch.server.schema.column_types import ColumnType
from atomicbatch.server.values.kinds import Bounds, Kind


class _Type(NamedTuple):
    """A row of pg_type."""

    name: str
    is_builtin: bool
    kind: str
    base: int
    modifier: int
    not_null: bool
    has_default: bool


_TYPES = """
    SELECT oid, typname, typnamespace = 'pg_catalog'::regnamespace, typtype::text, typbasetype,
        typtypmod, typnotnull, typdefault IS NOT NULL
    FROM pg_catalog.pg_type
"""
# int2vector and oidvector have elements too, but are written otherwise.
_ARRAYS = "SELECT typarray, oid, typdelim::text FROM pg_catalog.pg_type WHERE typarray <> 0"
_LABELS = "SELECT enumtypid, enumlabel FROM pg_catalog.pg_enum ORDER BY enumtypid, enumsortorder"
_COLUMNS = """
    SELECT relname, attname, atttypid, atttypmod
    FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = current_schema()::regnamespace AND attnum > 0 AND NOT attisdropped
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}
_PLAIN = {
    "float4": Kind.FLOAT,
    "float8": Kind.FLOAT,
    "bool": Kind.BOOLEAN,
    "text": Kind.TEXT,
    "date": Kind.DATE,
    "bytea": Kind.BYTES,
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
    "uuid": Kind.UUID,
}
_CLOCKS = {
    "time": (Kind.TIME, False),
    "timetz": (Kind.TIME, True),
    "timestamp": (Kind.DATETIME, False),
    "timestamptz": (Kind.TIMESTAMP, True),
}
# The server's own text form, whatever the driver knows of the type.
_AS_TEXT = "{}::text"
_OTHER = ColumnType(Kind.OTHER, cast=_AS_TEXT)


class PostgreSQLTypes:
    """The types of all columns of the default schema."""

    def __init__(self, connection: sa.Connection) -> None:
        def rows(sql: str) -> Any:
            return connection.exec_driver_sql(sql)

        self._types = {row[0]: _Type(*row[1:]) for row in rows(_TYPES)}
        self._items = {row[0]: (row[1], row[2]) for row in rows(_ARRAYS)}
        self._labels: dict[int, list[str]] = {}
        for oid, label in rows(_LABELS):
            self._labels.setdefault(oid, []).append(label)
        self._columns = {(row[0], row[1]): (row[2], row[3]) for row in rows(_COLUMNS)}

    def column_type(self, table: str, column: str) -> ColumnType:
        """What a column holds."""
        return self._resolve(*self._columns[table, column])

    def _resolve(self, oid: int, modifier: int) -> ColumnType:
        """What a type holds, looked up through domains over domains."""
        not_null = has_default = False
        while (found := self._types[oid]).kind == "d":
            not_null = not_null or found.not_null
            has_default = has_default or found.has_default
            oid, modifier = found.base, found.modifier
        held = self._base_type(oid, modifier, found)
        return held._replace(not_null=not_null, has_default=has_default)

    def _base_type(self, oid: int, modifier: int, type_: _Type) -> ColumnType:
        if oid in self._items:
            item_oid, delimiter = self._items[oid]
            item = self._resolve(item_oid, modifier)
            if item.kind is Kind.ARRAY:  # a domain over an array: items come in their text form
                item = _OTHER
            bounds = Bounds(item=item.kind, items=item.bounds, delimiter=delimiter)
            return ColumnType(Kind.ARRAY, bounds, cast=_AS_TEXT)
        if oid in self._labels:
            return ColumnType(Kind.TEXT, Bounds(choices=tuple(self._labels[oid])))
        return _builtin(type_.name, modifier) if type_.is_builtin else _OTHER


def _builtin(name: str, modifier: int) -> ColumnType:
    if name in _PLAIN:
        return ColumnType(_PLAIN[name])
    if name in _INTEGER_BITS:
        most = 2 ** (_INTEGER_BITS[name] - 1)
        return ColumnType(Kind.INTEGER, Bounds(minimum=-most, maximum=most - 1))
    if name in ("varchar", "bpchar"):
        return ColumnType(Kind.TEXT, Bounds(length=modifier - 4 if modifier >= 4 else None))
    if name == "numeric":
        return ColumnType(Kind.DECIMAL, _numeric_bounds(modifier))
    if name in _CLOCKS:
        kind, zone = _CLOCKS[name]
        digits = modifier if modifier >= 0 else None
        return ColumnType(kind, Bounds(fraction_digits=digits, zone=zone))
    return _OTHER


def _numeric_bounds(modifier: int) -> Bounds:
    if modifier < 4:
        return Bounds()
    packed = modifier - 4
    # Eleven bits with a sign: from PostgreSQL 15 on a scale may be negative.
    return Bounds(precision=packed >> 16 & 0xFFFF, scale=((packed & 0x7FF) ^ 1024) - 1024)
