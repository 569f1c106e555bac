"""
Custom settings: the names in a text of PostgreSQL's settings that an app has made up.

They have a dot in their names (``shop.tenant``). The server keeps them for a session, and lists
them nowhere. PostgreSQL 15, 20.16: customized options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import uncommented
from atomicbatch.sql.setting_statements import IS_LOCAL, LITERAL, set_config_calls

MOST_CHARACTERS = 1000
"""How much of a text is read: what is longer is a list of values, or a script."""
# A first look, for statements whose texts are new each time: UPDATE has no dot before its "=".
_MAY_SET = re.compile(
    r"\bset(?:_config\b|(?:/\*.*?\*/|--[^\n]*+|[^=']){0,100}?\.)", re.IGNORECASE | re.DOTALL
)
_PART = r'(?:[^\W\d][\w$]*|"[^"]+")'
_SET = re.compile(
    rf"(?:^|;)\s*SET\s+(?:SESSION\s+)?({_PART}(?:\s*\.\s*{_PART})*)\s*(?:=|TO\b)", re.IGNORECASE
)
_NAME = re.compile(r"[^\W\d][\w$]*(?:\.[^\W\d][\w$]*)+")
# A parameter of a driver's, perhaps with a type; psycopg's have three formats.
_PARAMETER = re.compile(
    r"\s*(?:\$([0-9]+)|(%[sbt])|%\(([^)]+)\)[sbt])\s*(?:::\s*\w+\s*)?", re.ASCII
)
_MARKS = re.compile(r"%%|(%[sbt])")
Named = str | int
"""The name of a setting; or which parameter has it, by its number from 0, or ``:name``."""


def custom_settings_in(sql: str, parameters: Any = None) -> Iterable[str]:
    """
    Tell the names of the custom settings that a text makes for its session, in lower case.

    Args:
        sql: One statement or several.
        parameters: What the driver was given for it: a sequence or a mapping, or None.

    Returns:
        What SET and set_config() name. SET LOCAL ends with the transaction, and is left out.
    """
    if len(sql) <= MOST_CHARACTERS:
        named = settings_named(sql)
    else:
        named = settings_named.__wrapped__(sql[:MOST_CHARACTERS])
    return _names(named, parameters) if named else ()


def _names(named: Iterable[Named], parameters: Any) -> list[str]:
    found = []
    for one in named:
        text = _given(one, parameters)
        if isinstance(text, str) and _NAME.fullmatch(text):
            found.append(text.lower())
    return found


def _given(named: Named, parameters: Any) -> Any:
    """Find the text of a name among the parameters, if it is there."""
    if isinstance(parameters, tuple) and len(parameters) == 1:
        (only,) = parameters  # they may come as one
        parameters = only if isinstance(only, tuple | list | Mapping) else parameters
    if isinstance(named, int):
        is_there = isinstance(parameters, Sequence) and named < len(parameters)
        return parameters[named] if is_there else None
    if named.startswith(":"):
        return parameters.get(named[1:]) if isinstance(parameters, Mapping) else None
    return named


@lru_cache(maxsize=1024)
def settings_named(sql: str) -> tuple[Named, ...]:
    """Tell how a text of at most ``MOST_CHARACTERS`` names settings; mostly not at all."""
    if _MAY_SET.search(sql) is None:
        return ()
    whole = uncommented(sql, Family.POSTGRESQL)
    found: list[Named] = [
        "".join(name.replace('"', "").split()) for name in _SET.findall(whole) if "." in name
    ]
    for name, *_, is_local in set_config_calls(whole):
        truth = IS_LOCAL.fullmatch(whole, *is_local)
        if truth is None or truth[1] is None:
            found.extend(_first_argument(whole, *name))
    return tuple(found)


def _first_argument(sql: str, start: int, end: int) -> Iterable[Named]:
    if (literal := LITERAL.fullmatch(sql, start, end)) is not None:
        yield literal[1]
    elif (parameter := _PARAMETER.fullmatch(sql, start, end)) is not None:
        number, mark, name = parameter.groups()
        if number is not None:
            yield int(number) - 1
        elif mark is not None:
            yield sum(1 for one in _MARKS.finditer(sql, 0, start) if one[1] is not None)
        else:
            yield f":{name}"
