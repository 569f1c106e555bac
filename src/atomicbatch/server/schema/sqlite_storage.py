"""SQLite storage: where SQLite stores just what it was sent, so that nobody has to look."""

from __future__ import annotations

from atomicbatch.server.values.kinds import Kind

# What the conversions of each kind send, and which affinities leave that as it is
# (https://sqlite.org/datatype3.html). A NUMERIC or INTEGER column stores a double that is a whole
# number as an integer, and so shows an amount of NUMERIC(6,2) no differently. No date, time or UUID
# looks like a number. The document 5 does, so JSON is not here, nor is what has any type.
_KEPT: dict[Kind, frozenset[str]] = {
    Kind.INTEGER: frozenset({"INTEGER", "NUMERIC"}),
    Kind.BOOLEAN: frozenset({"INTEGER", "NUMERIC"}),
    Kind.DECIMAL: frozenset({"NUMERIC"}),
    Kind.FLOAT: frozenset({"REAL"}),
    Kind.TEXT: frozenset({"TEXT"}),
    Kind.DATE: frozenset({"NUMERIC"}),
    Kind.TIME: frozenset({"NUMERIC"}),
    Kind.DATETIME: frozenset({"NUMERIC"}),
    Kind.TIMESTAMP: frozenset({"NUMERIC"}),
    Kind.UUID: frozenset({"NUMERIC"}),
    Kind.BYTES: frozenset({"BLOB"}),
}


def keeps(kind: Kind, declared: str) -> bool:
    """
    Whether a column stores what it is sent, but for a negative zero, which may lose its sign.

    Args:
        kind: What the column holds.
        declared: The name of its type.
    """
    return affinity(declared) in _KEPT.get(kind, ())


def affinity(declared: str) -> str:
    """The affinity of a column by its type's name: https://sqlite.org/datatype3.html section 3.1"""
    name = declared.upper()
    if "INT" in name:
        return "INTEGER"
    if "CHAR" in name or "CLOB" in name or "TEXT" in name:
        return "TEXT"
    if "BLOB" in name or not name:
        return "BLOB"
    if "REAL" in name or "FLOA" in name or "DOUB" in name:
        return "REAL"
    return "NUMERIC"
