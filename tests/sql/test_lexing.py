"""Comments and quotes: what stands in them is nobody's command."""

from __future__ import annotations

import pytest

from atomicbatch.sql.statements import Family, Kind, read_statement

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("/* INSERT; */ SELECT 1", READ),
        ("-- DELETE; COMMIT\nSELECT 1", READ),
        ("SELECT 1 -- ; COMMIT", READ),
        ("SELECT 1 /* it's */ + 1 /* isn't; DELETE */", READ),
        ("SELECT /* * / ** */ 1", READ),
        ("SELECT /***/ 1 /**/", READ),
        ("/* SELECT */ DELETE FROM t", WRITE),
        ("-- SELECT\nDELETE FROM t", WRITE),
        ("SELECT 'DELETE; COMMIT'", READ),
        ("SELECT 'it''s; DELETE'", READ),
        ("SELECT '/*', work(), '*/'", WRITE),
        ("SELECT '--', * INTO a FROM t", WRITE),
        ('SELECT "DELETE;" FROM t', READ),
        ('SELECT "a""; DELETE" FROM t', READ),
        ("SELECT 'a' -- 'b\n, 'c; INSERT'", READ),
        ("INSERT INTO t VALUES ('; COMMIT')", WRITE),
        ("UPDATE t SET a = '; ROLLBACK -- '", WRITE),
        ("SELECT 'never closed; DELETE", WRITE),
        ("SELECT 1 /* never closed INSERT", WRITE),
    ],
)
def test_comments_and_strings(sql: str, expected: Kind, family: Family) -> None:
    """Words in comments and strings are nobody's commands, except where they are never closed."""
    assert kind(sql, family) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT $$; DELETE FROM t; COMMIT$$", READ),
        ("SELECT $a$ $$ ; DELETE $b$ $a$", READ),
        ("SELECT $é_1$; DELETE $é_1$", READ),
        ("SELECT $1, $2; DELETE FROM t", WRITE),
        ("SELECT a$b$ FROM t; DELETE FROM u WHERE a$b$ = 1", WRITE),
        ("DO $$ BEGIN DELETE FROM t; COMMIT; END $$", WRITE),
        (r"SELECT E'it\'s; DELETE'", READ),
        (r"SELECT e'\\'; DELETE FROM t", WRITE),
        (r"SELECT '\'; DELETE FROM t WHERE a = '\'", WRITE),
        ("/* /* inner */ DELETE */ SELECT 1", READ),
        ("/* /* /* */ */ SELECT */ DROP TABLE t", WRITE),
        ("/* /* inner */ SELECT 1; */ COMMIT", Kind.COMMIT),
        ("SELECT 1 # 2", READ),
        ("SELECT a ? 'b' FROM t", READ),
        ("SELECT a[1] FROM t", READ),
        ("SELECT E'never closed \\'; DELETE FROM t", WRITE),
        ("SELECT $a$ never closed; DELETE FROM t", WRITE),
    ],
)
def test_postgresql_quotes(sql: str, expected: Kind) -> None:
    """Dollar quotes, escape strings and nested comments are PostgreSQL's."""
    assert kind(sql, POSTGRESQL) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT `DELETE; INTO` FROM t", READ),
        ("SELECT `work`()", WRITE),
        ("SELECT `a` FROM `t` WHERE b IN (`c`)", READ),
        (r"SELECT 'it\'s; DELETE'", READ),
        (r'SELECT "say \"; DELETE"', READ),
        (r"SELECT '\\'; DELETE FROM t", WRITE),
        ("SELECT 1 # ; COMMIT", READ),
        ("# SELECT\nDELETE FROM t", WRITE),
        ("SELECT 5--1", READ),
        ("SELECT 5--work()", WRITE),
        ("SELECT 5-- work()", READ),
        ("SELECT 5--", READ),
        ("SELECT '/*!' , `/*!` -- /*! COMMIT */", READ),
        ("SELECT '/*! DELETE */'", READ),
        ("SELECT /* plain ! DELETE */ 1", READ),
        ("SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1", READ),
    ],
)
def test_mysql_quotes(sql: str, expected: Kind) -> None:
    """Backticks, backslashes and "#" are MySQL's."""
    assert kind(sql, MYSQL) is expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 /*! INTO @a */",
        "SELECT 1 /*!50000 , work() */",
        "SELECT 1 /*M!100100 , work() */",
        "SELECT /*!40001 SQL_NO_CACHE */ * FROM t",
        "/*!40000 ALTER TABLE t DISABLE KEYS */",
        "/*!40000 DROP TABLE t */; SELECT 1",
        "/*M! COMMIT */",
        "/*!999999 COMMIT */",
        "SELECT 1 /*!999999 ; COMMIT */",
        "COMMIT /*!999999 AND CHAIN */",
        "/*! SELECT 1; */ COMMIT",
        "CREATE /*!999999 TEMPORARY */ TABLE t (a int)",
        "CREATE TEMPORARY TABLE t (/*!50000 a */ int)",
        "SELECT work /*!999999 , lower */ (1)",
        "SELECT 1 /*!999999 don't */ , work() /* isn't */",
        "SELECT 1 /*!999999 ' */; COMMIT /* ' */",
        "/*!40101 SET NAMES utf8 */",
        "/*!40101 SET autocommit = 1 */",
        "SET autocommit /*! = 1 */",
        "INSERT /*! IGNORE */ INTO t VALUES ('/*! COMMIT */')",
        "SELECT 1 /*! INTO @a",
        "INSERT INTO t VALUES (1); /*M! SELECT 1 */",
    ],
)
def test_executable_comments(sql: str) -> None:
    """What the server's version decides whether it runs is refused, whatever it says."""
    statement = read_statement(sql, MYSQL)
    assert statement.kind is REFUSED
    assert "executable comment" in statement.refusal


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT [DELETE; INTO] FROM t", READ),
        ("SELECT `DELETE;` FROM t", READ),
        (r"SELECT '\'; DELETE FROM t", WRITE),
        ("SELECT [never closed; DELETE", WRITE),
    ],
)
def test_sqlite_quotes(sql: str, expected: Kind) -> None:
    """Brackets and backticks quote names in SQLite."""
    assert kind(sql, SQLITE) is expected
