"""What a statement means for the transaction: read from its text, erring towards a write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomicbatch.sql.statements import Family, Kind, Statement, is_plain, read_statement
from tests.growth import is_linear

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


# Several statements in one text ------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1; SELECT 2", READ),
        ("SELECT 1; SELECT a FROM t FOR UPDATE;", HOLD),
        ("SELECT a FROM t FOR UPDATE; INSERT INTO t VALUES (1); SELECT 1", WRITE),
        ("INSERT INTO t VALUES (1); COMMIT", REFUSED),
        ("BEGIN; SELECT 1; END", REFUSED),
        ("SELECT 1; ROLLBACK", REFUSED),
        ("SAVEPOINT a; INSERT INTO t VALUES (1)", REFUSED),
        ("DELETE FROM t; RELEASE a; SELECT 1", REFUSED),
        ("ROLLBACK TO a; SELECT 1", REFUSED),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; INSERT INTO t VALUES (1)", REFUSED),
        ("INSERT INTO t VALUES (1); PREPARE TRANSACTION 'x'", REFUSED),
    ],
)
def test_several_statements(sql: str, expected: Kind, family: Family) -> None:
    """Several statements are as heavy as the heaviest, and must not control the transaction."""
    assert kind(sql, family) is expected


@pytest.mark.parametrize(
    "sql",
    [
        "REPEAT COMMIT; UNTIL 1 END REPEAT",
        "BEGIN NOT ATOMIC COMMIT; END",
        "IF 1 THEN COMMIT; END IF",
        "FOR i IN 1..2 DO COMMIT; END FOR",
        "WHILE 1 DO COMMIT; END WHILE",
        "CASE 1 WHEN 1 THEN COMMIT; END CASE",
        "l: LOOP COMMIT; LEAVE l; END LOOP",
        "BEGIN NOT ATOMIC REPEAT CREATE TABLE t (a int); UNTIL 1 END REPEAT; END",
        "SELECT 1; REPEAT COMMIT; UNTIL 1 END REPEAT",
    ],
)
def test_compound_statements(sql: str) -> None:
    """What MariaDB's compound statements run is not told by their first words."""
    assert kind(sql, MYSQL) is REFUSED


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t VALUES (1); CALL work()", Statement(WRITE, is_dml=True, calls=True)),
        (
            "SELECT a FROM t FOR UPDATE; SELECT b FROM t FOR UPDATE NOWAIT",
            Statement(HOLD, excludes=True),
        ),
    ],
)
def test_checks_of_several_statements(sql: str, expected: Statement) -> None:
    """What has to be checked is so whichever of several statements it belongs to."""
    assert read_statement(sql, MYSQL) == expected


@pytest.mark.parametrize(
    ("sql", "family", "expected"),
    [
        (
            "CREATE TRIGGER a DELETE ON t BEGIN DELETE FROM u; SELECT CASE 1 WHEN 1 THEN 2 END;END",
            *(SQLITE, WRITE),
        ),
        ("create temp trigger a update on t begin delete from u; end", SQLITE, WRITE),
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM u; END; COMMIT", SQLITE, REFUSED),
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM u", SQLITE, WRITE),
        ("CREATE TABLE t (a); DELETE FROM t; END", SQLITE, REFUSED),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM t; SELECT 1; END",
            *(POSTGRESQL, WRITE),
        ),
        ("CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC DELETE FROM t; END", POSTGRESQL, WRITE),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1; END", POSTGRESQL, REFUSED),
        ("CREATE FUNCTION f() RETURNS int BEGIN DELETE FROM t; RETURN 1; END", MYSQL, REFUSED),
    ],
)
def test_bodies(sql: str, family: Family, expected: Kind) -> None:
    """The body of a trigger or a function is part of the one statement that creates it."""
    assert kind(sql, family) is expected


def test_several_statements_with_setting() -> None:
    """A setting that ends with its transaction has to come alone, since it has to be restored."""
    statement = read_statement("SET LOCAL app.tenant = 'a'; SELECT 1", POSTGRESQL)
    assert statement.kind is REFUSED
    assert "one by one" in statement.refusal


# Any text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t VALUES {}", WRITE),
        ("insert into t values {}", WRITE),
        ("INSERT INTO t VALUES {};", WRITE),
        ("INSERT INTO t VALUES {}, ('; COMMIT')", WRITE),
        ("INSERT INTO t VALUES {}; COMMIT", REFUSED),
        ("SELECT 1 WHERE (1, 'a') IN {}", READ),
        ("/* {} */ COMMIT", Kind.COMMIT),
    ],
)
def test_long_texts(sql: str, expected: Kind, family: Family) -> None:
    """A text of many values is read like a short one."""
    long = sql.format(", ".join(["(1, 'a')"] * 5000))
    assert len(long) > 10_000
    assert kind(long, family) is expected
    assert kind(sql.format("(1, 'a')"), family) is expected


PIECES = [
    *("'", '"', "`", "[", "]", "\\", "\\'", "''", "$", "$$", "$a$", "$b$", "e'", "E'\\", "(", ")"),
    *(
        "/*",
        "*/",
        "/*!",
        "/*M!50000",
        "/* /*",
        "--",
        "-- ",
        "#",
        "\n",
        " ",
        "\0",
        ";",
        ",",
        ".",
        "é",
    ),
    *("a", "1", "SELECT ", "WITH", "INSERT", "COMMIT", "ABORT ", "TO ", "SAVEPOINT ", "RELEASE "),
    *(
        "SET ",
        "STATEMENT ",
        "CREATE TRIGGER ",
        "CHAIN ",
        "LOCAL ",
        "set_config",
        "set_config('a',",
        "ISOLATION ",
        "LEVEL ",
        "FOR ",
        "UPDATE ",
    ),
    *(
        "PRAGMA ",
        "EXPLAIN ",
        "START ",
        "BEGIN ",
        "ROLLBACK ",
        "PREPARED ",
        "ON ",
        "DROP ",
        "İ",
        "ſ",
    ),
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None)
@given(sql=TEXTS)
@example(sql="ABORT TO a")
@example(sql="*/ SAVEPOINT a")
def test_never_raises(family: Family, sql: str) -> None:
    """Every text is read as something, and the same within a text too long to remember."""
    statement = read_statement(sql, family)
    assert isinstance(statement.kind, Kind)
    assert bool(statement.refusal) or statement.kind is not REFUSED
    assert read_statement(" " * 10_001 + sql, family) == statement


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None)
@given(
    words=st.lists(st.sampled_from(["SELECT", "DELETE", "COMMIT", ";", "a", "INTO", "BEGIN"])),
    sql=st.sampled_from(["SELECT 1", "SELECT 2 FROM t FOR UPDATE", "DELETE FROM t", "COMMIT"]),
)
def test_hidden_words(family: Family, words: list[str], sql: str) -> None:
    """What stands in a comment or a string changes nothing."""
    hidden = " ".join(words)
    expected = read_statement(sql, family)
    assert read_statement(f"/* {hidden} */ {sql} -- {hidden}", family) == expected
    if expected.kind is not Kind.COMMIT:
        assert read_statement(f"{sql} AND a = '{hidden}'", family) == expected


STARTS = ["", "SELECT set_config('a', ", "SET STATEMENT a ", "COMMIT ", "CREATE TRIGGER t "]
# Of several words: each is one that a reader of some statement goes on with.
PHRASES = [
    *("/* ", "a.", "a . ", "set_config;", "$ $", "FOR  ", "set_config(", "a(", "a (b)", "$x"),
    *("a(b) AS ", "SET STATEMENT a FOR ", "/*!*/", "/*!'", "BEGIN ATOMIC;", "COMMIT NO ", ", "),
    *("RELEASE  ", "AND  ", "autocommit ", "CREATE TRIGGER BEGIN;", "END;", "e'\\' "),
]


def paired() -> Iterator[tuple[str, str, Family]]:
    """Each piece in each family, and each phrase after each start: all pairs, not all threes."""
    for number, piece in enumerate(PIECES + PHRASES):
        for turn, family in enumerate(FAMILIES):
            yield piece, STARTS[(number + turn) % len(STARTS)], family
    for number, phrase in enumerate(PHRASES):
        for turn, start in enumerate(STARTS):
            yield phrase, start, FAMILIES[(number + turn) % len(FAMILIES)]


def check_linear(piece: str, start: str, family: Family) -> None:
    for end in ("", "'"):

        def reading(size: int, end: str = end) -> Callable[[], Statement]:
            # So long that it is not remembered.
            text = " " * 10_001 + start + piece * (size // len(piece)) + end
            return lambda: read_statement(text, family)

        assert is_linear(reading, size=1024), (piece, start, family)


@pytest.mark.slow
@pytest.mark.parametrize(("piece", "start", "family"), dict.fromkeys(paired()))
def test_hostile_texts(piece: str, start: str, family: Family) -> None:
    """Whatever a text is made of, reading it takes linear time."""
    check_linear(piece, start, family)


@pytest.mark.prove
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start", STARTS)
def test_all_hostile_texts(start: str, family: Family) -> None:
    """Each piece and phrase after each start, in each family."""
    for piece in PIECES + PHRASES:
        check_linear(piece, start, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_many_tags(family: Family) -> None:
    """Dollar quotes of many different tags are not searched for as many ends."""
    text = "SELECT " + " ".join(f"$t{number}$" for number in range(15_000))
    assert kind(text, family) is READ


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  select 1;  ",
        "/* a */ INSERT INTO item VALUES (1)",
        "UPDATE item SET n = 1",
        "DELETE FROM item",
        "WITH x AS (DELETE FROM item RETURNING *) SELECT * FROM x",
        "VALUES (1)",
        "MERGE INTO item USING x ON true WHEN MATCHED THEN DELETE",
        "INSERT INTO item VALUES " + ", ".join(["(1)"] * 5_000),
    ],
)
def test_plain_statements(sql: str) -> None:
    """PostgreSQL takes them by the extended query protocol; nobody asks elsewhere."""
    assert is_plain(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "SELECT 1; SELECT 2",
        r"SELECT 'a\'; SELECT 2; --'",
        "SELECT ';'",
        "COPY item TO STDOUT",
        "SAVEPOINT a",
        "BEGIN",
        "CALL p()",
        "DO $$BEGIN NULL; END$$",
        "PREPARE p AS SELECT 1",
        "LISTEN x",
        "SET x = 1",
        "CREATE TABLE x (y INTEGER)",
    ],
)
def test_statements_that_are_not_plain(sql: str) -> None:
    """Several in one text are refused there, and COPY breaks the pipeline."""
    assert not is_plain(sql)


@pytest.mark.parametrize(
    ("sql", "family", "expected"),
    [
        ("SELECT 1", Family.SQLITE, True),
        ("INSERT INTO item VALUES (1)", Family.MYSQL, True),
        ("CREATE TABLE x (y INTEGER)", Family.SQLITE, True),
        ("PRAGMA foreign_keys = 1", Family.SQLITE, False),
        ("CALL p()", Family.MYSQL, False),
        ("SELECT 1 FOR UPDATE SKIP LOCKED", Family.POSTGRESQL, False),
        ("SELECT set_config('a.b', 'c', true)", Family.POSTGRESQL, False),
        ("SET a.b = 1", Family.POSTGRESQL, False),
        ("COMMIT", Family.SQLITE, False),
        ("VACUUM", Family.SQLITE, False),
    ],
)
def test_ordinary_statements(sql: str, family: Family, expected: bool) -> None:
    """Only what needs no more than savepoints."""
    assert read_statement(sql, family).is_ordinary is expected
