"""Queries: what only reads is told from what holds locks, and from what may write."""

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
        ("SELECT * FROM t INTO OUTFILE '/tmp/t'", WRITE, WRITE, REFUSED),
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
