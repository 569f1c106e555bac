"""What a statement means for the transaction: read from its text, erring towards a write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomicbatch.sql.statements import CONTROL, Family, Kind, Statement, read_statement
from tests.growth import is_linear

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


# Reading and writing -----------------------------------------------------------------------------


def local(*names: str) -> Statement:
    return Statement(READ, settings=names)


def lasting(*names: str) -> Statement:
    return Statement(READ, settings=names, lasting=True)


def unknown(*names: str) -> Statement:
    return Statement(READ, settings=names, lasting=True, lasting_unknown=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", READ),
        (" ;; ; ", READ),
        ("-- nothing", READ),
        ("/* nothing */", READ),
        ("SELECT 1", READ),
        ("select 1;", READ),
        ("  \n\tSELECT * FROM t WHERE a IN (1, 2) AND NOT (b OR c)", READ),
        ("(SELECT 1) UNION (SELECT 2)", READ),
        ("VALUES (1), (2)", READ),
        ("SELECT count(*), max(n), coalesce(sum(n), 0) FROM t GROUP BY a HAVING (1 = 1)", READ),
        ("SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t", READ),
        ("WITH x AS (SELECT 1) SELECT * FROM x", READ),
        ("WITH RECURSIVE x (n) AS (VALUES (1)) SELECT n FROM x", READ),
        ("WITH x (a, b) AS (SELECT 1, 2), y(c) AS (SELECT 3) TABLE y", READ),
        ("WITH x (a) AS (SELECT work()) SELECT a FROM x", WRITE),
        ("SELECT a FROM work(1) AS (a int)", WRITE),
        ("SELECT a FROM work(1) AS (values int)", WRITE),
        ("EXPLAIN SELECT 1", READ),
        ("INSERT INTO t VALUES (1)", WRITE),
        ("insert into t select * from u", WRITE),
        ("UPDATE t SET a = 1", WRITE),
        ("DELETE FROM t", WRITE),
        ("REPLACE INTO t VALUES (1)", WRITE),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", WRITE),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", WRITE),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", WRITE),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", WRITE),
        ("EXPLAIN ANALYZE DELETE FROM t", WRITE),
        ("EXPLAIN (ANALYZE, BUFFERS) INSERT INTO t VALUES (1)", WRITE),
        ("CALL work()", WRITE),
        ("DO work()", WRITE),
        ("WHATEVER it may be", WRITE),
        ("42", WRITE),
        ("é", WRITE),
    ],
)
def test_all_families(sql: str, expected: Kind, family: Family) -> None:
    """What only reads is told from what may write, everywhere alike."""
    assert kind(sql, family) is expected


@pytest.mark.parametrize(
    ("sql", "sqlite", "postgresql", "mysql"),
    [
        ("SELECT unknown_function()", WRITE, WRITE, WRITE),
        ("SELECT app.unknown_function (1)", WRITE, WRITE, WRITE),
        ('SELECT "count"(1)', WRITE, WRITE, WRITE),
        ("SELECT app . lower('A')", WRITE, WRITE, WRITE),
        ("SELECT lower_and_log('A')", WRITE, WRITE, WRITE),
        ("SELECT zähle()", WRITE, WRITE, WRITE),
        ("SELECT löscheé()", WRITE, WRITE, WRITE),
        ("SELECT pay$now()", WRITE, WRITE, WRITE),
        ("SELECT n FROM generate_series(1, 2) AS s (n)", WRITE, WRITE, WRITE),
        ("SELECT jsonb_agg(a), json_object('a', 1), array_agg(b) FROM t", WRITE, READ, WRITE),
        ("WITH x(a) AS NOT MATERIALIZED (SELECT 1) SELECT a FROM x", READ, READ, WRITE),
        ("SELECT week(a), if(b, 1, 2) FROM t USE INDEX (i)", WRITE, WRITE, READ),
        ("SELECT year('2000-01-01')", WRITE, WRITE, READ),
        ("SELECT now(), greatest(1, 2)", WRITE, READ, READ),
        ("SELECT strftime('%Y', a), iif(b, 1, 2), total(c) FROM t", READ, WRITE, WRITE),
        (
            "SELECT snippet(t, 0, '', '', '', 9), bm25(t) FROM t WHERE t MATCH ('a')",
            READ,
            WRITE,
            WRITE,
        ),
        ("SELECT name FROM pragma_table_info('t')", READ, WRITE, WRITE),
        ("SELECT value FROM json_each('[1]'), json_tree('[1]')", READ, WRITE, WRITE),
        ("SELECT load_extension('a')", WRITE, WRITE, WRITE),
        ("SELECT a FROM t FOR UPDATE", HOLD, HOLD, HOLD),
        ("SELECT a FROM t FOR NO KEY UPDATE OF t SKIP LOCKED", HOLD, HOLD, HOLD),
        ("SELECT a FROM t FOR KEY SHARE NOWAIT", HOLD, HOLD, HOLD),
        ("SELECT a FROM t FOR SHARE", HOLD, HOLD, HOLD),
        ("SELECT a FROM t LOCK IN SHARE MODE", HOLD, HOLD, HOLD),
        ("SELECT work() FROM t FOR UPDATE", WRITE, WRITE, WRITE),
        ("SELECT pg_advisory_xact_lock(1)", WRITE, WRITE, WRITE),
        ("SELECT * INTO copy FROM t", WRITE, WRITE, WRITE),
        ("SELECT a INTO @a FROM t", WRITE, WRITE, WRITE),
        ("SELECT * FROM t INTO OUTFILE '/tmp/t'", WRITE, WRITE, WRITE),
        ("TABLE t", READ, READ, READ),
        ("SHOW TABLES", READ, READ, READ),
        ("DESCRIBE t", READ, READ, READ),
        ("DESC ANALYZE SELECT work()", WRITE, WRITE, WRITE),
        ("USE other", WRITE, WRITE, REFUSED),
        ("EXPLAIN ANALYZE SELECT work()", WRITE, WRITE, WRITE),
        ("EXPLAIN ANALYSE CREATE TABLE copy AS SELECT 1", WRITE, WRITE, WRITE),
        ("COPY t FROM STDIN", WRITE, WRITE, WRITE),
        ("NOTIFY channel", WRITE, WRITE, WRITE),
        ("PREPARE p AS DELETE FROM t", WRITE, WRITE, REFUSED),
        ("EXECUTE IMMEDIATE 'COMMIT'", WRITE, WRITE, REFUSED),
        ("SELECT host_register('x')", WRITE, WRITE, WRITE),
        ("SELECT api.convert('x')", WRITE, WRITE, WRITE),
        ('SELECT "api" . convert(1)', WRITE, WRITE, WRITE),
        ("SELECT inet_add('x'), json_import(1)", WRITE, WRITE, WRITE),
        ("SELECT pg_catalog.lower('x')", WRITE, READ, WRITE),
        ("PRAGMA table_info('t')", READ, WRITE, WRITE),
        ("PRAGMA main.user_version", READ, WRITE, WRITE),
        ("PRAGMA main.user_version = 5", WRITE, WRITE, WRITE),
        ("PRAGMA application_id(5)", WRITE, WRITE, WRITE),
    ],
)
def test_reading_and_writing(sql: str, sqlite: Kind, postgresql: Kind, mysql: Kind) -> None:
    """What some family may do by a statement is not assumed of the others."""
    assert {family: kind(sql, family) for family in FAMILIES} == {
        SQLITE: sqlite,
        POSTGRESQL: postgresql,
        MYSQL: mysql,
    }


def test_functions_of_sqlite() -> None:
    """SQLite's own functions only read, those excepted that run code or change an index."""
    with closing(sqlite3.connect(":memory:")) as connection:
        found = connection.execute("SELECT name, narg FROM pragma_function_list").fetchall()
    names = {name.upper() for name, _ in found if name.isidentifier()}
    assert {name for name in names if kind(f"SELECT {name}(1)", SQLITE) is not READ} <= {
        *("EDIT", "FTS3_TOKENIZER", "FTS5", "LOAD_EXTENSION", "OPTIMIZE", "READFILE", "SQLITE_LOG"),
        *("WRITEFILE",),
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO t VALUES (1)", True),
        ("/* a */ -- b\n update t SET a = 1", True),
        ("DELETE FROM t", True),
        ("REPLACE INTO t VALUES (1)", True),
        ("INSERT INTO t VALUES (1); SELECT 1", True),
        ("SELECT 1; INSERT INTO t VALUES (1)", False),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", False),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", False),
        ("EXPLAIN ANALYZE DELETE FROM t", False),
        ("SELECT work()", False),
        ("WHATEVER it may be", False),
    ],
)
def test_first_word(sql: str, expected: bool, family: Family) -> None:
    """Writes are marked before which Python's sqlite3 begins a transaction."""
    statement = read_statement(sql, family)
    assert statement == Statement(WRITE, is_dml=expected)


def test_lock() -> None:
    """LOCK TABLE holds a lock on PostgreSQL, and commits on MySQL."""
    assert kind("LOCK TABLE t IN EXCLUSIVE MODE", POSTGRESQL) is HOLD
    assert kind("LOCK TABLES t WRITE", MYSQL) is REFUSED


def test_foreign_keys() -> None:
    """PRAGMA foreign_keys is marked, for SQLite ignores it inside a transaction."""
    assert read_statement("PRAGMA foreign_keys = ON", SQLITE) == Statement(
        READ, sets_foreign_keys=True
    )
    assert read_statement("PRAGMA foreign_keys(1)", SQLITE) == Statement(
        READ, sets_foreign_keys=True
    )
    assert read_statement("PRAGMA defer_foreign_keys = ON", SQLITE) == Statement(HOLD)
    assert read_statement("PRAGMA cache_size = 5", SQLITE) == Statement(READ)


# Comments and quotes -----------------------------------------------------------------------------


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


# Control of the transaction ----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN", Statement(Kind.BEGIN)),
        ("begin;", Statement(Kind.BEGIN)),
        ("BEGIN WORK", Statement(Kind.BEGIN)),
        ("BEGIN IMMEDIATE", Statement(Kind.BEGIN)),
        ("BEGIN TRANSACTION", Statement(Kind.BEGIN)),
        ("/* a */ BEGIN -- b", Statement(Kind.BEGIN)),
        ("START TRANSACTION", Statement(Kind.BEGIN)),
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT", Statement(Kind.BEGIN)),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Statement(Kind.BEGIN, level="SERIALIZABLE")),
        (
            "start transaction isolation  level repeatable\nread, read only",
            Statement(Kind.BEGIN, level="REPEATABLE READ", read_only=True),
        ),
        (
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            Statement(Kind.ISOLATION, level="READ COMMITTED"),
        ),
        (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            Statement(Kind.ISOLATION, level="READ UNCOMMITTED"),
        ),
        ("COMMIT", Statement(Kind.COMMIT)),
        ("commit work;", Statement(Kind.COMMIT)),
        ("COMMIT AND NO CHAIN", Statement(Kind.COMMIT)),
        ("COMMIT AND CHAIN", Statement(Kind.COMMIT, chains=True)),
        ("commit work and\nchain;", Statement(Kind.COMMIT, chains=True)),
        ("END AND CHAIN", Statement(Kind.COMMIT, chains=True)),
        ("ROLLBACK AND NO CHAIN", Statement(Kind.ROLLBACK)),
        ("ROLLBACK AND /* NO */ CHAIN", Statement(Kind.ROLLBACK, chains=True)),
        ("ABORT TRANSACTION AND CHAIN", Statement(Kind.ROLLBACK, chains=True)),
        ("END", Statement(Kind.COMMIT)),
        ("END TRANSACTION", Statement(Kind.COMMIT)),
        ("ROLLBACK", Statement(Kind.ROLLBACK)),
        ("ROLLBACK WORK", Statement(Kind.ROLLBACK)),
        ("ABORT", Statement(Kind.ROLLBACK)),
        ("SAVEPOINT a", Statement(Kind.SAVEPOINT, savepoint="a")),
        ("savepoint Sa_Savepoint_1;", Statement(Kind.SAVEPOINT, savepoint="sa_savepoint_1")),
        ('SAVEPOINT "My Point"', Statement(Kind.SAVEPOINT, savepoint="my point")),
        ('SAVEPOINT"a"', Statement(Kind.SAVEPOINT, savepoint="a")),
        ("RELEASE a", Statement(Kind.RELEASE, savepoint="a")),
        ("RELEASE SAVEPOINT a", Statement(Kind.RELEASE, savepoint="a")),
        ("release savepoint 'a'", Statement(Kind.RELEASE, savepoint="a")),
        ("ROLLBACK TO a", Statement(Kind.ROLLBACK_TO, savepoint="a")),
        ("ROLLBACK TO SAVEPOINT a", Statement(Kind.ROLLBACK_TO, savepoint="a")),
        ('rollback transaction to savepoint "a b"', Statement(Kind.ROLLBACK_TO, savepoint="a b")),
        ("ABORT TO a", Statement(Kind.ROLLBACK_TO, savepoint="a")),
        ("/* to nowhere */ SAVEPOINT a", Statement(Kind.SAVEPOINT, savepoint="a")),
        (
            "-- savepoint x\nROLLBACK TO /* savepoint y */ a",
            Statement(Kind.ROLLBACK_TO, savepoint="a"),
        ),
        ("SAVEPOINT savepointed", Statement(Kind.SAVEPOINT, savepoint="savepointed")),
        ("SAVEPOINT to_come", Statement(Kind.SAVEPOINT, savepoint="to_come")),
        ("SAVEPOINT release_1", Statement(Kind.SAVEPOINT, savepoint="release_1")),
        ("SAVEPOINT", Statement(Kind.SAVEPOINT)),
        (") SAVEPOINT a", Statement(Kind.SAVEPOINT, savepoint="a")),
    ],
)
def test_control(sql: str, expected: Statement, family: Family) -> None:
    """Control of the transaction is read with the savepoint's name or the isolation level."""
    assert read_statement(sql, family) == expected
    assert (expected.kind in CONTROL) is (expected.kind is not Kind.ISOLATION)


def test_savepoint_quotes() -> None:
    """A savepoint's name is the same with each family's quotes."""
    assert read_statement("ROLLBACK TO `a b`", MYSQL) == Statement(
        Kind.ROLLBACK_TO, savepoint="a b"
    )
    assert read_statement("SAVEPOINT [a b]", SQLITE) == Statement(Kind.SAVEPOINT, savepoint="a b")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "sql",
    [
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "XA START 'x'",
        "XA COMMIT 'x'",
    ],
)
def test_two_phase(sql: str, family: Family) -> None:
    """Two-phase commit is refused, since its second phase would outlive the batch."""
    statement = read_statement(sql, family)
    assert statement.kind is REFUSED
    assert "two-phase" in statement.refusal


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("COMMIT RELEASE", REFUSED),
        ("ROLLBACK WORK RELEASE", REFUSED),
        ("COMMIT AND NO CHAIN  RELEASE", REFUSED),
        ("COMMIT NO  RELEASE", Kind.COMMIT),
        ("ROLLBACK AND CHAIN NO RELEASE", Kind.ROLLBACK),
        ("ROLLBACK TO released", Kind.ROLLBACK_TO),
    ],
)
def test_end_that_closes(sql: str, expected: Kind) -> None:
    """MySQL's RELEASE closes the connection, which all calls share."""
    assert kind(sql, MYSQL) is expected


@pytest.mark.parametrize("family", FAMILIES)
def test_procedural_begin(family: Family) -> None:
    """MariaDB's BEGIN NOT ATOMIC begins a block of statements, not a transaction."""
    assert kind("BEGIN NOT ATOMIC DELETE FROM t", family) is WRITE
    assert kind("BEGIN NOT ATOMIC DELETE FROM t; END", family) is REFUSED


# What cannot run inside a transaction ------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (a int)",
        "CREATE INDEX i ON t (a)",
        "ALTER TABLE t ADD b int",
        "DROP TABLE t",
        "TRUNCATE TABLE t",
        "GRANT SELECT ON t TO somebody",
        "ANALYZE TABLE t",
    ],
)
def test_schema_changes(sql: str) -> None:
    """MySQL commits with a change of the schema, so that it is refused; elsewhere it is a write."""
    statement = read_statement(sql, MYSQL)
    assert statement.kind is REFUSED
    assert "commit at once" in statement.refusal
    assert kind(sql, POSTGRESQL) is WRITE
    assert kind(sql, SQLITE) is WRITE


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TEMPORARY TABLE t (a int)", WRITE),
        ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", WRITE),
        ("DROP TEMPORARY TABLE t", WRITE),
        ("DROP TEMPORARY TABLES IF EXISTS t, u", WRITE),
        ("CREATE TABLE temporary_things (a int)", REFUSED),
        ("CREATE TABLE t (temporary int)", REFUSED),
        ("CREATE TABLE temporary (a int)", REFUSED),
        ("CREATE INDEX temporary ON t (a)", REFUSED),
        ("CREATE VIEW temporary AS SELECT 1", REFUSED),
        ("CREATE TEMPORARY SEQUENCE s", REFUSED),
        ("CREATE OR REPLACE TEMPORARY SEQUENCE s", REFUSED),
        ("DROP TABLE IF EXISTS temporary", REFUSED),
        ("RESET QUERY CACHE", REFUSED),
        ("LOAD DATA INFILE 'f' INTO TABLE t", WRITE),
        ("LOAD INDEX INTO CACHE t", REFUSED),
        ("RENAME TABLE t TO u", REFUSED),
        ("FLUSH TABLES", REFUSED),
        ("UNLOCK TABLES", REFUSED),
        ("START SLAVE", REFUSED),
        ("STOP REPLICA", REFUSED),
        ("SET PASSWORD = 'x'", REFUSED),
        ("SET @a = 1, PASSWORD FOR somebody = 'x'", REFUSED),
        ("SET @password = 'x'", READ),
        ("SET DEFAULT ROLE NONE", REFUSED),
        ("set default  role r FOR somebody", REFUSED),
        ("SET @a = 1, DEFAULT ROLE NONE", REFUSED),
        ("SET ROLE NONE", READ),
        ("CALL work()", WRITE),
        ("KILL 1", WRITE),
    ],
)
def test_implicit_commits(sql: str, expected: Kind) -> None:
    """On MySQL all that commits implicitly is refused, and temporary tables are not among it."""
    assert kind(sql, MYSQL) is expected


@pytest.mark.parametrize(
    ("sql", "sqlite", "postgresql"),
    [
        ("VACUUM", REFUSED, REFUSED),
        ("VACUUM FULL t", REFUSED, REFUSED),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", WRITE, REFUSED),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)", WRITE, REFUSED),
        ("DROP INDEX CONCURRENTLY i", WRITE, REFUSED),
        ("REINDEX TABLE CONCURRENTLY t", WRITE, REFUSED),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", WRITE, WRITE),
        ("CREATE DATABASE d", WRITE, REFUSED),
        ("DROP TABLESPACE s", WRITE, REFUSED),
        ("ALTER SYSTEM SET work_mem = '1MB'", WRITE, REFUSED),
        ("CREATE TEMPORARY TABLE t (a int)", WRITE, WRITE),
        ("CREATE TEMPORARY TABLE t (a int) ON COMMIT DROP", REFUSED, REFUSED),
        ("CREATE TEMPORARY TABLE t (a int) ON COMMIT PRESERVE ROWS", WRITE, WRITE),
    ],
)
def test_outside_transactions(sql: str, sqlite: Kind, postgresql: Kind) -> None:
    """What a database refuses inside a transaction is refused before it breaks the batch's."""
    assert kind(sql, SQLITE) is sqlite
    assert kind(sql, POSTGRESQL) is postgresql


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET LOCAL app.tenant = 'a'", local("app.tenant")),
        ("set local statement_timeout to 5", local("statement_timeout")),
        ('SET LOCAL "app"."tenant" = 1', local("app.tenant")),
        ("SET LOCAL TIME ZONE 'UTC'", local("timezone")),
        ("SET LOCAL ROLE somebody", local("role")),
        ("SET LOCAL SCHEMA 'a'", local("search_path")),
        ("SET LOCAL SESSION AUTHORIZATION a", local("session_authorization")),
        ("/* SET LOCAL a */ SET LOCAL b = 1", local("b")),
        ("SET search_path = a", lasting("search_path")),
        ("SET SESSION statement_timeout = 5", lasting("statement_timeout")),
        ("SET SESSION AUTHORIZATION a", lasting("session_authorization")),
        ("RESET search_path", lasting("search_path")),
        ("SET CONSTRAINTS ALL DEFERRED", Statement(HOLD)),
        ("SET TRANSACTION READ ONLY", Statement(Kind.ISOLATION, read_only=True)),
        ("SET TRANSACTION DEFERRABLE", Statement(Kind.ISOLATION)),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            Statement(Kind.ISOLATION, level="SERIALIZABLE"),
        ),
        ("SELECT set_config('app.tenant', 'a', true)", local("app.tenant")),
        ("SELECT set_config('App.Tenant', %(a)s, TRUE)", local("app.tenant")),
        ("SELECT pg_catalog.set_config ( 'a.b' , concat('x', $1) , 't' )", local("a.b")),
        ("SELECT /* , */ set_config('a.b', ',', true) -- c", local("a.b")),
        (
            "SELECT set_config('a.b', 'c', true), work()",
            Statement(WRITE, settings=("a.b",)),
        ),
        ("SELECT set_config('a', 'b', true), set_config('c', 'd', true)", local("a", "c")),
        ("SELECT set_config('a.b', 'c', false)", lasting("a.b")),
        ("SELECT set_config('a.b', 'c',  FALSE )", lasting("a.b")),
        ("SELECT set_config('a', 'b', 'on')", local("a")),
        ("SELECT set_config('a', 'b', 'off'::bool)", lasting("a")),
        ("SELECT set_config('a', concat('b', lower('c, true)')), FALSE)", lasting("a")),
        ("SELECT set_config('a', 'b', false), coalesce(c, true) FROM t", lasting("a")),
        ("SELECT set_config('a', $1, true) FROM (SELECT ARRAY[1, 2]) AS t", local("a")),
        ("SELECT set_config('a', set_config('b', $1, true), true)", local("b", "a")),
        ("SELECT set_config('a', $a$, false)$a$, true)", local("a")),
        # Where the last argument is not seen, it does no harm to think that it lasts.
        ("SELECT set_config('a', 'b', %(local)s)", unknown("a")),
        ("SELECT set_config('a', 'b', NOT true)", unknown("a")),
        ("SELECT set_config('a', 'b', true), set_config('c', 'd', $1)", unknown("a", "c")),
        ("SELECT set_config($1, $2, $3)", unknown("?")),
        ("SELECT set_config($1, $2, true)", local("?")),
        ("SELECT set_config FROM t", Statement(READ)),
        ("SELECT my_set_config('a', 'b', true)", Statement(WRITE)),
        ("SELECT set_config(name, value, true) FROM settings", local("?")),
        ("SELECT 'set_config(a, b)'", Statement(READ)),
    ],
)
def test_postgresql_settings(sql: str, expected: Statement) -> None:
    """A setting is named, so that each session can have its own."""
    assert read_statement(sql, POSTGRESQL) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL transaction_read_only = on",
        "RESET transaction_isolation",
        "RESET TRANSACTION ISOLATION LEVEL",
        "SET default_transaction_isolation = 'serializable'",
        "SET LOCAL default_transaction_read_only = on",
        "SET SESSION default_transaction_deferrable TO off",
        'SET "Default_Transaction_Read_Only" = on',
        "RESET default_transaction_isolation",
        "SELECT set_config('default_transaction_read_only', 'on', true)",
        "SELECT set_config('Transaction_Isolation', $1, $2)",
    ],
)
def test_options_of_the_transaction(sql: str) -> None:
    """What all calls share cannot be set by one of them."""
    statement = read_statement(sql, POSTGRESQL)
    assert statement.kind is REFUSED
    assert "which all calls share" in statement.refusal


@pytest.mark.parametrize(
    ("sql", "because"),
    [
        ("RESET ALL", "name the settings"),
        ("SET SEED TO 0.5", "cannot be read back"),
        ("RESET seed", "cannot be read back"),
        ("SELECT set_config('seed', '0.5', true)", "cannot be read back"),
        ("DISCARD TEMP", "DISCARD"),
        ("DISCARD PLANS", "DISCARD"),
        ("discard sequences", "DISCARD"),
        ("SELECT set_config('a', '1', true), set_config('b', '2', false)", "one kind"),
        ("SELECT set_config('a', '1', true), set_config($1, '2', true)", "write all"),
    ],
)
def test_settings_that_are_refused(sql: str, because: str) -> None:
    """What would reach other sessions, and could not be put back, is refused."""
    statement = read_statement(sql, POSTGRESQL)
    assert statement.kind is REFUSED
    assert because in statement.refusal


def test_discard_all() -> None:
    """PostgreSQL refuses DISCARD ALL itself in a transaction; no other family knows DISCARD."""
    assert kind("DISCARD ALL", POSTGRESQL) is WRITE
    assert kind("DISCARD TEMP", MYSQL) is WRITE


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t FOR UPDATE SKIP LOCKED",
        "SELECT * FROM t FOR SHARE NOWAIT",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT pg_advisory_xact_lock_shared(1)",
    ],
)
def test_locks_that_exclude(sql: str) -> None:
    """Locks whose holder matters are marked, for sessions of one batch share theirs."""
    assert read_statement(sql, POSTGRESQL).excludes


@pytest.mark.parametrize(
    ("sql", "postgresql", "mysql"),
    [
        ("SELECT pg_advisory_unlock(1)", REFUSED, WRITE),
        ("select pg_catalog.pg_advisory_unlock_all ()", REFUSED, WRITE),
        ("SELECT pg_advisory_unlock_shared(1, 2) FROM t", REFUSED, WRITE),
        ("WITH x AS (SELECT pg_advisory_unlock(1)) SELECT * FROM x", REFUSED, WRITE),
        ("SELECT RELEASE_LOCK('a')", WRITE, REFUSED),
        ("DO RELEASE_LOCK('a')", WRITE, REFUSED),
        ("SET @a = release_all_locks()", WRITE, REFUSED),
        # Nobody could release them, and who gets the connection next would have them.
        ("SELECT pg_try_advisory_lock_shared(1)", REFUSED, WRITE),
        ("SELECT pg_advisory_lock(1)", REFUSED, WRITE),
        ("SELECT GET_LOCK('a', 1)", WRITE, REFUSED),
        ("SELECT pg_try_advisory_xact_lock(1)", WRITE, WRITE),
        ("SELECT is_free_lock('a'), app.release_lock('a')", WRITE, WRITE),
        ("SELECT 'pg_advisory_unlock(1)', 'release_lock(1)'", READ, READ),
    ],
)
def test_locks_of_the_session(sql: str, postgresql: Kind, mysql: Kind) -> None:
    """Who gets a lock that is released before COMMIT does not see yet what it has protected."""
    if not sql.startswith("SET"):
        assert kind(sql, POSTGRESQL) is postgresql
    assert kind(sql, MYSQL) is mysql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET NAMES utf8mb4", READ),
        ("SET time_zone = '+00:00'", READ),
        ("SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI')", READ),
        ("SET @a = 1", READ),
        ("SET @a = (SELECT max(n) FROM t)", READ),
        ("SET @a = work()", WRITE),
    ],
)
def test_mysql_settings(sql: str, expected: Kind) -> None:
    """Settings of a MySQL session have no part in transactions, but may call what has."""
    assert kind(sql, MYSQL) is expected


@pytest.mark.parametrize(
    "sql",
    [
        "SET STATEMENT max_statement_time = 5 FOR SELECT 1",
        "set statement max_statement_time = 5 for update t set a = 1",
        "SET STATEMENT max_statement_time = (SELECT a FROM t FOR UPDATE) FOR COMMIT",
        "SET STATEMENT max_statement_time = 5 FOR SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET STATEMENT a = 5 FOR SET STATEMENT b = 5 FOR COMMIT",
        "SET STATEMENT max_statement_time = 5",
        "SET /* a */ STATEMENT max_statement_time = 5 FOR BEGIN",
        "SELECT 1; SET STATEMENT max_statement_time = 5 FOR COMMIT",
    ],
)
def test_set_statement(sql: str) -> None:
    """MariaDB's SET STATEMENT hides another statement, whatever that does: it is refused."""
    statement = read_statement(sql, MYSQL)
    assert statement.kind is REFUSED
    assert "run that statement by itself" in statement.refusal


@pytest.mark.parametrize(
    "sql",
    [
        "SET autocommit = 0",
        "set @@session.autocommit=1",
        "SET sql_mode = '', autocommit = ON",
        "SET @@session.`autocommit`=1",
        "SET @@`autocommit` := 1",
        "SET SESSION /* a */ `AutoCommit` /* b */ = 1",
        "SET x=1, `autocommit`=1",
        'SET "autocommit" = 1',
    ],
)
def test_autocommit(sql: str) -> None:
    """SET autocommit is refused, with the way to say it to SQLAlchemy."""
    statement = read_statement(sql, MYSQL)
    assert statement.kind is REFUSED
    assert "isolation_level" in statement.refusal


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
@settings(max_examples=500, deadline=None)
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
@settings(max_examples=200, deadline=None)
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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "start", ["", "SELECT set_config('a', ", "SET STATEMENT a ", "COMMIT ", "CREATE TRIGGER t "]
)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            *PIECES,
            "/* ",
            "a.",
            "a . ",
            "set_config;",
            "$ $",
            "FOR  ",
            "set_config(",
            "a(",
            "a (b)",
        ),
        *("a(b) AS ", "SET STATEMENT a FOR ", "/*!*/", "/*!'", "BEGIN ATOMIC;", "COMMIT NO "),
        *(
            "RELEASE  ",
            "AND  ",
            ", ",
            "autocommit ",
            "CREATE TRIGGER BEGIN;",
            "END;",
            "e'\\' ",
            "$x",
        ),
    ],
)
def test_hostile_texts(piece: str, start: str, family: Family) -> None:
    """Whatever a text is made of, reading it takes linear time."""
    for end in ("", "'"):

        def reading(size: int, end: str = end) -> Callable[[], Statement]:
            # So long that it is not remembered.
            text = " " * 10_001 + start + piece * (size // len(piece)) + end
            return lambda: read_statement(text, family)

        assert is_linear(reading, size=1024)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_many_tags(family: Family) -> None:
    """Dollar quotes of many different tags are not searched for as many ends."""
    text = "SELECT " + " ".join(f"$t{number}$" for number in range(15_000))
    assert kind(text, family) is READ
