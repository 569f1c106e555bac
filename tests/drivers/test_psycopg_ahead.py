"""SQL of ours ahead of a statement of psycopg's: nobody can tell, but one round trip is gone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy.util import await_only, greenlet_spawn

from atomicbatch.drivers import psycopg as driver
from atomicbatch.drivers import psycopg_ahead
from atomicbatch.drivers.ahead import NotReachedError
from tests.drivers.lines import run
from tests.proxies import proxied

Connection = psycopg.Connection[Any]
Statement = tuple[Any, Any]
FIRST, SECOND = ("SAVEPOINT one",), ("RELEASE SAVEPOINT one", "SAVEPOINT one")


@pytest.fixture
def url(drivers_databases: Callable[[str], str]) -> str:
    return drivers_databases("postgresql")


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def ahead(connection: Connection, texts: Sequence[str], sql: Any, values: Any = None) -> Any:
    """Perform a statement behind others, and show that nothing of that is left."""
    cursor = connection.cursor()
    try:
        psycopg_ahead.perform_after(
            connection,
            texts,
            lambda: cursor.execute(sql, values),
            lambda texts: driver.send(connection, texts),
        )
    finally:
        assert connection._pipeline is None
        assert connection.pgconn.pipeline_status == PipelineStatus.OFF
    return cursor


def apart(connection: Connection, texts: Sequence[str], sql: Any, values: Any = None) -> Any:
    driver.send(connection, texts)
    return connection.execute(sql, values)


def seen(connection: Connection, cursor: Any) -> dict[str, Any]:
    """What an app can see of a statement that has succeeded."""
    return {
        "tag": cursor.statusmessage,
        "count": cursor.rowcount,
        "columns": cursor.description and [tuple(one) for one in cursor.description],
        "rows": cursor.fetchall() if cursor.description else None,
        "more": cursor.nextset(),
        "state": connection.info.transaction_status,
        "query": cursor._query.query,
    }


def seen_of(error: psycopg.Error) -> dict[str, Any]:
    """What an app can see of a statement that has failed."""
    names = [name for name in dir(error.diag) if not name.startswith("_")]
    return {
        "kind": type(error),
        "text": str(error),
        "state": error.sqlstate,
        **{name: getattr(error.diag, name) for name in names},
    }


STATEMENTS: list[Statement] = [
    ("SELECT 1 AS x, 'a' AS y", None),
    ("SELECT %s::int AS x, 'a%%' AS y", (1,)),
    ("SELECT generate_series(1, %(n)s)", {"n": 5}),
    ("SELECT", None),
    ("", None),
    ("INSERT INTO item VALUES (%s) RETURNING name", ("a",)),
    ("INSERT INTO item VALUES ('a')", {}),
    (b"INSERT INTO item VALUES ('a')", None),
    (psycopg.sql.SQL("UPDATE item SET name = {}").format(psycopg.sql.Literal("x")), None),
    ("DELETE FROM item", None),
    ("WITH made AS (INSERT INTO item VALUES ('a') RETURNING *) SELECT * FROM made", None),
    ("VALUES (1, NULL), (2, 'b')", None),
    ("SELECT 'NaN'::float8, 1.50::numeric, now(), ARRAY[1, 2], '{}'::jsonb", None),
    (
        "MERGE INTO item USING (SELECT 'z') s(n) ON false WHEN NOT MATCHED THEN INSERT VALUES (n)",
        (),
    ),
]
FAILURES: list[Statement] = [
    ("INSERT INTO item VALUES ('there')", None),
    ("INSERT INTO item VALUES (%s)", ("there",)),
    ("INSERT INTO item VALUES (NULL)", None),
    ("SELECT oops FROM item", None),
    ("SELECT FROM WHERE", None),
    ("SELECT %s::int", ("no number",)),
    ("SELECT 1 / %s", (0,)),
    ("SELECT 'a", None),
]


@pytest.mark.parametrize("texts", [FIRST, SECOND])
@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_nothing_shows(connection: Connection, statement: Statement, texts: Sequence[str]) -> None:
    """Tag, counts, columns, rows and state are what they are apart."""
    found = []
    for way in (apart, ahead):
        if texts is SECOND:
            driver.send(connection, FIRST)
        found.append(seen(connection, way(connection, texts, *statement)))
        connection.execute("ROLLBACK TO SAVEPOINT one")
        connection.rollback()
    rows = [one.pop("rows") for one in found]
    assert found[0] == found[1]
    if "now()" not in str(statement[0]):
        assert rows[0] == rows[1]


@pytest.mark.parametrize("statement", FAILURES, ids=str)
def test_an_error_is_the_statements_own(connection: Connection, statement: Statement) -> None:
    """Class, message and diagnosis, positions included; the savepoint can be rolled back to."""
    connection.execute("INSERT INTO item VALUES ('there')")
    found = []
    for way in (apart, ahead):
        with pytest.raises(psycopg.Error) as caught:
            way(connection, FIRST, *statement)
        found.append(seen_of(caught.value))
        assert connection.info.transaction_status == TransactionStatus.INERROR
        connection.execute("ROLLBACK TO SAVEPOINT one")
        assert connection.execute("SELECT name FROM item").fetchall() == [("there",)]
    assert found[0] == found[1]


@pytest.mark.parametrize("way", [apart, ahead])
def test_notices_reach_their_handlers(connection: Connection, way: Callable[..., Any]) -> None:
    """The statement's own, and none of ours."""
    connection.execute(
        "CREATE FUNCTION pg_temp.speak() RETURNS int LANGUAGE plpgsql AS "
        "$$BEGIN RAISE NOTICE 'well'; RETURN 1; END$$"
    )
    heard: list[str | None] = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    way(connection, FIRST, "SELECT pg_temp.speak()")
    assert heard == ["well"]


def test_it_is_one_round_trip(url: str) -> None:
    """Also with BEGIN, which psycopg sends by itself before whatever is first."""
    with proxied(url) as (proxy, through), psycopg.connect(through) as connection:
        before = proxy.trips
        ahead(connection, ("SAVEPOINT root", "SAVEPOINT one"), "SELECT 1")
        assert proxy.trips - before == 1
        ahead(connection, SECOND, "INSERT INTO item VALUES (%s)", ("a",))
        assert proxy.trips - before == 2
        connection.commit()
    assert run(url, "SELECT name FROM item") == [("a",)]


def test_nothing_runs_where_begin_fails(url: str) -> None:
    """A statement would else be stored by itself."""
    with psycopg.connect(url) as connection:
        connection._begin_statement = b"BEGIN NONSENSE"
        with pytest.raises(NotReachedError) as caught:
            ahead(connection, FIRST, "INSERT INTO item VALUES ('a')")
        assert isinstance(caught.value.__cause__, psycopg.errors.SyntaxError)
        assert connection.info.transaction_status == TransactionStatus.IDLE
    assert run(url, "SELECT name FROM item") == []


@pytest.mark.parametrize("texts", [FIRST, SECOND, ("SAVEPOINT one", "RELEASE SAVEPOINT two")])
def test_nothing_runs_where_ours_fails(
    connection: Connection, url: str, texts: Sequence[str]
) -> None:
    """The cause is the first failure, whatever was skipped after it."""
    with psycopg.connect(url, autocommit=True) as loose:
        if texts is not FIRST:
            loose.execute("BEGIN")
        with pytest.raises(NotReachedError) as caught:
            ahead(loose, texts, "INSERT INTO item VALUES ('a')")
        wanted: Any = psycopg.errors.InvalidSavepointSpecification
        if texts is FIRST:
            wanted = psycopg.errors.NoActiveSqlTransaction
        assert isinstance(caught.value.__cause__, wanted)
        loose.execute("ROLLBACK")
        assert loose.execute("SELECT name FROM item").fetchall() == []
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT oops")
    with pytest.raises(NotReachedError) as caught:
        ahead(connection, FIRST, "SELECT 1")
    assert isinstance(caught.value.__cause__, psycopg.errors.InFailedSqlTransaction)


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT %s", (object(),)),  # psycopg refuses it before it asks for the pipeline
        ("SELECT %s", ()),
        ("VALUES " + ", ".join(["(%s)"] * 70_000), [1] * 70_000),  # libpq refuses it
    ],
    ids=["value", "count", "too many"],
)
def test_ours_is_done_where_the_statement_is_not_sent(
    connection: Connection, sql: str, values: Any
) -> None:
    """The error is the driver's own, and the transaction goes on."""
    found = []
    for way in (apart, ahead):
        with pytest.raises(psycopg.Error) as caught:
            way(connection, FIRST, sql, values)
        found.append((type(caught.value), str(caught.value)))
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        connection.execute("ROLLBACK TO SAVEPOINT one")
        connection.rollback()
    assert found[0] == found[1]


def test_a_failure_of_ours_by_itself(connection: Connection) -> None:
    """A statement that is not sent does not hide that ours has failed."""
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT oops")
    with pytest.raises(NotReachedError) as caught:
        ahead(connection, FIRST, "SELECT %s", (object(),))
    assert isinstance(caught.value.__cause__, psycopg.errors.InFailedSqlTransaction)


def test_a_driver_that_takes_no_notice(connection: Connection) -> None:
    """What was performed without ours ahead of it has not been reached."""
    with pytest.raises(NotReachedError):
        psycopg_ahead.perform_after(connection, FIRST, lambda: None, lambda _: None)


@pytest.mark.parametrize("threshold", [0, 1])
def test_prepared_statements(connection: Connection, threshold: int) -> None:
    """PREPARE goes along; a statement that fails is not taken for a prepared one."""
    connection.prepare_threshold = threshold
    for number in range(4):
        cursor = ahead(connection, SECOND if number else FIRST, "SELECT %s::int", (number,))
        assert cursor.fetchone() == (number,)
    assert len(connection._prepared._names) == 1
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ahead(connection, SECOND, "SELECT oops, %s::int", (1,))
    connection.execute("ROLLBACK TO SAVEPOINT one")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ahead(connection, SECOND, "SELECT oops, %s::int", (1,))


def test_much_in_both_directions(connection: Connection) -> None:
    """More than the sockets' buffers hold; neither side waits for the other."""
    text = "x" * 5_000_000
    assert ahead(connection, FIRST, "SELECT %s::text", (text,)).fetchone() == (text,)


def test_a_statement_that_is_cancelled(connection: Connection, url: str) -> None:
    """It fails by itself; the savepoint is there, and the connection goes on."""

    def cancel() -> None:
        while not run(
            url,
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'",
        ):
            time.sleep(0.01)
        connection.cancel_safe()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        ahead(connection, FIRST, "SELECT pg_sleep(60)")
    thread.join()
    connection.execute("ROLLBACK TO SAVEPOINT one")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_that_is_lost(url: str) -> None:
    """Nobody has heard that ours has succeeded."""
    with proxied(url) as (proxy, through):
        connection = psycopg.connect(through)
        ahead(connection, FIRST, "SELECT 1")
        proxy.drop()
        with pytest.raises(NotReachedError) as caught:
            psycopg_ahead.perform_after(
                connection, SECOND, lambda: connection.execute("SELECT 1"), lambda _: None
            )
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        connection.close()


def test_async_connections(url: str) -> None:
    """The same, in SQLAlchemy's greenlets: also where the task is cancelled in the middle."""

    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(url)

        def perform(sql: str) -> Any:
            cursor = connection.cursor()
            psycopg_ahead.perform_after(
                connection, FIRST, lambda: await_only(cursor.execute(sql)), lambda _: None
            )
            return cursor

        cursor = await greenlet_spawn(perform, "SELECT 7")
        assert await cursor.fetchone() == (7,)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await greenlet_spawn(perform, "SELECT oops")
        await connection.rollback()
        task = asyncio.create_task(greenlet_spawn(perform, "SELECT pg_sleep(60)"))
        while connection.info.transaction_status != TransactionStatus.ACTIVE:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection._pipeline is None
        await connection.close()

    asyncio.run(main())


def test_cursors_of_the_drivers_own(connection: Connection) -> None:
    """Those whose execute() is psycopg's own; a class of an app's may do anything."""

    class Own(psycopg.Cursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            return super().execute(*args, **kwargs)

    methods = psycopg_ahead.own_methods()
    assert type(connection.cursor()).execute in methods
    assert psycopg.ClientCursor.execute in methods
    assert psycopg.ServerCursor.execute not in methods
    assert psycopg.AsyncServerCursor.execute not in methods
    assert Own.execute not in methods
    assert psycopg_ahead.is_able(connection)
