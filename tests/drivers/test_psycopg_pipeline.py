"""libpq's pipeline on a real server: what is answered, and what the traps in it are."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg._queries import _query2pg_nocache

from atomicbatch.drivers.psycopg_pipeline import Of, Pipeline, has_pipeline, numbered


@pytest.fixture
def connection(postgresql_url: str) -> Iterator[psycopg.Connection[Any]]:
    with closing(psycopg.connect(postgresql_url, autocommit=True)) as made:
        made.prepare_threshold = None
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        yield made


def read(connection: psycopg.Connection[Any], pipeline: Pipeline) -> Any:
    """Wait for the next answer and read it."""
    while not pipeline.has_arrived():
        select.select([connection.pgconn.socket], [], [], 10)
        connection.pgconn.consume_input()
    return pipeline.read()


def read_all(connection: psycopg.Connection[Any], pipeline: Pipeline) -> list[str]:
    """The tag of each answer, or its SQLSTATE, or the class of its error."""
    assert pipeline.push()
    found = []
    while pipeline.next_due() is not None:
        try:
            result = read(connection, pipeline)
        except psycopg.Error as error:
            found.append(error.sqlstate or type(error).__name__)
        else:
            found.append((result.command_status or b"").decode())
    return found


def stored(connection: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM t ORDER BY id")]


INSERT = "INSERT INTO t VALUES (%s)"


def test_statements_are_answered_in_order(connection: psycopg.Connection[Any]) -> None:
    """BEGIN first; what the second use of a text asks for beside is no statement's answer."""
    pipeline = Pipeline(connection, prepares=True)
    pipeline.enter()
    pipeline.begin(["BEGIN"])
    for number in range(3):
        pipeline.send(INSERT, (number,))
    pipeline.send("SELECT '%%'", ())
    assert pipeline.statements_due == 4
    pipeline.sync()
    found = read_all(connection, pipeline)
    assert [tag for tag in found if tag] == ["BEGIN", *["INSERT 0 1"] * 3, "SELECT 1"]
    assert (pipeline.statements_due, pipeline.has_begun) == (0, True)
    pipeline.leave()
    connection.execute("COMMIT")
    assert stored(connection) == [0, 1, 2]


def test_an_error_belongs_to_its_statement(connection: psycopg.Connection[Any]) -> None:
    """Those behind it say ABORTED, COMMIT too, and nothing is stored."""
    pipeline = Pipeline(connection, prepares=True)
    pipeline.enter()
    pipeline.begin(["BEGIN"])
    for number in (1, 2, 1, 3):
        pipeline.send(INSERT, (number,))
    pipeline.send("COMMIT", ())
    pipeline.sync()
    found = [tag for tag in read_all(connection, pipeline) if tag]
    assert found == ["BEGIN", "INSERT 0 1", "INSERT 0 1", "23505", *["PipelineAborted"] * 2]
    pipeline.leave()
    assert connection.execute("ROLLBACK").statusmessage == "ROLLBACK"
    assert stored(connection) == []


@pytest.mark.parametrize("syncs", [False, True], ids=["flush request", "Sync"])
def test_why_there_is_no_sync_before_begin_is_answered(
    connection: psycopg.Connection[Any], *, syncs: bool
) -> None:
    """Behind a Sync the server forgets that BEGIN has failed, and stores."""
    pipeline = Pipeline(connection, prepares=True)
    pipeline.enter()
    pipeline.begin(["BEGIN ISOLATION LEVEL nonsense"])
    if syncs:
        pipeline.sync()
    else:
        pipeline.ask_for_answers()
    pipeline.send(INSERT, (1,))
    pipeline.sync()
    assert read_all(connection, pipeline)[0] == "42601"
    assert not pipeline.has_begun
    pipeline.leave()
    assert stored(connection) == ([1] if syncs else [])


def test_what_could_not_be_prepared_is_prepared_later(
    connection: psycopg.Connection[Any],
) -> None:
    """A text that has failed is not taken for prepared."""
    pipeline = Pipeline(connection, prepares=True)
    for _ in range(2):
        for _ in range(2):
            pipeline.enter()
            pipeline.send("SELECT * FROM missing", ())
            pipeline.sync()
            found = read_all(connection, pipeline)
            pipeline.leave()
        assert found[0] == "42P01" or found[-2:] == ["SELECT 0", ""]
        connection.execute("CREATE TABLE IF NOT EXISTS missing (id INTEGER)")
    ((count,),) = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchall()
    assert count == 1


def test_the_oldest_names_are_closed(connection: psycopg.Connection[Any]) -> None:
    """The server keeps no more than we do, also after an error that skips their closing."""
    pipeline = Pipeline(connection, prepares=True)
    for number in range(130):
        pipeline.enter()
        if number == 110:
            pipeline.send("SELECT 1 / 0", ())
        for _ in range(2):
            pipeline.send(f"SELECT {number}", ())
        pipeline.sync()
        read_all(connection, pipeline)
        pipeline.leave()
    ((count,),) = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchall()
    assert count == 100
    assert not pipeline.is_full


def test_without_names_every_text_is_sent_whole(connection: psycopg.Connection[Any]) -> None:
    """As an old pooler needs it."""
    pipeline = Pipeline(connection, prepares=False)
    pipeline.enter()
    for number in range(5):
        pipeline.send(INSERT, (number,))
    pipeline.sync()
    assert pipeline.next_due() is Of.STATEMENT
    assert read_all(connection, pipeline) == [*["INSERT 0 1"] * 5, ""]
    pipeline.leave()
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.parametrize("told", [True, False])
def test_rows_in_chunks_before_it_are_a_trap(
    connection: psycopg.Connection[Any], *, told: bool
) -> None:
    """libpq reads the first answer in pipeline mode as it read the last one before, unless told."""
    list(connection.cursor().stream("SELECT 1 WHERE false", size=1))
    pipeline = Pipeline(connection, prepares=True)
    pipeline.was_streamed = told
    pipeline.enter()
    pipeline.send("SELECT 7", ())
    pipeline.sync()
    found = read_all(connection, pipeline)
    assert (found == ["", "SELECT 1", ""]) is told


def test_a_lost_connection_is_told_as_lost(
    connection: psycopg.Connection[Any], postgresql_url: str
) -> None:
    """By the server's own word, and then by libpq's."""
    pipeline = Pipeline(connection, prepares=True)
    pipeline.enter()
    pipeline.send("SELECT pg_sleep(30)", ())
    pipeline.send("SELECT 1", ())
    pipeline.sync()
    assert pipeline.push()
    with closing(psycopg.connect(postgresql_url, autocommit=True)) as other:
        while not other.execute(
            "SELECT pg_terminate_backend(%s) FROM pg_stat_activity WHERE pid = %s"
            " AND state = 'active' AND wait_event = 'PgSleep'",
            (connection.info.backend_pid,) * 2,
        ).fetchall():
            pass
    with pytest.raises(psycopg.errors.AdminShutdown):
        read(connection, pipeline)
    with pytest.raises(psycopg.OperationalError):
        read(connection, pipeline)


_PIECES = st.lists(st.sampled_from(["%s", "%%", "a", "é", "\n", "'", "$1", "?"]), max_size=12)


@given(_PIECES.map("".join))
def test_marks_are_numbered_as_psycopg_does(sql: str) -> None:
    """The text is the same as psycopg's own, and as many parameters."""
    theirs, formats, *_ = _query2pg_nocache(sql.encode(), "utf-8")
    ours, count = numbered(sql)
    assert ours.encode() == theirs
    assert count == len(formats)


@pytest.mark.parametrize("sql", ["%d", "%(name)s", "a %", "% s"])
def test_other_marks_are_refused(sql: str) -> None:
    """None of ours has any."""
    with pytest.raises(ValueError, match="percent sign"):
        numbered(sql)


def test_an_old_libpq_has_no_pipeline() -> None:
    """It came with 14."""

    class Module:
        class pq:  # noqa: N801 - psycopg's name
            @staticmethod
            def version() -> int:
                return 130013

    assert not has_pipeline(Module)
    assert has_pipeline(psycopg)
