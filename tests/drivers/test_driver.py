"""What every driver's module does, each on its own database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg.rows
import psycopg2.extras
import pymysql.cursors
import pytest

from atomicbatch import BrokenTransactionError, CommitError, UnknownOutcomeError
from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.answers import answer_of
from atomicbatch.drivers.driver import State
from tests.drivers.lines import LINES, Line, run
from tests.proxies import At, Fault, proxied

Databases = Callable[[str], str]
# These two do not show it.
SECRETIVE = {"asyncpg", "mysqlclient", "mysqlclient, no autocommit"}
SHOWN = [name for name in LINES if name not in SECRETIVE]
# SQL of ours and COMMIT take them one round trip.
ENDING_IN_ONE = ["psycopg", "psycopg, no autocommit", "psycopg async", "asyncpg"]
POSTGRESQL = [name for name, family in LINES.items() if family == "postgresql"]
MYSQL = [name for name, family in LINES.items() if family == "mysql"]


def names(url: str) -> list[str]:
    return sorted(row[0] for row in run(url, "SELECT name FROM item"))


@pytest.mark.parametrize("name", LINES)
def test_commit_stores_and_rollback_undoes(name: str, drivers_databases: Databases) -> None:
    """Others see what was sent after COMMIT, not before it, and never after ROLLBACK."""
    url = drivers_databases(LINES[name])
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')", "INSERT INTO item VALUES ('b')")
        assert names(url) == []
        line.commit()
        assert names(url) == ["a", "b"]
        line.begin()
        line.send("DELETE FROM item")
        line.rollback()
        line.rollback()
        assert names(url) == ["a", "b"]


@pytest.mark.parametrize("name", LINES)
def test_what_one_query_gives(name: str, drivers_databases: Databases) -> None:
    """The first column of the one row, or None where there is none."""
    with Line(name, drivers_databases(LINES[name])) as line:
        assert line.ask("SELECT 7, 8") == 7
        assert line.ask("SELECT name FROM item") is None
        assert line.ask("SELECT '%s'") == "%s"


@pytest.mark.parametrize("name", [name for name in LINES if LINES[name] != "sqlite"])
def test_how_many_round_trips_it_takes(name: str, drivers_databases: Databases) -> None:
    """PostgreSQL takes several statements in one; the proofs before COMMIT cost none."""
    with proxied(drivers_databases(LINES[name])) as (proxy, through), Line(name, through) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")  # what is done once is done now
        before = proxy.trips
        line.send("SAVEPOINT a", "RELEASE SAVEPOINT a", "SAVEPOINT b")
        assert proxy.trips - before == (1 if line.family == "postgresql" else 3)
        before = proxy.trips
        line.commit()
        assert proxy.trips - before == 1


def test_how_many_hops_it_takes(
    drivers_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiosqlite's thread is told once, however many statements there are."""
    with Line("aiosqlite", drivers_databases("sqlite")) as line:
        hops: list[object] = []
        queue = line.connection._tx

        class Counting:
            def put_nowait(self, item: object) -> None:
                hops.append(item)
                queue.put_nowait(item)

        with monkeypatch.context() as patch:
            patch.setattr(line.connection, "_tx", Counting())
            line.send("BEGIN", "INSERT INTO item VALUES ('a')", "SAVEPOINT a")
            assert len(hops) == 1
            line.commit()
            assert len(hops) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("psycopg", {"row_factory": psycopg.rows.dict_row}),
        ("psycopg async", {"row_factory": psycopg.rows.dict_row}),
        ("psycopg2", {"cursor_factory": psycopg2.extras.RealDictCursor}),
        ("pymysql", {"cursorclass": pymysql.cursors.DictCursor}),
    ],
)
def test_what_one_query_gives_as_dictionaries(
    name: str, options: dict[str, Any], drivers_databases: Databases
) -> None:
    """An app's own kind of rows makes no difference."""
    with Line(name, drivers_databases(LINES[name]), **options) as line:
        assert line.ask("SELECT 7 AS x, 8 AS y") == 7
        assert line.ask("SELECT name FROM item") is None


def test_what_one_query_gives_as_objects(drivers_databases: Databases) -> None:
    """Nor does SQLite's ``row_factory``."""
    with Line("sqlite3", drivers_databases("sqlite")) as line:
        line.connection.row_factory = lambda cursor, row: object()
        assert line.ask("SELECT 7, 8") == 7


@pytest.mark.parametrize("name", SHOWN)
def test_the_state_of_a_transaction(name: str, drivers_databases: Databases) -> None:
    """It is known at each moment, without a word to the database."""
    url = drivers_databases(LINES[name])
    with Line(name, url) as line:
        assert line.state() is State.IDLE
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        assert line.state() is State.OPEN
        with pytest.raises(Exception, match=r"item|Duplicate"):
            line.send("INSERT INTO item VALUES ('a')")
        failed = State.ABORTED if line.family == "postgresql" else State.OPEN
        assert line.state() is failed
        line.rollback()
        assert line.state() is State.IDLE
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        line.commit()
        assert line.state() is State.IDLE


def test_what_asyncpg_knows(drivers_databases: Databases) -> None:
    """Only whether there is a transaction, not whether it has failed."""
    with Line("asyncpg", drivers_databases("postgresql")) as line:
        assert line.state() is State.IDLE
        line.begin()
        assert line.state() is State.UNKNOWN
        line.rollback()
        assert line.state() is State.IDLE


@pytest.mark.parametrize("name", POSTGRESQL)
def test_a_failed_transaction_is_not_committed(name: str, drivers_databases: Databases) -> None:
    """PostgreSQL answers COMMIT by ROLLBACK then, and most drivers say nothing."""
    url = drivers_databases("postgresql")
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        with pytest.raises(Exception, match="item"):
            line.send("INSERT INTO item VALUES ('a')")
        with pytest.raises(BrokenTransactionError):
            line.commit()
        line.rollback()
    assert names(url) == []


@pytest.mark.parametrize("name", ["sqlite3", "aiosqlite"])
def test_a_transaction_that_sqlite_has_ended(name: str, drivers_databases: Databases) -> None:
    """ON CONFLICT ROLLBACK ends it; there is nothing to be committed."""
    url = drivers_databases("sqlite")
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        with pytest.raises(sqlite3.IntegrityError):
            line.send("INSERT OR ROLLBACK INTO item VALUES ('a')")
        with pytest.raises(BrokenTransactionError):
            line.commit()
    assert names(url) == []


@pytest.mark.parametrize("name", [name for name in MYSQL if name in SHOWN])
def test_a_transaction_that_mysql_has_ended(name: str, drivers_databases: Databases) -> None:
    """DDL commits without a word; the flag of the last answer says so."""
    url = drivers_databases("mysql")
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')", "CREATE TABLE IF NOT EXISTS other (x INTEGER)")
        with pytest.raises(BrokenTransactionError):
            line.commit()


@pytest.mark.parametrize("name", MYSQL)
def test_a_rollback_that_undoes_only_some(name: str, drivers_databases: Databases) -> None:
    """A table without transactions keeps what was written, which the server tells by a warning."""
    url = drivers_databases("mysql")
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')", "INSERT INTO simple VALUES ('a')")
        with pytest.raises(BrokenTransactionError, match="that change stays"):
            line.rollback()
    assert names(url) == []


@pytest.mark.parametrize("name", POSTGRESQL)
def test_a_commit_that_is_refused(name: str, drivers_databases: Databases) -> None:
    """A deferred constraint fails at COMMIT, and the connection can go on."""
    url = drivers_databases("postgresql")
    with Line(name, url) as line:
        line.begin()
        line.send("INSERT INTO late VALUES ('nobody')")
        with pytest.raises(CommitError):
            line.commit()
        assert line.state() is State.IDLE
        line.rollback()
        assert line.ask("SELECT count(*) FROM late") == 0


@pytest.mark.parametrize("name", [name for name in LINES if LINES[name] != "sqlite"])
def test_a_commit_without_an_answer(name: str, drivers_databases: Databases) -> None:
    """It may be stored: here it is."""
    url = drivers_databases(LINES[name])
    with proxied(url) as (proxy, through), Line(name, through) as line:
        line.begin()
        line.send("INSERT INTO item VALUES ('a')")
        proxy.when(b"COMMIT", Fault.DROP, at=At.ANSWER)
        with pytest.raises(UnknownOutcomeError):
            line.commit()
        assert names(url) == ["a"]


@pytest.mark.parametrize("name", ENDING_IN_ONE)
def test_commit_behind_sql_of_ours(name: str, drivers_databases: Databases) -> None:
    """It is stored, by one round trip; and nothing is left open."""
    url = drivers_databases("postgresql")
    with proxied(url) as (proxy, through), Line(name, through) as line:
        line.begin()
        line.send("SAVEPOINT one", "INSERT INTO item VALUES ('a')")
        before = proxy.trips
        line.commit_after("RELEASE SAVEPOINT one")
        assert proxy.trips - before == 1
        assert line.state() is State.IDLE
        assert names(url) == ["a"]


@pytest.mark.parametrize("name", ENDING_IN_ONE)
@pytest.mark.parametrize("state", ["another", "failed", "none"])
def test_commit_behind_what_fails(name: str, state: str, drivers_databases: Databases) -> None:
    """Ours has failed, so COMMIT was not run: what is open now is not stored."""
    url = drivers_databases("postgresql")
    with Line(name, url) as line:
        line.begin()
        line.send("SAVEPOINT one", "INSERT INTO item VALUES ('a')")
        if state == "failed":
            with pytest.raises(Exception, match="oops"):
                line.send("SELECT oops")
        else:
            line.send("COMMIT")
            if state == "another":
                line.send("BEGIN", "INSERT INTO item VALUES ('b')")
        with pytest.raises(NotReachedError) as caught:
            line.commit_after("RELEASE SAVEPOINT one")
        answer = answer_of(caught.value)
        codes = {"another": ["3B001"], "failed": ["25P02"], "none": ["25P01", "3B001"]}
        assert answer is not None
        assert answer.state in codes[state]
        line.rollback()
    assert names(url) == ([] if state == "failed" else ["a"])


@pytest.mark.parametrize("name", ENDING_IN_ONE)
@pytest.mark.parametrize("code", ["23503", "3B001", "25P01", "25P02"])
def test_commit_that_is_refused_behind_sql_of_ours(
    name: str, code: str, drivers_databases: Databases
) -> None:
    """It was run, and has failed, whatever its code says: the transaction is over."""
    url = drivers_databases("postgresql")
    run(
        url,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END$$",
        "DROP TABLE IF EXISTS guarded",
        "CREATE TABLE guarded (x INTEGER)",
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON guarded DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with Line(name, url) as line:
        line.begin()
        line.send("SAVEPOINT one", "INSERT INTO guarded VALUES (1)")
        with pytest.raises(Exception, match="refused") as caught:
            line.commit_after("RELEASE SAVEPOINT one")
        assert not isinstance(caught.value, NotReachedError)
        assert line.state() is State.IDLE
        assert line.ask("SELECT count(*) FROM guarded") == 0


@pytest.mark.parametrize("name", ENDING_IN_ONE)
@pytest.mark.parametrize("at", At)
def test_commit_without_an_answer_behind_sql_of_ours(
    name: str, at: At, drivers_databases: Databases
) -> None:
    """Nobody knows whether it was reached."""
    url = drivers_databases("postgresql")
    with proxied(url) as (proxy, through), Line(name, through) as line:
        line.begin()
        line.send("SAVEPOINT one", "INSERT INTO item VALUES ('a')")
        proxy.when(b"COMMIT", Fault.DROP, at=at)
        with pytest.raises(Exception, match=r"closed|lost|terminat") as caught:
            line.commit_after("RELEASE SAVEPOINT one")
        assert not isinstance(caught.value, NotReachedError)
    assert names(url) == (["a"] if at is At.ANSWER else [])
