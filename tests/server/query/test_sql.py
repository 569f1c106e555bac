"""Trees as SQL: also those that nobody has parsed."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.server.dialect import MARIADB, POSTGRESQL, SQLITE, Dialect
from atomicbatch.server.query.filters import MAX_PATTERN_LENGTH
from atomicbatch.server.query.query import read_query
from atomicbatch.server.query.sql import order_by, where
from atomicbatch.server.query.tree import And, Condition, Filter, Not, Or, Order
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.codecs import codec_for
from atomicbatch.server.values.kinds import Bounds, Kind

ROWS = [(1, None), (2, "a"), (3, "b"), (4, "a")]


def column(name: str, kind: Kind) -> Column:
    return Column(name=name, kind=kind, codec=codec_for(SQLITE, name, kind, Bounds()))


ID, NAME = column("id", Kind.INTEGER), column("name", Kind.TEXT)
TABLE = Table(name="t", columns=(ID, NAME), key=(ID,))
LOW = Condition(ID, "lt", 3)
A = Condition(NAME, "eq", "a")


def found(tree: Filter) -> list[int]:
    """The rows that SQLite finds for a tree."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", ROWS)
    sql, parameters = where(tree, SQLITE)
    rows = connection.execute(f"SELECT id FROM t WHERE {sql} ORDER BY id", parameters)
    ids = [number for (number,) in rows]
    connection.close()
    return ids


@pytest.mark.parametrize(
    ("tree", "sql", "ids"),
    [
        (A, "`name` = ?", [2, 4]),
        (And((LOW, A)), "`id` < ? AND `name` = ?", [2]),
        (Or((LOW, A)), "((`id` < ?) OR (`name` = ?))", [1, 2, 4]),
        (Not(A), "NOT (`name` = ?)", [3]),
        (Not(Not(A)), "NOT NOT (`name` = ?)", [2, 4]),
        (And((Or((LOW, A)), Not(LOW))), "((`id` < ?) OR (`name` = ?)) AND NOT (`id` < ?)", [4]),
        (And(()), "(1 = 1)", [1, 2, 3, 4]),
        (Or(()), "(1 = 0)", []),
        (Not(Or(())), "NOT (1 = 0)", [1, 2, 3, 4]),
        (Condition(ID, "in", ()), "1 = 0", []),
    ],
)
def test_a_tree_means_what_it_says(tree: Filter, sql: str, ids: list[int]) -> None:
    """AND, OR and NOT bind as they are nested; groups without members are neutral."""
    assert where(tree, SQLITE).sql == sql
    assert found(tree) == ids


@pytest.mark.parametrize("query", ["id=gt.0", "or=(id.gt.0,name.is.null)", "and=(id.gt.0)"])
def test_a_parsed_filter_can_be_narrowed(query: str) -> None:
    """A rule joined to what a client sent holds for it, whatever the client sent."""
    parsed = read_query(TABLE, query.encode()).filter
    assert parsed is not None
    rule = Or((Condition(NAME, "eq", "b"), Condition(ID, "eq", 1)))
    assert found(And((parsed, rule))) == [1, 3]


def lower(sql: str) -> str:
    return f"LOWER({sql} COLLATE utf8mb4_unicode_520_ci) COLLATE utf8mb4_bin"


@pytest.mark.parametrize(
    ("dialect", "like", "ilike", "parameter"),
    [
        (SQLITE, "`name` GLOB ?", "atomicbatch_fold(CAST(`name` AS BLOB)) GLOB ?", "5%?*"),
        (POSTGRESQL, '"name" LIKE %s', '"name" ILIKE %s', "5\\%_%"),
        (
            MARIADB,
            "CONVERT(`name` USING utf8mb4) COLLATE utf8mb4_bin LIKE %s ESCAPE '|'",
            f"{lower('CONVERT(`name` USING utf8mb4)')} LIKE {lower('%s')} ESCAPE '|'",
            "5|%_%",
        ),
    ],
)
def test_patterns(dialect: Dialect, like: str, ilike: str, parameter: str) -> None:
    """A pattern is written as each database reads it."""
    for operator, sql in (("like", like), ("ilike", ilike)):
        condition = Condition(NAME, operator, "5\\%_*")  # type: ignore[arg-type]
        assert where(condition, dialect) == (sql, (parameter,))


@given(st.text("%*_?[]\\|ab", max_size=12))
def test_a_pattern_of_escapes_is_itself(text: str) -> None:
    """What a client has escaped matches that text, and no other."""
    pattern = "".join(f"\\{character}" for character in text)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (name TEXT)")
    others = [text, text + "x", "x" + text, text.replace("\\", "x"), text.replace("*", "aa")]
    connection.executemany("INSERT INTO t VALUES (?)", [(other,) for other in others])
    sql, parameters = where(Condition(NAME, "like", pattern), SQLITE)
    rows = connection.execute(f"SELECT DISTINCT name FROM t WHERE {sql}", parameters).fetchall()
    connection.close()
    assert len(pattern) <= MAX_PATTERN_LENGTH
    assert rows == [(text,)]


@pytest.mark.parametrize(
    ("order", "sqlite", "mysql"),
    [
        (Order(ID), "`id`", "`id`"),
        (Order(ID, "asc"), "`id` ASC", "`id` ASC"),
        (Order(ID, "desc", "first"), "`id` DESC NULLS FIRST", "`id` IS NULL DESC, `id` DESC"),
        (Order(ID, None, "last"), "`id` NULLS LAST", "`id` IS NULL, `id`"),
    ],
)
def test_orders(order: Order, sqlite: str, mysql: str) -> None:
    """MariaDB and MySQL have no NULLS FIRST; whether it is NULL is ordered by instead."""
    assert order_by([order], SQLITE) == sqlite
    assert order_by([order, Order(NAME)], MARIADB) == f"{mysql}, `name`"


def test_parameters_stand_in_the_order_of_their_places() -> None:
    """However deep a value is, its place in the list is its place in the SQL."""
    values: list[Any] = [1, 2, 3, 4]
    tree = And(
        (
            Condition(ID, "eq", values[0]),
            Or((Condition(ID, "in", (values[1], values[2])), Not(Condition(ID, "gt", values[3])))),
        )
    )
    assert list(where(tree, SQLITE).parameters) == values
