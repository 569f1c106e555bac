"""Schemas of small SQLite files, for what is made from a schema: OpenAPI and the page."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from atomicbatch.server.dialect import SQLITE
from atomicbatch.server.sample import create_sample
from atomicbatch.server.schema.reflection import read_schema
from atomicbatch.server.schema.tables import Schema

# Names that break out of whatever is not escaped, and two that are alike in hexadecimal.
HOSTILE = """
CREATE TABLE "A" (id INTEGER PRIMARY KEY, b_id INTEGER NOT NULL REFERENCES "B" (id));
CREATE TABLE "B" (id INTEGER PRIMARY KEY, "</code><script>" VARCHAR(3) NOT NULL);
CREATE TABLE "a b/c{d}%?#&<script>" ("<b>x</b>" INTEGER PRIMARY KEY, "a.b""c" TEXT NOT NULL);
CREATE TABLE "表" ("列" TEXT, PRIMARY KEY ("列"));
CREATE TABLE nokey (x);
CREATE TABLE "Problem" (id INTEGER PRIMARY KEY, twice INTEGER AS (id * 2), n INTEGER NOT NULL);
CREATE TABLE "éb" (id INTEGER PRIMARY KEY, "order" TEXT, "Prefer" TEXT);
CREATE TABLE "\u0e9b" (id INTEGER PRIMARY KEY);
CREATE VIEW v AS SELECT * FROM nokey;
"""


def schema_of(path: Path, script: str = "") -> Schema:
    """The schema of the SQLite file at ``path``, after ``script`` ran in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        return read_schema(connection, SQLITE)


def schema_called(name: str, folder: Path) -> Schema:
    """``sample``: the sample shop; ``hostile``: the names above; ``empty``: nothing."""
    path = folder / f"{name}.sqlite"
    if name == "sample":
        create_sample(path)
    return schema_of(path, HOSTILE if name == "hostile" else "")
