"""Statements on their way: taken in order, bounded, and never sent outside of a transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from atomicbatch.drivers.conflicts import is_conflict, is_lost
from atomicbatch.drivers.postgresql_codes import STATES
from atomicbatch.errors import BrokenTransactionError, TimeoutExceededError
from atomicbatch.server.database.bounds import TooMuchError
from atomicbatch.server.database.faults import fault_of, is_outdated
from atomicbatch.server.database.flight import Flight
from atomicbatch.server.database.opening import database_url as server_url
from atomicbatch.server.database.postgresql import PostgreSQLBackend
from atomicbatch.server.database.tickets import AnyTicket, Ticket, untimed
from tests.server.served import on_its_own, seen

INSERT = "INSERT INTO t VALUES (%s) RETURNING id"


class Line:
    """A connection and its flight."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backend = PostgreSQLBackend(server_url(url), read_only=False)
        self.raw = self.backend.connect(reader=False)
        flight = self.backend.flight(self.raw)
        assert flight is not None
        self.flight: Flight = flight

    def begin(self, ticket: AnyTicket | None = None) -> Flight:
        self.backend.send_begin(self.raw, ticket or untimed(read_only=False))
        return self.flight


@pytest.fixture
def line(postgresql_url: str) -> Iterator[Line]:
    on_its_own(postgresql_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    made = Line(postgresql_url)
    with closing(made.raw):
        yield made


def test_statements_are_sent_and_then_taken(line: Line) -> None:
    """One after another, with what psycopg's cursor would give; COMMIT comes after."""
    flight = line.begin()
    flight.send(INSERT, (1,))
    flight.send("UPDATE t SET id = id + 10 WHERE id > %s", (0,))
    flight.send("SELECT id, NULL, 'a%%', %s::numeric FROM t", ("0.10",))
    flight.send("SELECT id FROM t WHERE id > 99", ())
    flight.push()
    assert flight.take().fetchall() == [(1,)]
    assert flight.has_begun
    assert flight.take().rowcount == 1
    assert flight.one(1000) == (11, None, "a%", "0.10")
    assert flight.few(1000) == []
    line.backend.commit(line.raw)
    assert not flight.is_on
    assert seen(line.url, "SELECT id FROM t") == [(11,)]


def test_a_statement_without_rows_has_none_to_fetch(line: Line) -> None:
    """As psycopg says it."""
    flight = line.begin()
    flight.send("DELETE FROM t", ())
    flight.push()
    answer = flight.take()
    assert answer.rowcount == 0
    with pytest.raises(psycopg.ProgrammingError):
        answer.fetchone()
    line.backend.rollback(line.raw)


def test_what_was_not_taken_is_not_committed(line: Line) -> None:
    """Nobody has seen whether it succeeded."""
    flight = line.begin()
    flight.send(INSERT, (1,))
    with pytest.raises(BrokenTransactionError):
        line.backend.commit(line.raw)
    line.backend.rollback(line.raw)
    assert seen(line.url, "SELECT id FROM t") == []


def test_a_begin_that_was_not_answered_is_not_committed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch without a statement waits for BEGIN before it sends COMMIT."""
    line.flight.begin(["BEGIN ISOLATION LEVEL nonsense"], untimed(read_only=False))
    with pytest.raises(BrokenTransactionError):
        line.backend.commit(line.raw)
    line.begin()
    line.backend.commit(line.raw)


def test_nothing_is_sent_outside_of_a_transaction(line: Line) -> None:
    """Where there is none, or it has failed: it would be stored at once, or in vain."""
    with pytest.raises(BrokenTransactionError):
        line.flight.send(INSERT, (1,))
    flight = line.begin()
    with pytest.raises(psycopg.errors.DivisionByZero):
        flight.ask("SELECT 1 / 0", (), flight.take)
    with pytest.raises(BrokenTransactionError):
        flight.send(INSERT, (1,))
    line.backend.rollback(line.raw)
    assert seen(line.url, "SELECT id FROM t") == []


def test_after_an_error_all_else_is_thrown_away(line: Line) -> None:
    """What is behind it is read to the end, and the connection is as good as before."""
    flight = line.begin()
    for number in (1, 1, 2):
        flight.send(INSERT, (number,))
    flight.push()
    assert flight.take().fetchone() == (1,)
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        flight.take()
    assert raised.value.diag.constraint_name == "t_pkey"
    line.backend.rollback(line.raw)
    assert (line.raw.pgconn.transaction_status, line.raw.pgconn.pipeline_status) == (0, 0)
    flight = line.begin()
    assert flight.ask(INSERT, (3,), flight.take).fetchone() == (3,)
    line.backend.commit(line.raw)
    assert seen(line.url, "SELECT id FROM t") == [(3,)]


def test_psycopg_s_own_way_leaves_pipeline_mode_first(line: Line) -> None:
    """It would take BEGIN's answer for that of its own statement."""
    flight = line.begin()
    flight.send(INSERT, (1,))
    assert line.raw.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert not flight.is_on
    assert flight.ask(INSERT, (2,), flight.take).fetchone() == (2,)
    line.backend.rollback(line.raw)


def test_an_answer_that_is_too_long_closes_the_connection(line: Line) -> None:
    """It is not read to its end; what fits is, also behind long parameters."""
    flight = line.begin()
    flight.send("SELECT repeat('x', 300000)", ())
    flight.send("SELECT repeat('x', 30000000)", ())
    flight.push()
    row = flight.one(400_000)
    assert row is not None
    assert len(row[0]) == 300_000
    with pytest.raises(TooMuchError):
        flight.one(400_000)
    assert line.raw.closed


def test_an_answer_is_counted_without_those_behind_it(line: Line) -> None:
    """However much of the following ones has come meanwhile."""
    flight = line.begin()
    for _ in range(40):
        flight.send("SELECT repeat('x', 300000)", ())
    flight.push()
    for _ in range(40):
        assert flight.one(300_000) is not None
    assert line.raw.is_worn is False
    line.backend.rollback(line.raw)


def test_a_flight_that_is_over_sends_no_more(line: Line) -> None:
    """The time is over, or the client is gone."""
    ticket: AnyTicket = Ticket(lambda _: None)
    ticket.take()
    flight = line.begin(ticket)
    flight.send(INSERT, (1,))
    ticket.end()
    with pytest.raises(TimeoutExceededError):
        flight.push()


def test_an_interrupt_that_was_lost_is_sent_again(line: Line) -> None:
    """While nobody else interrupts, whoever waits for an answer does, once the time is over."""
    ticket: AnyTicket = Ticket(lambda _: None)
    ticket.take()
    flight = line.begin(ticket)
    flight.send("SELECT pg_sleep(60)", ())
    flight.push()
    threading.Timer(0.1, ticket.end).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        flight.take()
    line.backend.rollback(line.raw)


def test_a_connection_that_cannot_be_read_to_the_end_is_closed(line: Line) -> None:
    """So it cannot be used for another batch."""
    flight = line.begin()
    flight.send("SELECT pg_sleep(60)", ())
    flight.push()
    on_its_own(
        line.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE pid = {line.raw.info.backend_pid}",
    )
    with pytest.raises(psycopg.OperationalError):
        line.backend.rollback(line.raw)
    assert line.raw.closed


def test_what_the_server_is_asked_is_what_psycopg_would_ask(line: Line) -> None:
    """Parameters have psycopg's own types, and rows its own values, for all that codecs send."""
    values: list[Any] = [None, True, 7, 70_000, 2**40, 2**70, 1.5, "é%", b"\x00\xff", ["a", None]]
    for value in values:
        cursor = line.raw.execute("SELECT %s", (value,))
        assert cursor.description is not None
        flight = line.begin()
        found = flight.ask("SELECT %s", (value,), flight.take)
        assert found._result.ftype(0) == cursor.description[0].type_code
        assert found.fetchall() == cursor.fetchall()
        line.backend.rollback(line.raw)


@pytest.mark.parametrize("state", sorted(STATES))
def test_an_error_means_the_same_either_way(line: Line, state: str) -> None:
    """Whatever the code: its class, names and meaning for the call, the batch and the schema."""
    raise_it = (
        f"DO $$ BEGIN RAISE EXCEPTION 'text' USING ERRCODE = '{state}', CONSTRAINT = 'c',"
        " COLUMN = 'col', TABLE = 'tab'; END $$"
    )

    def told(error: psycopg.Error) -> Any:
        fault = fault_of(error)
        return (
            *(type(error), str(error), error.sqlstate, error.diag.constraint_name),
            *(error.diag.column_name, error.diag.table_name, error.diag.context),
            *(fault and (fault.status, fault.slug, fault.detail, fault.members),),
            *(is_outdated(error), is_conflict(error), is_lost(error)),
        )

    line.raw.execute("BEGIN")
    with pytest.raises(psycopg.Error) as one_by_one:
        line.raw.execute(raise_it)
    line.raw.execute("ROLLBACK")
    flight = line.begin()
    flight.send("SELECT 1", ())
    flight.send(raise_it, ())
    flight.send("SELECT 1", ())
    flight.push()
    flight.take()
    with pytest.raises(psycopg.Error) as ahead:
        flight.take()
    line.backend.rollback(line.raw)
    assert told(ahead.value) == told(one_by_one.value)
    assert ahead.value.sqlstate == state
