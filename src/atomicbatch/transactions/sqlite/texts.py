"""Texts: what is told by the text of a statement that a handler gives to sqlite3."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache

from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import uncommented
from atomicbatch.transactions.sqlite.pragmas import Pragma, pragma_of

_ATTACHES = re.compile(r"\s*(?:ATTACH|DETACH)\b", re.IGNORECASE)
_TEMPORARY = re.compile(
    r"\s*CREATE\s+(?:TEMP|TEMPORARY)\b|\s*CREATE\s+\w+\s+(?:IF\s+NOT\s+EXISTS\s+)?temp\s*\.",
    re.IGNORECASE,
)


def pragma_in(sql: str) -> Pragma | None:
    """Read a statement, if it may be a pragma."""
    head = sql[:80].lstrip()[:6].upper()
    if head == "PRAGMA" or head[:2] in ("--", "/*"):
        return pragma_of(sql)
    return None


def why_unsuitable(sql: str) -> str | None:
    """Tell why a statement cannot run on a connection that is shared; None: it can."""
    head = sql[:80].lstrip()[:6].upper()
    if head in ("ATTACH", "DETACH", "CREATE") or head[:2] in ("--", "/*"):
        return _refusal(sql)
    return None


@lru_cache(maxsize=512)
def _refusal(sql: str) -> str | None:
    text = uncommented(sql, Family.SQLITE)
    if _ATTACHES.match(text):
        return (
            "a handler attaches or detaches a database, which cannot be committed as one with the "
            "batch's own; use a connection for each"
        )
    if _TEMPORARY.match(text):
        return (
            "a handler makes a temporary table, which all connections of the batch would share; "
            "use an ordinary table, or a common table expression"
        )
    return None


def statements_of(script: str) -> Iterator[str]:
    """Cut a script into its statements."""
    start = 0
    for found in re.finditer(";", script):
        text = script[start : found.end()]
        if sqlite3.complete_statement(text):
            start = found.end()
            if uncommented(text, Family.SQLITE).strip(" \t\r\n;"):
                yield text
    rest = script[start:]
    if uncommented(rest, Family.SQLITE).strip(" \t\r\n;"):
        yield rest
