"""Faults: what a database driver's exception means for a call."""

from __future__ import annotations

import re
from typing import Any

from atomicbatch.errors import BusyError, TimeoutExceededError, TransactionError
from atomicbatch.server.database.meanings import (
    Meaning,
    meaning_of_number,
    meaning_of_sqlite,
    meaning_of_state,
)


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
    meaning, members = _meaning_of(error)
    if meaning is None:
        return None
    culprit = members.get("column") or members.get("constraint")
    detail = f"{meaning.detail} ({culprit})" if culprit else meaning.detail
    return RowFault(meaning.status, meaning.slug, detail, **members)


def shortage_of(error: BaseException) -> TransactionError | None:
    """The error for the whole batch, where the database had no lock, time or memory to give."""
    meaning, _ = _meaning_of(error)
    if meaning is None or meaning.slug not in ("database-busy", "timeout"):
        return None
    return (BusyError if meaning.status == 503 else TimeoutExceededError)(meaning.detail)


def _meaning_of(error: BaseException) -> tuple[Meaning | None, dict[str, Any]]:
    """What a driver's exception means, and the members that name the culprit."""
    name = getattr(error, "sqlite_errorname", None)
    if name is not None:
        return meaning_of_sqlite(name, str(error)), _sqlite_culprit(str(error))
    diagnostics = getattr(error, "diag", None)
    if diagnostics is not None:
        state, context = diagnostics.sqlstate or "", diagnostics.context or ""
        if state == "XX000" and (diagnostics.source_file or "").endswith("_io.c"):
            state = "22P02"  # an extension (hstore) that gives its type's syntax errors no code
        return meaning_of_state(state, context), {
            "constraint": diagnostics.constraint_name,
            "column": diagnostics.column_name,
            "table": diagnostics.table_name,
        }
    number, message = (error.args[0] if error.args else None), str(error.args[-1:])
    if not isinstance(number, int):
        return None, {}
    return meaning_of_number(number, message), _mysql_culprit(str(error.args[-1]))


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
_MYSQL_COLUMN = re.compile(r"(?:column|Column|Field) '([^']+)'|column (?:`.+`\.)?`(.+)` at row")
_MYSQL_CONSTRAINT = re.compile(r"CONSTRAINT `([^`]+)`|for key '([^']+)'$")


def _mysql_culprit(message: str) -> dict[str, Any]:
    column = _MYSQL_COLUMN.search(message)
    constraint = _MYSQL_CONSTRAINT.search(message)
    return {
        "column": (column[1] or column[2]) if column else None,
        "constraint": (constraint[1] or constraint[2]) if constraint else None,
    }
