"""
Unknown SQL: that of a database whose kind of SQL nobody here reads (Oracle, SQL Server, ...).

What is known to store nothing passes; all else counts as a write.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r"[A-Z]+")
_READS = frozenset({"SELECT", "WITH"})
_CONTROLS = re.compile(
    r"(?:SAVEPOINT|SAVE|RELEASE|ROLLBACK|COMMIT|(?:BEGIN|START)(?:\s+[A-Z]+)?)\b[^;]*;?\s*\Z"
)
_STORES = re.compile(r"\b(?:INSERT|(?<!FOR )UPDATE|DELETE|MERGE|INTO|EXEC|CALL)\b|;\s*(?=\S)")


def verb_of(sql: str) -> str:
    """
    Tell by which word a statement of an unknown kind of SQL may store something; empty: it reads.

    Text that is not known to read counts as a write.
    """
    text = _QUOTED.sub(" ", sql).upper().lstrip(" \t\r\n(")
    if _CONTROLS.match(text):
        return ""
    found = _WORD.match(text)
    if found is not None and found[0] in _READS:
        found = _STORES.search(text)
        if found is None:
            return ""
    return found[0].rstrip("; \t\r\n") or "a statement" if found else "a statement"
