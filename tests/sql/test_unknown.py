"""Unknown SQL: what of it is known to store nothing."""

from __future__ import annotations

import pytest

from atomicbatch.sql.unknown import verb_of


@pytest.mark.parametrize(
    ("sql", "verb"),
    [
        ("SELECT a FROM t WHERE b = 'INSERT INTO' FETCH FIRST 1 ROWS ONLY", ""),
        ('(SELECT "UPDATE" FROM t) UNION SELECT [INTO] FROM u', ""),
        ("  -- DELETE\n SELECT 1 /* MERGE */ FROM DUAL FOR UPDATE NOWAIT", ""),
        ("WITH a AS (SELECT 1) SELECT * FROM a", ""),
        ("SAVEPOINT s1", ""),
        ("SAVE TRANSACTION s1", ""),
        ("BEGIN", ""),
        ("BEGIN TRANSACTION;", ""),
        ("ROLLBACK TRANSACTION s1", ""),
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("WITH a AS (SELECT 1) DELETE FROM t", "DELETE"),
        ("WITH a AS (SELECT 1 AS b) UPDATE t SET b = 1", "UPDATE"),
        ("SELECT a INTO t FROM u", "INTO"),
        ("SELECT 1; DROP TABLE t", "a statement"),
        ("BEGIN p(1); END;", "BEGIN"),
        ("COMMIT; DROP TABLE t", "COMMIT"),
        ("DECLARE x NUMBER; BEGIN p(x); END;", "DECLARE"),
        ("EXEC p", "EXEC"),
        ("{call p(1)}", "a statement"),
        ("", "a statement"),
    ],
)
def test_what_is_known_to_read(sql: str, verb: str) -> None:
    """All else counts as a write, whatever a database calls it."""
    assert verb_of(sql) == verb
