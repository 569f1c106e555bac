"""Faults: what a database driver's exception means for a call."""

from __future__ import annotations

import re
from typing import Any

from atomicbatch.drivers.answers import own_answer
from atomicbatch.drivers.meanings import Meaning
from atomicbatch.drivers.postgresql_codes import meaning_of_state
from atomicbatch.errors import BusyError, TimeoutExceededError, TransactionError


class RowFault(Exception):
    """
    The database refused a call; the whole batch is rolled back.

    Attributes:
        status: The HTTP status of the call's reply.
        slug: The problem's type.
        detail: One line for people. Never the driver's own text, which may show values of rows.
        members: More members of the problem document: ``constraint``, ``column``, ``table``.
    """

    def __init__(self, status: int, slug: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.members = {name: value for name, value in members.items() if value}


def is_outdated(error: BaseException) -> bool:
    """Whether a driver's exception may come from a schema that has changed since we read it."""
    answer = own_answer(error)
    return answer is not None and answer.verdict.outdated


def fault_of(error: BaseException) -> RowFault | None:
    """The fault that a driver's exception stands for; None if the call did not cause it."""
    meaning, members = _meaning_of(error)
    if meaning is None:
        return None
    culprit = members.get("column") or members.get("constraint")
    detail = f"{meaning.detail} ({culprit})" if culprit else meaning.detail
    return RowFault(meaning.status, meaning.slug, detail, **members)


def shortage_of(error: BaseException) -> TransactionError | None:
    """The error for the whole batch, if the database had no lock, time or memory to give."""
    meaning, _ = _meaning_of(error)
    if meaning is None or meaning.slug not in ("database-busy", "timeout"):
        return None
    return (BusyError if meaning.status == 503 else TimeoutExceededError)(meaning.detail)


def logged_as(error: BaseException) -> str:
    """A driver's exception for the log: its class and code; never its text, which may show rows."""
    answer = own_answer(error)
    code = None if answer is None else answer.state or answer.number or answer.result
    return type(error).__name__ + (f" ({code})" if code else "")


def _meaning_of(error: BaseException) -> tuple[Meaning | None, dict[str, Any]]:
    """What a driver's exception means, and the members that name the culprit."""
    answer = own_answer(error)
    if answer is None:
        return None, {}
    if answer.result:
        return answer.verdict.meaning, _sqlite_culprit(answer.text)
    if answer.number is not None:
        return answer.verdict.meaning, _mysql_culprit(str(error.args[-1]))
    return _postgresql_meaning(answer.state, getattr(error, "diag", None))


def _postgresql_meaning(state: str, diagnostics: Any) -> tuple[Meaning | None, dict[str, Any]]:
    """
    What an SQLSTATE means, and the culprit's names.

    Args:
        state: Its five characters.
        diagnostics: psycopg's ``diag``.
    """
    if state == "XX000" and (diagnostics.source_file or "").endswith("_io.c"):
        state = "22P02"  # an extension (hstore) that gives its type's syntax errors no code
    return meaning_of_state(state, diagnostics.context or ""), {
        "constraint": diagnostics.constraint_name,
        "column": diagnostics.column_name,
        "table": diagnostics.table_name,
    }


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
# "CONSTRAINT `stock_positive` failed for `db`.`t`". Never the entry itself, which is data.
_MYSQL_COLUMN = re.compile(r"(?:column|Column|Field) '([^']+)'|column (?:`.+`\.)?`(.+)` at row")
_MYSQL_CONSTRAINT = re.compile(r"CONSTRAINT `([^`]+)`|for key '([^']+)'$")


def _mysql_culprit(message: str) -> dict[str, Any]:
    column = _MYSQL_COLUMN.search(message)
    constraint = _MYSQL_CONSTRAINT.search(message)
    return {
        "column": (column[1] or column[2]) if column else None,
        "constraint": (constraint[1] or constraint[2]) if constraint else None,
    }
