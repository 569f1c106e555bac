"""Queries: whether a SELECT, VALUES, TABLE or WITH only reads, holds locks, or may write."""

from __future__ import annotations

import re

from atomicbatch.sql import functions
from atomicbatch.sql.kinds import Family, Kind, Statement
from atomicbatch.sql.lexing import Text, uncommented
from atomicbatch.sql.setting_statements import read_set_config

_READ = Statement(Kind.READ)
_LOCKING = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b"
)
# For these it matters which session has the lock, and the sessions of one batch share theirs.
_EXCLUDING = re.compile(r"\bSKIP\s+LOCKED\b|\bNOWAIT\b|_ADVISORY_|\bGET_LOCK\b")
_CHANGING = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE\s+INTO|INTO|TRUNCATE|CALL)\b")
# A common table expression with its columns is no call. Nothing else looks like it; in PostgreSQL
# not even the columns that a function returns: f(x) AS (a int).
_COLUMNS = (
    r"\([^()]*+\)\s*+AS\s*+(?:NOT\s*+)?(?:MATERIALIZED\s*+)?"
    r"\(\s*+(?:(?:SELECT|WITH|TABLE)\b|VALUES\s*+\()"
)
# A call is found with its schema, for a function of the app's may have the name of a built-in one.
# Spaces around dots are removed first, or each name of a long chain would be searched from anew.
_DOT = re.compile(r"(?<!\s)\s*+\.\s*+")
_CALLED = re.compile(
    r"(?<![\w$.])((?:(?:[^\W\d][\w$]*+|\"Q\")\.)*+(?:[^\W\d][\w$]*+|\"Q\"))\s*+"
    rf"(?!{_COLUMNS})\("
)
_HARMLESS = {
    Family.SQLITE: functions.SQLITE,
    Family.POSTGRESQL: functions.POSTGRESQL,
    Family.MYSQL: functions.MYSQL,
}


def read_query(text: Text) -> Statement:
    """Tell what a query does. A function that is not known to be harmless may write."""
    made = _READ
    if text.family is Family.POSTGRESQL and "SET_CONFIG" in text.bare:
        made = read_set_config(uncommented(text.sql, text.family))
        if made.kind is Kind.REFUSED:
            return made
    rest, locks = _LOCKING.subn(" ", text.bare)
    if _CHANGING.search(rest) or calls_unknown(rest, text.family):
        made = made._replace(kind=Kind.WRITE)
    elif locks:
        made = made._replace(kind=Kind.HOLD)
    return made._replace(excludes=True) if _EXCLUDING.search(text.bare) else made


def changes_data(bare: str) -> bool:
    """Tell whether a word that changes data stands in a statement's bare text."""
    return _CHANGING.search(bare) is not None


def calls_unknown(bare: str, family: Family) -> bool:
    """Tell whether a function is called that is not known to be harmless."""
    return any(not _is_harmless(name, family) for name in _CALLED.findall(_DOT.sub(".", bare)))


def _is_harmless(name: str, family: Family) -> bool:
    if family is Family.POSTGRESQL:
        name = name.removeprefix("PG_CATALOG.")
    # SQLite offers pragmas as functions where they only read.
    is_pragma = family is Family.SQLITE and name.startswith("PRAGMA_")
    return is_pragma or name in _HARMLESS[family]
