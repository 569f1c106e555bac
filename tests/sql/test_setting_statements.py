"""What SET, RESET and set_config() set, and what of it is refused (PostgreSQL)."""

from __future__ import annotations

import pytest

from atomicbatch.sql.statements import Family, Kind, Statement, read_statement

SQLITE, POSTGRESQL, MYSQL = Family.SQLITE, Family.POSTGRESQL, Family.MYSQL
FAMILIES = list(Family)
READ, HOLD, WRITE, REFUSED = Kind.READ, Kind.HOLD, Kind.WRITE, Kind.REFUSED


def kind(sql: str, family: Family) -> Kind:
    return read_statement(sql, family).kind


def local(*names: str) -> Statement:
    return Statement(READ, settings=names)


def lasting(*names: str) -> Statement:
    return Statement(READ, settings=names, lasting=True)


def unknown(*names: str) -> Statement:
    return Statement(READ, settings=names, lasting=True, lasting_unknown=True)


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
