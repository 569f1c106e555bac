"""Sessions: what texts mean for them, and what connections show of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from atomicbatch.doors import mysql_sessions as sessions


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("SET autocommit=1", True),
        ("set AutoCommit = 0;", False),
        ("  SET SESSION autocommit := ON ", True),
        ("SET @@autocommit = off", False),
        ("SET @@session.autocommit=TRUE", True),
        ("SET autocommit = @a", None),
        ("SET autocommit = 1, time_zone = 'UTC'", None),
        ("SET GLOBAL autocommit = 1", None),
        ("SELECT 'SET autocommit = 1'", None),
    ],
)
def test_what_switches_autocommit(text: str, on: bool | None) -> None:
    """What is not read here is refused by whoever reads all of SQL."""
    assert sessions.sets_auto(text) is on


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("SET NAMES latin1", True),
        ("set time_zone = '+01:00'", True),
        ("SET SESSION sql_mode = ''", True),
        ("SET @@session.sql_mode = ''", True),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", True),
        ("SET @a = 1", False),
        ("SET TRANSACTION READ ONLY", False),
        ("SET GLOBAL wait_timeout = 1", False),
        ("SET @@global.wait_timeout = 1", False),
        ("SET STATEMENT max_statement_time=1 FOR SELECT 1", False),
        ("SET PASSWORD = 'x'", False),
        ("SELECT 1", False),
    ],
)
def test_what_a_session_keeps(text: str, lasts: bool) -> None:
    """Only what belongs to the session, and not to one transaction, to everybody, or the user."""
    assert sessions.sets_session(text) is lasts


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("LOAD DATA LOCAL INFILE 'a' INTO TABLE t", True),
        (" load /* a */ data low_priority local infile 'a' INTO TABLE t", True),
        ("SELECT 1; LOAD XML LOCAL INFILE 'a' INTO TABLE t", True),
        ("LOAD DATA INFILE 'a' INTO TABLE t", False),
        ("LOAD DATA INFILE 'a' INTO TABLE t; SELECT LOCAL", False),
        ("INSERT INTO t VALUES ('LOAD DATA')", False),
    ],
)
def test_what_sends_a_file(text: str, loads: bool) -> None:
    """A file of the app's, not one of the server's."""
    assert sessions.loads_local(text) is loads


def test_only_what_changes_meanings_tells_connections_apart() -> None:
    """FOUND_ROWS and MULTI_STATEMENTS do; how they have connected does not."""
    assert sessions.are_alike(0x2 | 0x8, 0x2 | 0x800)
    assert not sessions.are_alike(0x2, 0)
    assert not sessions.are_alike(0, 0x10000)


class Connection:
    """One of the app's."""

    server_status: Any = 2
    _result: Any = None


def test_a_connection_shows_its_own_session_again() -> None:
    """Its flags, and what its driver reads by."""
    connection: Any = Connection()
    sessions.show(connection, own=2, seen=0x4003 | 8, in_transaction=False)
    assert connection.server_status == 0x4002
    sessions.show(connection, own=0, seen=0x4001, in_transaction=True)
    assert connection.server_status == 0x4001
    connection.reader = connection._read_query_result = "answered"
    assert sessions.OWN in vars(connection)
    sessions.show_own(connection, "reader")
    assert vars(connection) == {"server_status": 0}


def test_results_of_an_answer_stay_until_they_are_read() -> None:
    """The driver drops the rest itself, before its next command."""
    connection: Any = Connection()
    connection._result = SimpleNamespace(has_next=True)
    sessions.show(connection, own=2, seen=3, in_transaction=True)
    connection.reader = connection._read_query_result = "answered"
    sessions.show_own(connection, "reader")
    assert connection._read_query_result == "answered"
    assert not hasattr(connection, "reader")
