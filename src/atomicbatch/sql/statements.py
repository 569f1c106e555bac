"""
Statements: SQL text -> what it means for the transaction around it. Pure text, no database.

The reader errs on one side: what is not known to be harmless counts as a write. A write is
protected by a savepoint, kept from other sessions' rollbacks, and counted for its engine.
"""

from __future__ import annotations

import re
from functools import lru_cache

from atomicbatch.sql import refusals
from atomicbatch.sql.families import DML, GRAMMARS, Grammar
from atomicbatch.sql.kinds import CHANGES_DATA, CONTROL, Family, Kind, Statement, refused
from atomicbatch.sql.lexing import Text, bare, has_executable_comment

__all__ = ["CONTROL", "Family", "Kind", "Statement", "is_plain", "read_statement"]

_NOTHING = Statement(Kind.READ)
# Texts beyond this length are lists of values; they are not worth keeping.
_KEPT_CHARACTERS = 10_000
_PLAIN_WORDS = frozenset("SELECT INSERT UPDATE DELETE MERGE VALUES WITH".split())


def read_statement(sql: str, family: Family) -> Statement:
    """Tell what a text does, which may hold several statements."""
    if len(sql) <= _KEPT_CHARACTERS:
        return _read(sql, family)
    if _is_long_dml(sql):
        return DML
    return _read.__wrapped__(sql, family)


def _is_long_dml(sql: str) -> bool:
    return ";" not in sql and sql[:7].upper() in ("INSERT ", "UPDATE ", "DELETE ")


@lru_cache(maxsize=2048)
def _read(sql: str, family: Family) -> Statement:
    whole = bare(sql, family)
    if family is Family.MYSQL and has_executable_comment(whole):
        return refused(refusals.EXECUTABLE)
    grammar = GRAMMARS[family]
    parts = [stripped for part in whole.split(";") if (stripped := part.strip())]
    if not parts:
        return _NOTHING
    if len(parts) > 1:
        parts = _with_bodies(parts, family)
    texts = [Text.of(part, sql, family) for part in parts]
    return grammar.read(texts[0]) if len(texts) == 1 else _read_several(texts, grammar)


def is_plain(sql: str) -> bool:
    """
    Tell whether a text for PostgreSQL can be sent by the extended query protocol, in a pipeline.

    That is so for one SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES or WITH. Of others we do not
    know it; several in one text, and COPY, cannot.
    """
    if len(sql) <= _KEPT_CHARACTERS:
        return _is_plain(sql)
    return _is_long_dml(sql)


@lru_cache(maxsize=2048)
def _is_plain(sql: str) -> bool:
    # A semicolon in a literal counts as well: where literals end is up to a setting of the server.
    if ";" in sql.rstrip().removesuffix(";"):
        return False
    family = Family.POSTGRESQL
    text = Text.of(bare(sql, family).strip(), sql, family)
    return text.first in _PLAIN_WORDS and _read(sql, family).kind in CHANGES_DATA


# Several statements in one text -----------------------------------------------------------------

_WEIGHT = {Kind.READ: 0, Kind.HOLD: 1, Kind.WRITE: 2}

# The body of a trigger or function is part of one statement, and does not run when that runs.
_BODY = {
    Family.SQLITE: re.compile(r"CREATE\s+(?:TEMP(?:ORARY)?\s+)?TRIGGER\b.*\bBEGIN\b", re.DOTALL),
    Family.POSTGRESQL: re.compile(
        r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b.*\bBEGIN\s+ATOMIC\b", re.DOTALL
    ),
}
# Cut at its semicolons, one of MariaDB's compound statements (REPEAT ..., FOR ..., a label) gives
# parts that are no statements, so that a first word does not tell what they run.
_SIMPLE = re.compile(
    r"\(|(?:CALL|CREATE|DELETE|DESC|DESCRIBE|DO|DROP|EXPLAIN|INSERT|LOAD|REPLACE|SELECT|SET|SHOW|"
    r"TABLE|UPDATE|VALUES|WITH)\b"
)


def _with_bodies(parts: list[str], family: Family) -> list[str]:
    """Take the parts of a trigger's or function's body away."""
    pattern = _BODY.get(family)
    if pattern is None or pattern.match(parts[0]) is None or "END" not in parts:
        return parts
    return [parts[0], *parts[parts.index("END") + 1 :]]


def _read_several(texts: list[Text], grammar: Grammar) -> Statement:
    """Read statements that are sent as one text: as much as the heaviest of them."""
    statements = []
    for one in texts:
        statement = grammar.read(one)
        if statement.kind is Kind.REFUSED:
            return statement
        if statement.kind not in _WEIGHT or statement.settings:
            return refused(refusals.ONE_CONTROLS)
        if one.family is Family.MYSQL and _SIMPLE.match(one.bare) is None:
            return refused(refusals.COMPOUND)
        statements.append(statement)
    return max(statements, key=lambda one: _WEIGHT[one.kind])._replace(
        # sqlite3 looks at the first word of the text only.
        is_dml=statements[0].is_dml,
        calls=any(one.calls for one in statements),
        excludes=any(one.excludes for one in statements),
        sets_foreign_keys=any(one.sets_foreign_keys for one in statements),
    )
