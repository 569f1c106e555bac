"""SQL text without its comments, and without what stands in its quotes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from atomicbatch.sql.kinds import Family

# Each pattern looks for comments, then for what is quoted, then for what is opened and never
# closed. The last takes all the rest, so that no text is searched twice for an end that it lacks.
_COMMENT = r"--[^\n]*|/\*.*?\*/"
# PostgreSQL: comments nest. Three deep, that is; what is deeper counts as never closed.
_NESTED = ""
for _ in range(3):
    _NESTED = rf"/\*(?:[^*/]++|\*(?!/)|/(?!\*){_NESTED and '|' + _NESTED})*+\*/"
# MySQL: "5--1" is no comment, and neither is /*! ... */ or /*M! ... */, which the server executes.
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
_EXECUTABLE = re.compile(r"/\*M?!")
_WORDS = re.compile(r"[A-Z_][A-Z_0-9]*")
# The first words tell what a statement is; nobody looks further than this for them.
_FIRST_CHARACTERS = 200


class Text(NamedTuple):
    """One statement, as it is read."""

    bare: str
    """Its own words in upper case: without comments, and with nothing inside its quotes."""
    words: list[str]
    """Those of its beginning, without marks and quotes."""
    sql: str
    """What was sent, which may hold other statements too."""
    family: Family

    @classmethod
    def of(cls, bare: str, sql: str, family: Family) -> Text:
        """Make the Text of one statement from its bare text and what was sent."""
        return cls(bare, _WORDS.findall(bare, 0, _FIRST_CHARACTERS), sql, family)

    @property
    def first(self) -> str:
        """Its first word, or an empty text."""
        return self.words[0] if self.words else ""

    @property
    def second(self) -> str:
        """Its second word, or an empty text."""
        return self.words[1] if len(self.words) > 1 else ""


def bare(sql: str, family: Family) -> str:
    """Return SQL in upper case, without comments, and with nothing inside its quotes."""

    def blank(found: re.Match[str]) -> str:
        if found[1] is not None:
            return " "
        if found[2] is None:
            return found[0]
        return "''" if found[0][0] in "'$eE" else '"Q"'

    return _BARE[family].sub(blank, sql).upper()


def has_executable_comment(bare: str) -> bool:
    """Tell whether MySQL's bare text holds a comment that some servers execute and others skip."""
    return _EXECUTABLE.search(bare) is not None


def uncommented(sql: str, family: Family) -> str:
    """Return SQL without its comments, but with its quotes."""
    return _BARE[family].sub(lambda found: found[0] if found[1] is None else " ", sql)


def text_of(operation: Any) -> str:
    """Return the text of a statement, in whatever form a driver takes it."""
    if isinstance(operation, str):
        return operation
    if isinstance(operation, bytes | bytearray | memoryview):
        return bytes(operation).decode("utf-8", "replace")
    if hasattr(operation, "as_string"):
        # psycopg's sql.SQL and its kin. psycopg2's want a cursor, which we have not got.
        try:
            return str(operation.as_string(None))
        except TypeError:
            return "".join(_strings(operation))
    strings = getattr(operation, "strings", None)
    if isinstance(strings, tuple):
        return " x ".join(strings)  # a template string (Python 3.14)
    return str(operation)


def _strings(part: Any) -> list[str]:
    """Return the texts of a Composed, which may hold others; a value becomes ``'x'``."""
    if hasattr(part, "seq"):
        return [text for one in part.seq for text in _strings(one)]
    if hasattr(part, "strings"):
        return [".".join('"' + name.replace('"', '""') + '"' for name in part.strings)]
    return [str(getattr(part, "string", "'x'"))]
