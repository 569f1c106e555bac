"""Faults: what a database driver's exception means for a call."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


class RowFault(Exception):
    """
    The database refused a call; the whole batch is rolled back.

    Attributes:
        status: The status of the call's reply.
        slug: The problem's type.
        detail: For people; never the driver's own text, which may show other rows' values.
        members: More members for the problem document: ``constraint``, ``column``, ``table``.
    """

    def __init__(self, status: int, slug: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.members = {name: value for name, value in members.items() if value}


@dataclass(frozen=True, slots=True)
class _Meaning:
    status: int
    slug: str
    detail: str


_UNIQUE = _Meaning(409, "unique-violation", "a row with the same unique value exists already")
_FOREIGN = _Meaning(
    409,
    "foreign-key-violation",
    "the row points at a row that does not exist, or is pointed at by one",
)
_EXCLUSION = _Meaning(409, "unique-violation", "the row conflicts with one that exists already")
_NOT_NULL = _Meaning(422, "not-null-violation", "a column that needs a value has none")
_CHECK = _Meaning(422, "check-violation", "a value breaks a rule of the table")
_TOO_LONG = _Meaning(422, "value-too-long", "a value is too long for its column")
_RANGE = _Meaning(422, "value-out-of-range", "a value is out of its column's range")
_TYPE = _Meaning(400, "wrong-type", "a value does not fit its column's type")
_GENERATED = _Meaning(422, "read-only-column", "the database computes this column itself")
_RAISED = _Meaning(422, "trigger-refused", "a trigger of the database refused the row")
_OPERATOR = _Meaning(400, "invalid-query", "this comparison does not exist for the column's type")
_FORBIDDEN = _Meaning(403, "forbidden", "the server's database user may not do this")
_READ_ONLY = _Meaning(405, "read-only", "the database is open for reading only")
_FULL = _Meaning(507, "database-full", "the database has no room left")

_SQLSTATES = {
    "23505": _UNIQUE,
    "23503": _FOREIGN,
    "23001": _FOREIGN,
    "23P01": _EXCLUSION,
    "23502": _NOT_NULL,
    "23514": _CHECK,
    "44000": _CHECK,
    "22001": _TOO_LONG,
    "22003": _RANGE,
    "22008": _RANGE,
    "22P02": _TYPE,
    "22007": _TYPE,
    "22021": _TYPE,
    "22P05": _TYPE,
    "42804": _TYPE,
    "22000": _TYPE,
    "428C9": _GENERATED,
    "P0001": _RAISED,
    "42883": _OPERATOR,
    "42725": _OPERATOR,
    "2201B": _OPERATOR,
    "0A000": _OPERATOR,
    "22025": _OPERATOR,
    "42501": _FORBIDDEN,
    "25006": _READ_ONLY,
    "53100": _FULL,
}
# MariaDB's and MySQL's error numbers.
_ERRNOS = {
    1062: _UNIQUE,
    1586: _UNIQUE,
    1451: _FOREIGN,
    1452: _FOREIGN,
    1216: _FOREIGN,
    1217: _FOREIGN,
    1048: _NOT_NULL,
    1364: _NOT_NULL,
    4025: _CHECK,
    3819: _CHECK,
    1406: _TOO_LONG,
    1264: _RANGE,
    1265: _TYPE,
    1292: _TYPE,
    1366: _TYPE,
    1411: _TYPE,
    1690: _RANGE,
    1906: _GENERATED,
    3105: _GENERATED,
    1644: _RAISED,
    1267: _OPERATOR,
    1044: _FORBIDDEN,
    1142: _FORBIDDEN,
    1143: _FORBIDDEN,
    1290: _READ_ONLY,
    1792: _READ_ONLY,
    1114: _FULL,
}
_SQLITE_NAMES = {
    "SQLITE_CONSTRAINT_UNIQUE": _UNIQUE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": _UNIQUE,
    "SQLITE_CONSTRAINT_ROWID": _UNIQUE,
    "SQLITE_CONSTRAINT_FOREIGNKEY": _FOREIGN,
    "SQLITE_CONSTRAINT_NOTNULL": _NOT_NULL,
    "SQLITE_CONSTRAINT_CHECK": _CHECK,
    "SQLITE_CONSTRAINT_DATATYPE": _TYPE,
    "SQLITE_CONSTRAINT_TRIGGER": _RAISED,
    "SQLITE_MISMATCH": _TYPE,
    "SQLITE_TOOBIG": _TOO_LONG,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_FULL": _FULL,
}


# Undefined column, undefined table, "cached plan must not change result type", bad field, no such
# table, "table definition has changed".
_OUTDATED = frozenset({"42703", "42P01", "0A000", 1054, 1146, 1412})


def is_outdated(error: BaseException) -> bool:
    """Whether a driver's exception may come from a schema that is not the database's any more."""
    diagnostics = getattr(error, "diag", None)
    if diagnostics is not None:
        return diagnostics.sqlstate in _OUTDATED
    return bool(error.args) and error.args[0] in _OUTDATED


def fault_of(error: BaseException) -> RowFault | None:
    """The fault that a driver's exception stands for; None where it is not the call's doing."""
    name = getattr(error, "sqlite_errorname", None)
    if name is not None:
        meaning = _SQLITE_NAMES.get(name) or _SQLITE_NAMES.get("_".join(name.split("_")[:2]))
        return None if meaning is None else _fault(meaning, **_sqlite_culprit(str(error)))
    diagnostics = getattr(error, "diag", None)
    if diagnostics is not None:
        meaning = _SQLSTATES.get(diagnostics.sqlstate or "")
        return (
            None
            if meaning is None
            else _fault(
                meaning,
                constraint=diagnostics.constraint_name,
                column=diagnostics.column_name,
                table=diagnostics.table_name,
            )
        )
    number = error.args[0] if error.args else None
    meaning = _ERRNOS.get(number) if isinstance(number, int) else None
    return None if meaning is None else _fault(meaning, **_mysql_culprit(str(error.args[-1])))


def _fault(meaning: _Meaning, **members: Any) -> RowFault:
    culprit = members.get("column") or members.get("constraint")
    detail = f"{meaning.detail} ({culprit})" if culprit else meaning.detail
    return RowFault(meaning.status, meaning.slug, detail, **members)


# "UNIQUE constraint failed: shop.sku, shop.country", "CHECK constraint failed: stock_positive"
_SQLITE_TEXT = re.compile(r"(UNIQUE|NOT NULL|CHECK) constraint failed: (.+)")


def _sqlite_culprit(message: str) -> dict[str, Any]:
    found = _SQLITE_TEXT.match(message)
    if not found:
        return {}
    if found[1] == "CHECK":
        return {"constraint": found[2]}
    names = [name.strip().rpartition(".")[2] for name in found[2].split(",")]
    return {"column": ", ".join(names)}


# "Duplicate entry 'x' for key 'sku'", "Column 'sku' cannot be null",
# "Data too long for column 'sku' at row 1",
# "CONSTRAINT `stock_positive` failed for `db`.`t`"; never the entry itself, which is data.
_MYSQL_COLUMN = re.compile(r"(?:column|Column|Field) '([^']+)'|column `(?:[^`]+`\.`)*([^`]+)`")
_MYSQL_CONSTRAINT = re.compile(r"CONSTRAINT `([^`]+)`|for key '([^']+)'$")


def _mysql_culprit(message: str) -> dict[str, Any]:
    column = _MYSQL_COLUMN.search(message)
    constraint = _MYSQL_CONSTRAINT.search(message)
    return {
        "column": (column[1] or column[2]) if column else None,
        "constraint": (constraint[1] or constraint[2]) if constraint else None,
    }
