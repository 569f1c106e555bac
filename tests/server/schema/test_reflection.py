"""What is read of tables beyond what SQLAlchemy's inspector tells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from atomicbatch.server.database.opening import database_url as server_url
from atomicbatch.server.database.opening import open_database
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.kinds import Kind
from tests.server.served import on_its_own

Read = Callable[..., dict[str, Table]]


@pytest.fixture
def read() -> Read:
    """``read(url, statement...)``: the tables of a database, once the statements have run."""

    def of(url: str, *statements: str) -> dict[str, Table]:
        on_its_own(url, *statements)
        with closing(open_database(server_url(url), read_only=False)) as database:
            return database.catalog.schema.tables

    return of


def required(table: Table) -> set[str]:
    return {column.name for column in table.columns if column.required}


def kinds(table: Table) -> dict[str, Kind]:
    return {column.name: column.kind for column in table.columns}


def test_sqlite(sqlite_path: object, read: Read) -> None:
    """Declared types, defaults as SQLite reads them, the row's place, keys that point here."""
    tables = read(
        f"sqlite:///{sqlite_path}",
        'CREATE TABLE t (id INTEGER PRIMARY KEY, w DEFAULT word, q TEXT DEFAULT "it\'s",'
        " n INT NOT NULL, yes BOOL DEFAULT TRUE, twice AS (n * 2), u UUID, j JSONB,"
        " UNIQUE (w, q))",
        "CREATE UNIQUE INDEX partial_ ON t (n) WHERE n > 1",
        "CREATE UNIQUE INDEX folded ON t (lower(q))",
        "CREATE TABLE child (t INTEGER REFERENCES T (id), rowid TEXT, OID TEXT)",
        "CREATE TABLE packed (id TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE VIEW seen AS SELECT id FROM t",
    )
    table = tables["t"]
    assert {name: table.by_name[name].default_sql for name in ("w", "q", "n", "yes")} == {
        "w": "'word'",
        "q": "'it''s'",
        "n": None,
        "yes": "(TRUE)",
    }
    assert kinds(table)["w"] is Kind.ANY
    assert (kinds(table)["yes"], kinds(table)["u"]) == (Kind.BOOLEAN, Kind.UUID)
    assert (required(table), table.uniques) == ({"n"}, (("w", "q"),))
    assert not table.by_name["twice"].writable
    assert table.by_name["id"].codec.to_json is None, "SQLite numbers it"
    assert table.by_name["id"].sql_type == "INTEGER"
    assert [(key.table, key.columns) for key in table.referenced_by] == [("child", ("t",))]
    assert (table.place, tables["child"].place) == (("rowid",), ("_rowid_",))
    assert tables["packed"].place == ()
    assert (tables["seen"].read_only_why, tables["t"].read_only) == ("it is a view", False)


def test_postgresql(postgresql_url: str, read: Read) -> None:
    """Domains, arrays, enumerations, identities, sequences, NULLS NOT DISTINCT."""
    tables = read(
        postgresql_url,
        "CREATE DOMAIN price AS numeric(5, 2) NOT NULL DEFAULT 4",
        "CREATE DOMAIN tip AS price",
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TABLE t (id serial PRIMARY KEY, p tip, m mood[], h varchar(3) NOT NULL,"
        " i int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (1) STORED,"
        " at timestamptz(3), k point, b smallint DEFAULT 7,"
        " UNIQUE NULLS NOT DISTINCT (h, b))",
        "CREATE UNIQUE INDEX partial_ ON t (b) WHERE b > 1",
    )
    table, by_name = tables["t"], tables["t"].by_name

    def facts(column: Column) -> tuple[object, ...]:
        return column.kind, column.nullable, column.required, column.select_sql

    assert facts(by_name["p"]) == (Kind.DECIMAL, False, False, None)
    assert (by_name["p"].precision, by_name["p"].scale) == (5, 2)
    assert facts(by_name["m"]) == (Kind.ARRAY, True, False, '"m"::text')
    assert by_name["m"].item is Kind.TEXT
    assert facts(by_name["k"]) == (Kind.OTHER, True, False, '"k"::text')
    assert (by_name["at"].kind, by_name["at"].fraction_digits) == (Kind.TIMESTAMP, 3)
    assert (by_name["b"].minimum, by_name["b"].default_sql) == (-(2**15), "(7)")
    assert by_name["id"].default_sql is None, "it is another number each time"
    assert {name for name, column in by_name.items() if not column.writable} == {"i", "g"}
    assert (required(table), table.uniques) == ({"h"}, (("h", "b"),))
    assert table.nulls_equal == {frozenset({"h", "b"})}
    assert table.place == ("tableoid", "ctid")


def test_mariadb(mysql_url: str, read: Read) -> None:
    """JSON and geometry, which SQLAlchemy does not see; numbers by their bounds; doubled quotes."""
    tables = read(
        mysql_url,
        "CREATE TABLE t (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, `we``ird` JSON, d POINT,"
        " e DECIMAL(10), f FLOAT, g BIT(3), h YEAR, s SET('a', 'b'), l ENUM('x', 'y'),"
        " at DATETIME(3) NOT NULL DEFAULT now(3), j TINYINT(1), o MEDIUMINT NOT NULL,"
        " v VARCHAR(20) DEFAULT 'x', twice INT AS (o * 2))",
        "CREATE TABLE kept (id INT PRIMARY KEY) ENGINE=MyISAM",
    )
    table, by_name = tables["t"], tables["t"].by_name
    assert kinds(table) == {
        "id": Kind.INTEGER,
        "we`ird": Kind.JSON,
        "d": Kind.BYTES,
        "e": Kind.DECIMAL,
        "f": Kind.FLOAT,
        "g": Kind.INTEGER,
        "h": Kind.INTEGER,
        "s": Kind.OTHER,
        "l": Kind.TEXT,
        "at": Kind.DATETIME,
        "j": Kind.BOOLEAN,
        "o": Kind.INTEGER,
        "v": Kind.TEXT,
        "twice": Kind.INTEGER,
    }
    bounds = {name: (by_name[name].minimum, by_name[name].maximum) for name in ("id", "g", "o")}
    assert bounds == {"id": (0, 2**32 - 1), "g": (0, 7), "o": (-(2**23), 2**23 - 1)}
    assert (by_name["e"].scale, by_name["at"].fraction_digits) == (0, 3)
    assert (by_name["f"].select_sql, by_name["g"].select_sql) == ("CAST(`f` AS DOUBLE)", "`g`+0")
    assert (by_name["l"].choices, by_name["v"].length) == (("x", "y"), 20)
    assert by_name["v"].default_sql == "DEFAULT(`v`)"
    assert not by_name["twice"].writable
    assert required(table) == {"o"}
    assert tables["kept"].read_only_why == "its storage engine cannot roll back"
