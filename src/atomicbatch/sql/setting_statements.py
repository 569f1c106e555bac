"""Settings: what SET, RESET and set_config() set (PostgreSQL), and a transaction's options."""

from __future__ import annotations

import re

from atomicbatch.sql import refusals
from atomicbatch.sql.kinds import Kind, Statement, refused
from atomicbatch.sql.lexing import DOLLARS, QUOTED, Text, uncommented

_READ_ONLY = re.compile(r"\bREAD\s+ONLY\b")
_SETTING = re.compile(
    r"\b(?:RE)?SET\s+(LOCAL\s+|SESSION\s+(?!AUTHORIZATION\b|CHARACTERISTICS\b))?([\"\w.]+)",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"ISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ|READ\s+COMMITTED|READ\s+UNCOMMITTED)"
)
# What calls of set_config() are made of: their start, brackets and commas, and what is quoted.
_ARGUMENTS = re.compile(
    rf"(\bset_config\s*+\()|([][(),])|\b[eE]'(?:[^'\\]++|\\.|'')*+'|({DOLLARS}).*?\3|{QUOTED}"
    rf"|(?:\b[eE]'|['\"]|{DOLLARS}).*",
    re.IGNORECASE | re.DOTALL,
)
LITERAL = re.compile(r"\s*+'([^']+)'\s*+")
"""An argument that is a text without quotes in it."""
IS_LOCAL = re.compile(
    r"\s*(?:(true|'(?:t|true|y|yes|on|1)')|false|'(?:f|false|n|no|off|0)')"
    r"\s*(?:::\s*bool(?:ean)?\s*)?",
    re.IGNORECASE,
)
"""The last argument of set_config(); its group is there where that is true."""
# SET has other words for some settings than their names.
_SETTINGS = {
    "time": "timezone",
    "schema": "search_path",
    "names": "client_encoding",
    "xml": "xmloption",
    "session": "session_authorization",
}


def level_of(bare: str) -> str:
    """Return the isolation level that a statement names, or an empty text."""
    found = _LEVEL.search(bare)
    return " ".join(found[1].split()) if found else ""


def isolation(kind: Kind, bare: str) -> Statement:
    """Make the statement that begins a transaction with options, or sets them."""
    read_only = _READ_ONLY.search(bare) is not None
    return Statement(kind, level=level_of(bare), read_only=read_only)


def read_setting(text: Text) -> Statement:
    """Tell what SET and RESET of PostgreSQL do."""
    found = _SETTING.search(uncommented(text.sql, text.family))
    if found is None:
        return Statement(Kind.WRITE)
    name = found[2].replace('"', "").lower()
    if found[1] is None and name == "session" and "characteristics" in text.sql.lower():
        return isolation(Kind.ISOLATION, text.sql.upper())
    name = _SETTINGS.get(name, name)
    if why := _refused_setting(name):
        return refused(why)
    scope = (found[1] or "").strip().lower()
    return Statement(Kind.READ, settings=(name,), lasting=scope != "local")


def _refused_setting(name: str) -> str:
    """Tell why a batch cannot make a setting of PostgreSQL; an empty text: it can."""
    if name == "all":
        return refusals.RESET_ALL
    if name == "seed":
        return refusals.SEED
    if name == "transaction" or name.startswith(("transaction_", "default_transaction_")):
        return refusals.TRANSACTION_OPTION
    return ""


def read_set_config(sql: str) -> Statement:
    """Tell what the calls of set_config() in a query do; the rest of the query is not looked at."""
    calls = set_config_calls(sql)
    literals = [LITERAL.fullmatch(sql, *arguments[0]) for arguments in calls]
    names = tuple(literal[1].lower() for literal in literals if literal is not None)
    if names and len(names) < len(calls):
        return refused(refusals.SOME_NAMED)
    for name in names:
        if why := _refused_setting(name):
            return refused(why)
    truths = [IS_LOCAL.fullmatch(sql, *arguments[-1]) for arguments in calls]
    lasting = {truth[1] is None for truth in truths if truth is not None}
    if len(lasting) > 1:
        return refused(refusals.TWO_KINDS)
    unknown = None in truths
    return Statement(
        Kind.READ,
        settings=names or ("?",) * bool(calls),
        # Where the text does not say, no harm is done by treating it as lasting.
        lasting=unknown or True in lasting,
        lasting_unknown=unknown,
    )


def set_config_calls(sql: str) -> list[list[tuple[int, int]]]:
    """Find where the arguments of each call of set_config() begin and end, in SQL."""
    calls: list[list[tuple[int, int]]] = []
    # The open brackets: the arguments so far (None: not of set_config), and where this one begins.
    brackets: list[tuple[list[tuple[int, int]] | None, int]] = []
    for found in _ARGUMENTS.finditer(sql):
        begin, mark = found[1], found[2]
        if begin is not None or mark in ("(", "["):
            brackets.append(([] if begin is not None else None, found.end()))
        elif mark is not None and brackets:
            arguments, start = brackets.pop()
            if arguments is not None:
                arguments.append((start, found.start()))
            if mark == ",":
                brackets.append((arguments, found.end()))
            elif arguments is not None:
                calls.append(arguments)
    return calls
