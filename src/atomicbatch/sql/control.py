"""Control: statements that begin, end or divide a transaction, which all families share."""

from __future__ import annotations

import re

from atomicbatch.sql import refusals
from atomicbatch.sql.kinds import Family, Kind, Statement, refused
from atomicbatch.sql.lexing import Text, uncommented
from atomicbatch.sql.setting_statements import isolation

_NAME = re.compile(
    r"\b(?:SAVEPOINT|RELEASE|TO)\b\s*+(?:SAVEPOINT\b\s*+)?"
    r"""("[^"]+"|`[^`]+`|\[[^\]]+\]|'[^']+'|[^\s;]+)""",
    re.IGNORECASE,
)
_TO = re.compile(r"\bTO\b")
_CHAIN = re.compile(r"\bAND\s+CHAIN\b")
_NO_RELEASE = re.compile(r"\bNO\s+RELEASE\b")


def begin(text: Text) -> Statement:
    if text.second == "NOT":
        # BEGIN NOT ATOMIC, a block of statements (MariaDB). Its parts are looked at one by one.
        return Statement(Kind.WRITE)
    if text.bare.startswith("START") and text.second != "TRANSACTION":
        return refused(refusals.IMPLICIT_COMMIT)  # START SLAVE, say
    return isolation(Kind.BEGIN, text.bare)


def commit(text: Text) -> Statement:
    return _end(Kind.COMMIT, text)


def rollback(text: Text) -> Statement:
    if text.second != "PREPARED" and _TO.search(text.bare):
        return savepoint(text)
    return _end(Kind.ROLLBACK, text)


def _end(kind: Kind, text: Text) -> Statement:
    if text.second == "PREPARED":
        return refused(refusals.TWO_PHASE)
    if text.family is Family.MYSQL and "RELEASE" in _NO_RELEASE.sub("", text.bare):
        return refused(refusals.RELEASE)
    return Statement(kind, chains=_CHAIN.search(text.bare) is not None)


def savepoint(text: Text) -> Statement:
    """SAVEPOINT, RELEASE, and ROLLBACK TO."""
    kind = {"SAVEPOINT": Kind.SAVEPOINT, "RELEASE": Kind.RELEASE}.get(text.first, Kind.ROLLBACK_TO)
    found = _NAME.search(uncommented(text.sql, text.family))
    return Statement(kind, savepoint=found[1].strip("\"'`[]").lower() if found else "")


def two_phase(_: Text) -> Statement:
    return refused(refusals.TWO_PHASE)


def prepare(text: Text) -> Statement:
    """PREPARE TRANSACTION, or a prepared statement, which counts as what it may do: a write."""
    if text.second == "TRANSACTION":
        return refused(refusals.TWO_PHASE)
    return Statement(Kind.WRITE)
