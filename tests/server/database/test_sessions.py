"""The server's transactions keep the adapter's contract on each database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from atomicbatch.engine import execute
from atomicbatch.errors import BrokenTransactionError, TimeoutExceededError
from atomicbatch.model import Batch, Call, Fate, Outcome, Reply
from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.database.database import Database, is_read_only
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.testing import check_transaction
from tests.server.served import kind_of, on_its_own, seen

BATCH = Batch((Call("POST", b"/", b"", (), b""),))


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A session on a table whose reference is checked at COMMIT, where that exists."""
    deferred = "" if kind_of(database_url) == "mysql" else " DEFERRABLE INITIALLY DEFERRED"
    on_its_own(
        database_url,
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE rows_ (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id)"
        f"{deferred})",
    )
    made = Session(backend_for(server_url(database_url), read_only=False), reader=False)
    yield made
    made.close()


def test_a_session_keeps_the_contract(database_url: str, session: Session) -> None:
    """Nothing shows before COMMIT, all of it after, nothing after a failure of any kind."""
    numbers = iter(range(1, 1000))

    def write(connection: Session) -> None:
        connection.execute(f"INSERT INTO rows_ (id) VALUES ({next(numbers)})", ())

    def refuse(connection: Session) -> None:
        write(connection)
        connection.execute(f"INSERT INTO rows_ VALUES ({next(numbers)}, 99)", ())

    def escape(connection: Session) -> None:
        connection.execute("ROLLBACK", ())

    def count() -> int:
        ((number,),) = seen(database_url, "SELECT count(*) FROM rows_")
        return int(number)

    check_transaction(
        session,
        write=write,
        count=count,
        refuse=None if kind_of(database_url) == "mysql" else refuse,
        escape=escape,
    )


def test_a_record_is_stored_with_the_batch(database_url: str, session: Session) -> None:
    """The seal's SQL runs in the batch's transaction: both are stored, or neither."""

    def perform(_: Call, connection: Session) -> Reply:
        connection.execute("INSERT INTO rows_ (id) VALUES (1)", ())
        return Reply(201, (), b"")

    def seal(_: Outcome, connection: Session) -> None:
        connection.execute("INSERT INTO rows_ (id) VALUES (2)", ())
        assert seen(database_url, "SELECT id FROM rows_") == []

    def fails(outcome: Outcome, connection: Session) -> None:
        seal(outcome, connection)
        connection.execute("INSERT INTO rows_ (id) VALUES (2)", ())

    outcome = execute(BATCH, session, perform, timeout_seconds=30, seal=fails)
    assert (outcome.fate, outcome.failed) == (Fate.ROLLED_BACK, None)
    assert seen(database_url, "SELECT id FROM rows_") == []
    assert execute(BATCH, session, perform, timeout_seconds=30, seal=seal).committed
    assert sorted(seen(database_url, "SELECT id FROM rows_")) == [(1,), (2,)]


def test_an_implicit_commit_is_found_out(mysql_url: str) -> None:
    """DDL commits on MariaDB without a word: the batch is told as broken, not as committed."""
    on_its_own(mysql_url, "CREATE TABLE rows_ (id INTEGER PRIMARY KEY)")
    session = Session(backend_for(server_url(mysql_url), read_only=False), reader=False)

    def define_in_a_batch() -> None:
        with session.begin(BATCH, deadline=0) as connection:
            connection.execute("INSERT INTO rows_ VALUES (1)", ())
            connection.execute("CREATE TABLE other (id INTEGER)", ())

    with pytest.raises(BrokenTransactionError):
        define_in_a_batch()
    session.close()


def test_a_cancelled_caller_s_work_does_not_commit(database_url: str, session: Session) -> None:
    """Cancelling waits for the work to end, and what it did is gone."""
    database = Database(server_url(database_url))
    started, go_on = threading.Event(), threading.Event()

    def work(connection: Session) -> None:
        with connection.begin(BATCH, deadline=0):
            connection.execute("INSERT INTO rows_ (id) VALUES (1)", ())
            started.set()
            assert go_on.wait(10)

    async def cancel() -> None:
        task = asyncio.create_task(database.run(work, read_only=False, seconds=30))
        assert await asyncio.to_thread(started.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert seen(database_url, "SELECT * FROM rows_") == []
    database.close()


def test_work_that_is_over_time_does_not_commit(database_url: str, session: Session) -> None:
    """Once its time is over a transaction is rolled back, however well it went."""
    database = Database(server_url(database_url))
    loop_is_past = threading.Event()

    def work(connection: Session) -> None:
        with connection.begin(BATCH, deadline=0):
            connection.execute("INSERT INTO rows_ (id) VALUES (1)", ())
            assert loop_is_past.wait(10)

    async def late() -> None:
        running = asyncio.create_task(database.run(work, read_only=False, seconds=0.05))
        await asyncio.sleep(0.1)  # the timer that is tested, not a synchronisation
        loop_is_past.set()
        with pytest.raises(TimeoutExceededError):
            await running

    asyncio.run(late())
    assert seen(database_url, "SELECT * FROM rows_") == []
    database.close()


@pytest.mark.parametrize(
    ("methods", "reads"),
    [(["GET"], True), (["GET", "HEAD"], True), (["GET", "POST"], False), (["get"], False)],
)
def test_what_only_reads(methods: list[str], *, reads: bool) -> None:
    """GET and HEAD only."""
    calls = tuple(Call(method, b"/", b"", (), b"") for method in methods)
    assert is_read_only(Batch(calls)) is reads
