"""What SQL counts as a write on a connection of its own."""

from __future__ import annotations

import pytest

from atomicbatch.sql.kinds import Family
from atomicbatch.sql.writing import verb_of

LITE, POSTGRES, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
WRITES = [
    (LITE, "INSERT INTO t VALUES (1)", "INSERT"),
    (LITE, "  -- a comment\n  update t set a = 1", "UPDATE"),
    (LITE, "BEGIN; DELETE FROM t; COMMIT", "DELETE"),
    (LITE, "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "WITH"),
    (LITE, "CREATE TABLE t (a)", "CREATE"),
    (LITE, "ATTACH 'other.db' AS other", "ATTACH"),
    (LITE, "VACUUM INTO 'copy.db'", "VACUUM"),
    (LITE, "PRAGMA user_version = 3", "PRAGMA"),
    (LITE, "WHO KNOWS", "WHO"),
    (POSTGRES, "COPY t FROM STDIN", "COPY"),
    (POSTGRES, "COPY (DELETE FROM t RETURNING a) TO STDOUT", "COPY"),
    (POSTGRES, "COPY t TO PROGRAM 'cat > f'", "COPY"),
    (POSTGRES, "SELECT my_function()", "SELECT"),
    (POSTGRES, "SELECT pg_advisory_lock(1), my_function()", "SELECT"),
    (POSTGRES, "DECLARE c CURSOR FOR SELECT my_function()", "DECLARE"),
    (POSTGRES, "SET x = 1; TRUNCATE t", "TRUNCATE"),
    (POSTGRES, "PREPARE TRANSACTION 'x'", "PREPARE"),
    (POSTGRES, "EXECUTE stored(1)", "EXECUTE"),
    (POSTGRES, "EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "EXPLAIN"),
    (POSTGRES, b"NOTIFY channel", "NOTIFY"),
    (MYSQL, "LOAD DATA LOCAL INFILE 'f' INTO TABLE t", "LOAD"),
    (MYSQL, "REPLACE INTO t VALUES (1)", "REPLACE"),
    (MYSQL, "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT"),
    (MYSQL, "CALL procedure()", "CALL"),
    (MYSQL, "SET STATEMENT max_statement_time=1 FOR INSERT INTO t VALUES (1)", "SET"),
    (MYSQL, "SET GLOBAL max_connections = 5", "SET"),
    (MYSQL, "SET x = 1, @@global.y = 2", "SET"),
    (MYSQL, "SET @x = my_function()", "SET"),
    (MYSQL, "XA COMMIT 'x'", "XA"),
    (MYSQL, "SELECT 1 /*! INTO OUTFILE 'x' */", "an executable comment"),
    (MYSQL, bytearray(b"DROP TABLE t"), "DROP"),
]
PASSES = [
    (LITE, "SELECT count(*) FROM t WHERE name = 'INSERT INTO t; DELETE'"),
    (LITE, "PRAGMA journal_mode=WAL"),
    (LITE, "BEGIN IMMEDIATE"),
    (LITE, "SAVEPOINT x; RELEASE x"),
    (LITE, ""),
    (POSTGRES, "SET search_path = a; SELECT 1"),
    (POSTGRES, "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"),
    (POSTGRES, "SELECT * FROM t FOR UPDATE"),
    (POSTGRES, "DISCARD ALL"),
    (POSTGRES, "LISTEN channel"),
    (POSTGRES, "COPY t (a, b) TO STDOUT"),
    (POSTGRES, "COPY (SELECT count(*) FROM t) TO STDOUT (FORMAT csv)"),
    (POSTGRES, "DECLARE c CURSOR FOR SELECT count(*) FROM t"),
    (POSTGRES, "FETCH FORWARD 10 FROM c"),
    (POSTGRES, "SELECT pg_try_advisory_lock(1)"),
    (MYSQL, "SET autocommit = 0"),
    (MYSQL, "SET NAMES utf8mb4 COLLATE utf8mb4_bin"),
    (MYSQL, "USE other"),
    (MYSQL, "SELECT GET_LOCK('a', 1)"),
    (MYSQL, "SHOW WARNINGS"),
    (MYSQL, "START TRANSACTION READ ONLY"),
    (MYSQL, "KILL QUERY 5"),
    (MYSQL, "SELECT @@global.max_connections"),
    (MYSQL, "SET x = 'global'"),
]


@pytest.mark.parametrize(("family", "sql", "verb"), WRITES, ids=lambda one: str(one)[:40])
def test_what_stays(family: Family, sql: object, verb: str) -> None:
    """What a rollback of the batch would leave, and all that nobody can read, is a write."""
    assert verb_of(sql, family) == verb


@pytest.mark.parametrize(("family", "sql"), PASSES, ids=lambda one: str(one)[:40])
def test_what_passes(family: Family, sql: str) -> None:
    """What only reads, controls its own transaction or is about its session, passes."""
    assert verb_of(sql, family) == ""


def test_what_drivers_send_by_themselves() -> None:
    """No driver's own statements are taken for a handler's writes."""
    from asyncpg import introspection

    assert verb_of(introspection.INTRO_LOOKUP_TYPES, POSTGRES) == ""
    assert verb_of(introspection.TYPE_BY_NAME, POSTGRES) == ""


def test_long_texts() -> None:
    """A text beyond what is kept is read all the same."""
    values = ", ".join(["(1)"] * 5000)
    assert verb_of(f"INSERT INTO t VALUES {values}", LITE) == "INSERT"
    assert verb_of(f"SELECT * FROM (VALUES {values})", LITE) == ""
