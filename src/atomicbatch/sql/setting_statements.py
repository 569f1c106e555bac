"""What SET, RESET and set_config() set (PostgreSQL), and what SET says of a transaction."""

from __future__ import annotations

import re

from atomicbatch.sql import refusals
from atomicbatch.sql.kinds import Family, Kind, Statement
from atomicbatch.sql.lexing import DOLLARS, QUOTED, uncommented

_READ_ONLY = re.compile(r"\bREAD\s+ONLY\b")
_SETTING = re.compile(
    r"\b(?:RE)?SET\s+(LOCAL\s+|SESSION\s+(?!AUTHORIZATION\b|CHARACTERISTICS\b))?([\"\w.]+)",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"ISOLATION\s+LEVEL\s+(SERIALIZABLE|REPEATABLE\s+READ|READ\s+COMMITTED|READ\s+UNCOMMITTED)"
)
# What calls of it are made of: their begin, brackets and commas, and what is quoted.
_ARGUMENTS = re.compile(
    rf"(\bset_config\s*+\()|([][(),])|\b[eE]'(?:[^'\\]++|\\.|'')*+'|({DOLLARS}).*?\3|{QUOTED}"
    rf"|(?:\b[eE]'|['\"]|{DOLLARS}).*",
    re.IGNORECASE | re.DOTALL,
)
_LITERAL = re.compile(r"\s*+'([^']+)'\s*+")
_TRUTH = re.compile(
    r"\s*(?:(true|'(?:t|true|y|yes|on|1)')|false|'(?:f|false|n|no|off|0)')"
    r"\s*(?:::\s*bool(?:ean)?\s*)?",
    re.IGNORECASE,
)
# What SET calls by other words than the setting's name.
_SETTINGS = {
    "time": "timezone",
    "schema": "search_path",
    "names": "client_encoding",
    "xml": "xmloption",
    "session": "session_authorization",
}


def level_of(text: str) -> str:
    found = _LEVEL.search(text)
    return " ".join(found[1].split()) if found else ""


def options_of(text: str) -> str:
    """A transaction's isolation level, whether it only reads, or both, separated by a comma."""
    return ", ".join(filter(None, (level_of(text), "READ ONLY" * bool(_READ_ONLY.search(text)))))


def read_setting(sql: str, family: Family) -> Statement:
    """SET and RESET of PostgreSQL."""
    found = _SETTING.search(uncommented(sql, family))
    if found is None:
        return Statement(Kind.WRITE)
    name = found[2].replace('"', "").lower()
    if found[1] is None and name == "session" and "characteristics" in sql.lower():
        return Statement(Kind.ISOLATION, options_of(sql.upper()))
    name = _SETTINGS.get(name, name)
    if refused := _refused_setting(name):
        return Statement(Kind.REFUSED, refused)
    scope = (found[1] or "").strip().lower()
    return Statement(Kind.READ, settings=(name,), lasting=scope != "local")


def _refused_setting(name: str) -> str:
    """Why a setting of PostgreSQL cannot be made in a batch, or an empty text."""
    if name == "all":
        return refusals.RESET_ALL
    if name == "seed":
        return refusals.SEED
    if name == "transaction" or name.startswith(("transaction_", "default_transaction_")):
        return "it sets an option of the transaction, which all calls share"
    return ""


def read_set_config(sql: str) -> Statement:
    calls = _set_config_calls(sql)
    literals = [_LITERAL.fullmatch(sql, *arguments[0]) for arguments in calls]
    names = tuple(literal[1].lower() for literal in literals if literal is not None)
    if names and len(names) < len(calls):
        return Statement(Kind.REFUSED, refusals.SOME_NAMED)
    for name in names:
        if refused := _refused_setting(name):
            return Statement(Kind.REFUSED, refused)
    truths = [_TRUTH.fullmatch(sql, *arguments[-1]) for arguments in calls]
    lasting = {truth[1] is None for truth in truths if truth is not None}
    if len(lasting) > 1:
        return Statement(Kind.REFUSED, refusals.TWO_KINDS)
    unknown = None in truths
    return Statement(
        Kind.READ,
        settings=names or ("?",) * bool(calls),
        # Where it cannot be seen, it does no harm to think that it lasts.
        lasting=unknown or True in lasting,
        lasting_unknown=unknown,
    )


def _set_config_calls(sql: str) -> list[list[tuple[int, int]]]:
    """Where the arguments of each call of set_config() begin and end."""
    calls: list[list[tuple[int, int]]] = []
    # What is open: where the argument begins that is being read, and whose it is.
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
