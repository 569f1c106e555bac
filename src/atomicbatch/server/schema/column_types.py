"""Column types: what SQLAlchemy says a column's type is -> what the column holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.kinds import Bounds, Kind


class ColumnType(NamedTuple):
    """
    What a column holds.

    Attributes:
        kind: Its kind. A type that has none of its own is OTHER, the database's text form.
        bounds: What the type declares.
        cast: How the column is read if its plain name would lose something: SQL with ``{}`` for
            the name; else None.
        not_null: The type itself forbids NULL, as a domain may.
        has_default: The type itself has a default, as a domain may.
    """

    kind: Kind
    bounds: Bounds = Bounds()
    cast: str | None = None
    not_null: bool = False
    has_default: bool = False


_INTEGER_BITS: dict[type[sa.types.TypeEngine[Any]], int] = {
    mysql.TINYINT: 8,
    sa.SmallInteger: 16,
    mysql.SMALLINT: 16,
    mysql.MEDIUMINT: 24,
    sa.BigInteger: 64,
    mysql.BIGINT: 64,
}


def column_type(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> ColumnType:
    """
    What a column of this type holds.

    Args:
        type_: SQLAlchemy's.
        dialect: Of SQLite or MariaDB; PostgreSQL is asked for its types itself.
    """
    if isinstance(type_, sa.JSON):
        return ColumnType(Kind.JSON)
    if isinstance(type_, sa.Boolean) or (
        isinstance(type_, mysql.TINYINT) and type_.display_width == 1
    ):
        return ColumnType(Kind.BOOLEAN)
    if isinstance(type_, sa.Integer | sa.Float | sa.Numeric | mysql.BIT | mysql.YEAR):
        return _number(type_, dialect)
    if isinstance(type_, sa.Date | sa.DateTime | sa.Time):
        return _calendar(type_, dialect)
    if isinstance(type_, sa.LargeBinary | sa.types._Binary):
        return ColumnType(Kind.BYTES, Bounds(length=type_.length))
    if isinstance(type_, sa.Uuid):
        return ColumnType(Kind.UUID)
    if isinstance(type_, sa.String):
        return _text(type_)
    if isinstance(type_, sa.types.NullType) and dialect.name == "sqlite":
        return ColumnType(Kind.ANY)
    return ColumnType(Kind.OTHER)


def _number(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> ColumnType:
    if isinstance(type_, mysql.BIT):
        bounds = Bounds(minimum=0, maximum=2 ** (type_.length or 1) - 1)
        return ColumnType(Kind.INTEGER, bounds, cast="{}+0")
    if isinstance(type_, mysql.YEAR):
        return ColumnType(Kind.INTEGER, Bounds(minimum=0, maximum=2155))
    if isinstance(type_, sa.Integer):
        # SQLite keeps whatever fits into 64 bits, whatever the column is called.
        bounds = Bounds() if dialect.name == "sqlite" else _integer_bounds(type_)
        return ColumnType(Kind.INTEGER, bounds)
    if isinstance(type_, sa.Float):
        # MariaDB shows a single-precision FLOAT with six digits, which is fewer than it keeps.
        single = isinstance(type_, mysql.FLOAT)
        return ColumnType(Kind.FLOAT, cast="CAST({} AS DOUBLE)" if single else None)
    bounds = Bounds(
        precision=getattr(type_, "precision", None), scale=getattr(type_, "scale", None)
    )
    return ColumnType(Kind.DECIMAL, bounds)


def _integer_bounds(type_: sa.types.TypeEngine[Any]) -> Bounds:
    bits = next((n for cls, n in _INTEGER_BITS.items() if isinstance(type_, cls)), 32)
    if getattr(type_, "unsigned", False):
        return Bounds(minimum=0, maximum=2**bits - 1)
    return Bounds(minimum=-(2 ** (bits - 1)), maximum=2 ** (bits - 1) - 1)


def _calendar(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> ColumnType:
    if isinstance(type_, sa.Date):
        return ColumnType(Kind.DATE)
    if dialect.name == "mysql":
        bounds = Bounds(fraction_digits=getattr(type_, "fsp", None) or 0)
    else:
        bounds = Bounds(fraction_digits=getattr(type_, "precision", None))
    if isinstance(type_, sa.Time):
        return ColumnType(Kind.TIME, bounds)
    # MariaDB's TIMESTAMP is a point in time; SQLite's is not.
    aware = getattr(type_, "timezone", False) or isinstance(type_, mysql.TIMESTAMP)
    return ColumnType(Kind.TIMESTAMP if aware else Kind.DATETIME, bounds)


def _text(type_: sa.String) -> ColumnType:
    if isinstance(type_, sa.Enum):
        return ColumnType(Kind.TEXT, Bounds(choices=tuple(type_.enums)))
    if isinstance(type_, mysql.SET):
        return ColumnType(Kind.OTHER)
    # MySQL's TEXT types carry a length in bytes, or none: the server checks those itself.
    counted = not isinstance(type_, sa.Text)
    return ColumnType(Kind.TEXT, Bounds(length=type_.length if counted else None))
