"""Writing: whether SQL on a connection of its own stores what a rollback of the batch leaves."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from atomicbatch.sql import refusals
from atomicbatch.sql.families import stores_by_pragma
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.lexing import bare, text_of
from atomicbatch.sql.statements import read_statement

_PASSES = frozenset(Kind) - {Kind.WRITE, Kind.REFUSED}
# First words of statements that a batch refuses, or does not know, and that store nothing all the
# same: they are about the session, or read.
_SESSION = frozenset(
    "CLOSE DEALLOCATE DETACH DISCARD FETCH KILL LISTEN MOVE PRAGMA RESET SET SHOW UNLISTEN UNLOCK "
    "USE".split()
)
_STORED_SETTING = re.compile(
    r"\s*SET\s+(?:STATEMENT|PASSWORD|DEFAULT\s+ROLE)\b"
    r"|\s*SET\b.*(?:@@|\b)(?:GLOBAL|PERSIST|PERSIST_ONLY)\b",
    re.DOTALL,
)
# The query of a cursor or a copy.
_WITHIN = re.compile(r"DECLARE\b.*?\bFOR\b(.*)|COPY\s*\((.*)\)\s*TO\s+STDOUT\b.*", re.DOTALL)
_COPY_OUT = re.compile(r"COPY\s+[^\s()][^()]*(?:\([^()]*\)\s*)?\bTO\s+STDOUT\b", re.DOTALL)
_SESSION_LOCK = re.compile(
    r"(?<![\w$.@])(?:PG_(?:TRY_)?ADVISORY_(?:XACT_)?(?:UN)?LOCK(?:_ALL|_SHARED)?"
    r"|GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS|IS_FREE_LOCK|IS_USED_LOCK)\s*\("
)
_WORD = re.compile(r"[A-Z_]+")
# Texts beyond this length are lists of values; they are not worth keeping.
_KEPT_CHARACTERS = 10_000


def verb_of(operation: Any, family: Family) -> str:
    """
    Tell what a statement does that would stay: its first word, or an empty text for nothing.

    Unknown text counts as a write.

    Args:
        operation: SQL, as a driver takes it.
        family: Whose SQL it is.
    """
    sql = operation if type(operation) is str else text_of(operation)
    if len(sql) <= _KEPT_CHARACTERS:
        return _verb_of(sql, family)
    return _verb_of.__wrapped__(sql, family)


@lru_cache(maxsize=2048)
def _verb_of(sql: str, family: Family) -> str:
    is_setting = family is Family.MYSQL and _STORED_SETTING.match(sql[:1000].upper())
    statement = read_statement(sql, family)
    if statement.kind in _PASSES and not is_setting:
        return ""
    if statement.refusal == refusals.EXECUTABLE:
        return "an executable comment"
    for part in bare(sql, family).split(";"):
        text = part.strip()
        if text and _stores(text, family):
            found = _WORD.search(text)
            return found[0] if found else "a statement"
    return ""


def _stores(text: str, family: Family) -> bool:
    """Tell whether one statement, without comments and values, may store something."""
    if _COPY_OUT.match(text):
        return False
    if family is Family.POSTGRESQL and (within := _WITHIN.match(text)):
        text = (within[1] or within[2]).strip()
    if family is Family.MYSQL and _STORED_SETTING.match(text):
        return True
    text = _SESSION_LOCK.sub("ABS(", text)
    if read_statement(text, family).kind in _PASSES:
        return False
    found = _WORD.match(text)
    first = found[0] if found else ""
    if first not in _SESSION:
        return True
    if first == "PRAGMA":
        return stores_by_pragma(text)
    # A value may call a function, which the reader has looked at.
    return "(" in text and read_statement(text, family).kind is Kind.WRITE


_LOCKS = re.compile(r"\s*BEGIN\s+(?:IMMEDIATE|EXCLUSIVE)\b", re.IGNORECASE)


def lock_of(operation: Any, family: Family) -> str:
    """Name what would wait in another process for ever: SQLite's lock, which the batch has."""
    is_sqlite = family is Family.SQLITE and isinstance(operation, str)
    found = _LOCKS.match(operation) if is_sqlite else None
    return " ".join(found[0].split()).upper() if found else ""
