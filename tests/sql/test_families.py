"""What a first word means in each database family, and what is refused there."""

from __future__ import annotations

import pytest

from atomicbatch.sql.statements import Family, Kind, Statement, read_statement

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


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


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ANALYZE SELECT a FROM t", WRITE),
        ("analyze format=json UPDATE t SET a = 1", WRITE),
        ("ANALYZE FORMAT = JSON (SELECT 1)", WRITE),
        ("ANALYZE TABLE t", REFUSED),
        ("ANALYZE NO_WRITE_TO_BINLOG TABLE t", REFUSED),
        ("ANALYZE LOCAL TABLE `select`", REFUSED),
        ("ANALYZE SELECT GET_LOCK('a', 1)", REFUSED),
    ],
)
def test_analyze(sql: str, expected: Kind) -> None:
    """MariaDB's runs a statement and tells how it was done; that of a table commits."""
    assert kind(sql, MYSQL) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET TRANSACTION READ ONLY", Statement(Kind.ISOLATION, read_only=True)),
        ("set transaction read write", Statement(Kind.ISOLATION)),
        ("SET SESSION TRANSACTION READ WRITE", Statement(Kind.ISOLATION)),
        (
            "SET TRANSACTION READ ONLY, ISOLATION LEVEL READ COMMITTED",
            Statement(Kind.ISOLATION, level="READ COMMITTED", read_only=True),
        ),
        ("SET SESSION TRANSACTION READ ONLY", None),
        ("SET LOCAL TRANSACTION READ ONLY", None),
        ("SET @@session.tx_read_only = 1", None),
        ("SET @a = 1, transaction_read_only := ON", None),
        ("SET `tx_read_only`= OFF", Statement(READ)),
        ("SET @@transaction_read_only=0", Statement(READ)),
    ],
)
def test_read_only_on_mysql(sql: str, expected: Statement | None) -> None:
    """None: refused, since it lasts longer than a transaction, and all share the batch's."""
    statement = read_statement(sql, MYSQL)
    assert statement == (expected or Statement(REFUSED, refusal=statement.refusal))
    assert bool(statement.refusal) is (expected is None)


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


def test_discard_all() -> None:
    """PostgreSQL refuses DISCARD ALL itself in a transaction; no other family knows DISCARD."""
    assert kind("DISCARD ALL", POSTGRESQL) is WRITE
    assert kind("DISCARD TEMP", MYSQL) is WRITE


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


@pytest.mark.parametrize(
    ("sql", "postgresql", "mysql"),
    [
        ("COPY t TO '/tmp/rows'", REFUSED, WRITE),
        ("copy (SELECT 1) to E'/tmp/rows' WITH (FORMAT csv)", REFUSED, WRITE),
        ("COPY t TO PROGRAM 'cat'", REFUSED, WRITE),
        ("COPY t FROM PROGRAM 'cat'", REFUSED, WRITE),
        ("SELECT pg_catalog.lo_export(1, '/tmp/rows')", REFUSED, WRITE),
        ("COPY t TO STDOUT", WRITE, WRITE),
        ("COPY t FROM '/tmp/rows'", WRITE, WRITE),
        ("SELECT 1 INTO OUTFILE '/tmp/rows'", WRITE, REFUSED),
        ("SELECT a FROM t INTO DUMPFILE '/tmp/rows'", WRITE, REFUSED),
    ],
)
def test_files_and_programs_of_the_server(sql: str, postgresql: Kind, mysql: Kind) -> None:
    """What the server writes outside of its tables is not rolled back; to read is harmless."""
    assert kind(sql, POSTGRESQL) is postgresql
    assert kind(sql, MYSQL) is mysql
