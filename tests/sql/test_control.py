"""BEGIN, COMMIT, ROLLBACK and savepoints, in all their forms."""

from __future__ import annotations

import pytest

from atomicbatch.sql.statements import CONTROL, Family, Kind, Statement, read_statement

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


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
