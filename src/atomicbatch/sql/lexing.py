"""SQL text without its comments, and without what stands in its quotes."""

from __future__ import annotations

import re
from typing import Any

from atomicbatch.sql.kinds import Family

# Comments, then what is quoted, then what is opened and never closed: the last takes all the rest,
# so that no text is searched twice for an end that it does not have.
_COMMENT = r"--[^\n]*|/\*.*?\*/"
# PostgreSQL: comments nest. Three deep, that is; what is deeper counts as never closed.
_NESTED = ""
for _ in range(3):
    _NESTED = rf"/\*(?:[^*/]++|\*(?!/)|/(?!\*){_NESTED and '|' + _NESTED})*+\*/"
# MySQL: "5--1" is no comment, and what stands in /*! ... */ is executed.
_MYSQL_COMMENT = r"--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!!|M!).*?\*/"
_MYSQL_QUOTED = r"""'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+"|`[^`]*+`"""
QUOTED = r"""'(?:[^']++|'')*+'|"(?:[^"]++|"")*+\""""
DOLLARS = r"(?<![\w$])\$(?:[^\W\d]\w*)?\$"
_BARE = {
    Family.SQLITE: re.compile(
        rf"({_COMMENT})|({QUOTED}|`[^`]*+`|\[[^\]]*+\])|(?:/\*|['\"`\[]).*", re.DOTALL
    ),
    Family.POSTGRESQL: re.compile(
        rf"(--[^\n]*|{_NESTED})|(\b[eE]'(?:[^'\\]++|\\.|'')*+'|({DOLLARS}).*?\3|{QUOTED})"
        rf"|(?:/\*|\b[eE]'|['\"]|{DOLLARS}).*",
        re.DOTALL,
    ),
    Family.MYSQL: re.compile(
        rf"({_MYSQL_COMMENT})|({_MYSQL_QUOTED})|(?:/\*(?!!|M!)|['\"`]).*", re.DOTALL
    ),
}
_RAN = re.compile(rf"(/\*M?!\d*|\*/)|{_MYSQL_COMMENT}|{_MYSQL_QUOTED}|(?:/\*|['\"`]).*", re.DOTALL)
_SKIPPED = re.compile(
    rf"(/\*M?!.*?(?:\*/|\Z))|{_MYSQL_COMMENT}|{_MYSQL_QUOTED}|(?:/\*|['\"`]).*", re.DOTALL
)


def bare(sql: str, family: Family) -> str:
    """The statement's own words: without comments, and with nothing inside its quotes."""

    def blank(found: re.Match[str]) -> str:
        if found[1] is not None:
            return " "
        if found[2] is None:
            return found[0]
        return "''" if found[0][0] in "'$eE" else '"Q"'

    return _BARE[family].sub(blank, sql).upper()


def both_ways(sql: str) -> tuple[str, str]:
    """A text with what stands in executable comments, and without it (MySQL)."""

    def dropped(found: re.Match[str]) -> str:
        return found[0] if found[1] is None else " "

    return _RAN.sub(dropped, sql), _SKIPPED.sub(dropped, sql)


def uncommented(sql: str, family: Family) -> str:
    """The statement without comments, but with its quotes."""
    return _BARE[family].sub(lambda found: found[0] if found[1] is None else " ", sql)


def text_of(operation: Any) -> str:
    """The text of a statement, in whatever form a driver takes it."""
    if isinstance(operation, str):
        return operation
    if isinstance(operation, bytes | bytearray | memoryview):
        return bytes(operation).decode("utf-8", "replace")
    if hasattr(operation, "as_string"):
        # psycopg's sql.SQL and its kin; psycopg2 wants a real cursor, which is of no use here.
        try:
            return str(operation.as_string(None))
        except TypeError:
            return "".join(_strings(operation))
    strings = getattr(operation, "strings", None)
    if isinstance(strings, tuple):
        return " x ".join(strings)  # a template string (Python 3.14)
    return str(operation)


def _strings(part: Any) -> list[str]:
    """The texts of a Composed, which may hold others; of values, that they are some."""
    if hasattr(part, "seq"):
        return [text for one in part.seq for text in _strings(one)]
    if hasattr(part, "strings"):
        return [".".join('"' + name.replace('"', '""') + '"' for name in part.strings)]
    return [str(getattr(part, "string", "'x'"))]
