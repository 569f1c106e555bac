"""Functions that only read: a list for each database, checked against the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from atomicbatch.sql.statements import Family, Kind, read_statement

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


def test_functions_of_sqlite() -> None:
    """SQLite's own functions only read, those excepted that run code or change an index."""
    with closing(sqlite3.connect(":memory:")) as connection:
        found = connection.execute("SELECT name, narg FROM pragma_function_list").fetchall()
    names = {name.upper() for name, _ in found if name.isidentifier()}
    assert {name for name in names if kind(f"SELECT {name}(1)", SQLITE) is not READ} <= {
        *("EDIT", "FTS3_TOKENIZER", "FTS5", "LOAD_EXTENSION", "OPTIMIZE", "READFILE", "SQLITE_LOG"),
        *("WRITEFILE",),
    }
