"""
Built-in SQL functions, for a connection on which another function has taken the name of one.

Python can replace a function of SQLite's, but not take the replacement away again. So where the
batch's own connection is to have the built-in one back, it gets a function that asks another
connection, on which nothing was replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from weakref import finalize

# Those whose result depends on their arguments only: no collation, no pragma, no connection's
# state. Not JSON's, whose values have a mark that is lost on the way.
_TEXT = "char hex instr length lower ltrim quote replace rtrim soundex substr substring trim upper"
_NUMBERS = (
    "abs acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log "
    "log10 log2 mod pi pow power radians round sign sin sinh sqrt tan tanh trunc typeof unicode"
)
_DATES = frozenset("date datetime julianday strftime time unixepoch".split())
_PLAIN = frozenset(f"{_TEXT} {_NUMBERS}".split()) | _DATES


def is_built_in(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether SQLite has a function of this name, in small letters, of its own."""
    query = "SELECT 1 FROM pragma_function_list WHERE builtin AND name = ?"
    return sqlite3.Cursor(connection).execute(query, (name,)).fetchone() is not None


def can_be_put_back(name: str) -> bool:
    """Tell whether another connection gives the same result."""
    return name in _PLAIN


def put_back(connection: sqlite3.Connection, name: str, count: int) -> None:
    """
    Let a name mean the built-in function again.

    Args:
        connection: What has a Python function of this name.
        name: A function that ``can_be_put_back``.
        count: How many arguments the Python function takes; -1: any number.

    Raises:
        sqlite3.Error: A statement that uses the function is still running.
    """
    other = sqlite3.Connection(":memory:", check_same_thread=False)
    # One that knows its arguments only may stand in an index, unless it knows what time it is.
    sqlite3.Connection.create_function(
        connection, name, count, _asking(other, name), deterministic=name not in _DATES
    )


def _asking(other: sqlite3.Connection, name: str) -> Callable[..., Any]:
    def ask(*args: Any) -> Any:
        marks = ", ".join("?" * len(args))
        (value,) = other.execute(f"SELECT {name}({marks})", args).fetchone()
        return value

    finalize(ask, other.close)
    return ask
