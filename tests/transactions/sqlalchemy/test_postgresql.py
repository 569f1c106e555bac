"""How many round trips a batch takes on PostgreSQL, and that handlers see nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call
from tests.proxies import Proxy, proxied
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.worlds import Database, Item, World

FIXED = {"psycopg": 1, "psycopg_async": 1, "asyncpg": 1, "psycopg2": 3}
"""What a batch takes whatever its calls do: COMMIT, and what BEGIN cannot go along with."""
A_SAVEPOINT = {"psycopg": 0, "psycopg_async": 0, "asyncpg": 1, "psycopg2": 1}


class Far(NamedTuple):
    """A world whose database is behind a proxy."""

    world: World
    proxy: Proxy


@pytest.fixture
def far(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Far]:
    database = databases("postgresql")
    with proxied(database.url.render_as_string(hide_password=False)) as (proxy, through):
        yield Far(World(request.param, Database("postgresql", sa.make_url(through))), proxy)


def shop(world: World) -> FastAPI:
    """Handlers with a session of their own, and with one from a dependency that refreshes."""
    app = FastAPI()
    if world.is_async:

        async def session_of_async() -> Any:
            async with AsyncSession(world.async_engine) as session:
                yield session

        @app.post("/own")
        async def own_async(name: str) -> None:
            async with AsyncSession(world.async_engine) as session:
                session.add(Item(name=name, n=0))
                await session.commit()

        @app.post("/dependency")
        async def dependency_async(
            name: str,
            session: AsyncSession = Depends(session_of_async),  # noqa: B008
        ) -> int:
            item = Item(name=name, n=0)
            session.add(item)
            await session.commit()
            await session.refresh(item)
            return item.id

        @app.post("/read")
        async def read_async(name: str) -> None:
            async with AsyncSession(world.async_engine) as session:
                await session.execute(sa.select(Item).where(Item.name == name))

    else:

        def session_of() -> Any:
            with Session(world.engine) as session:
                yield session

        @app.post("/own")
        def own(name: str) -> None:
            with Session(world.engine) as session:
                session.add(Item(name=name, n=0))
                session.commit()

        @app.post("/dependency")
        def dependency(name: str, session: Session = Depends(session_of)) -> int:  # noqa: B008
            item = Item(name=name, n=0)
            session.add(item)
            session.commit()
            session.refresh(item)
            return item.id

        @app.post("/read")
        def read(name: str) -> None:
            with Session(world.engine) as session:
                session.execute(sa.select(Item).where(Item.name == name))

    return app


@pytest.mark.parametrize("far", FIXED, indirect=True)
def test_how_many_round_trips_a_batch_takes(far: Far) -> None:
    """One a statement; savepoints, BEGIN and the proof before COMMIT go along where they can."""
    world, proxy = far
    driver = world.driver

    async def main() -> None:
        app = AtomicBatch(shop(world), transaction=SQLAlchemyTransaction())
        taken = 0

        async def trips(*paths: str) -> int:
            nonlocal taken
            calls = [call("POST", f"{path}?name=x{taken + n}") for n, path in enumerate(paths)]
            taken += len(paths)
            before = proxy.trips
            answer = await ask(app, *calls)
            assert answer.outcome == "committed", answer.body
            return proxy.trips - before

        try:
            paths = {"/own": 1, "/dependency": 2, "/read": 1}
            await trips(*paths)  # what is done once for a connection, or a statement
            await trips(*paths)
            fixed, a_savepoint = FIXED[driver], A_SAVEPOINT[driver]
            for path, statements in paths.items():
                for count in (1, 2, 10):
                    wanted = fixed + count * (statements + a_savepoint)
                    # A savepoint that nobody has written after serves the next one, too.
                    if path == "/read":
                        wanted = fixed + count * statements + a_savepoint
                    elif path == "/dependency":
                        wanted += a_savepoint
                    assert await trips(*[path] * count) == wanted, (path, count)
        finally:
            await world.dispose()

    asyncio.run(main())


Act = Callable[[Any], Any]


def _statement(connection: Any) -> Any:
    cursor = connection.cursor()
    found = []
    for sql, values in [
        ("INSERT INTO item (name, n) VALUES (%s, 5) RETURNING n", ("here",)),
        ("UPDATE item SET n = 6 WHERE name = 'here'", None),
        ("SELECT name, n FROM item WHERE name = 'here'", None),
    ]:
        cursor.execute(sql, *([] if values is None else [values]))
        found += [
            cursor.statusmessage,
            cursor.rowcount,
            [column[:2] for column in cursor.description or ()],
            cursor.fetchall() if cursor.description else None,
            int(connection.dbapi_connection.info.transaction_status),
        ]
        connection.commit()
    return found


def _two_statements(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("UPDATE item SET n = 6; SELECT 7")
    first = cursor.statusmessage
    if not hasattr(cursor, "copy_expert"):  # psycopg2 gives the last
        assert cursor.nextset()
    found = [first, cursor.fetchall()]
    connection.commit()
    return found


def _many(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.executemany(
        "INSERT INTO item (name, n) VALUES (%s, %s)", [(f"many{n}", n) for n in range(5)]
    )
    count = cursor.rowcount
    connection.commit()
    return count


def _server_side(connection: Any) -> Any:
    with connection.cursor("mine") as cursor:
        cursor.execute("SELECT generate_series(1, 5)")
        found = cursor.fetchmany(2) + cursor.fetchall()
    connection.rollback()
    return found


def _copy(connection: Any) -> Any:
    cursor = connection.cursor()
    if hasattr(cursor, "copy_expert"):
        import io

        cursor.copy_expert("COPY item (name, n) FROM STDIN", io.StringIO("copied\t3\n"))
    else:
        with cursor.copy("COPY item (name, n) FROM STDIN") as copy:
            copy.write_row(("copied", 3))
    connection.commit()
    cursor.execute("SELECT n FROM item WHERE name = 'copied'")
    return cursor.fetchall()


def _failures(connection: Any) -> Any:
    """Each is told by itself, and the session goes on after it."""
    cursor = connection.cursor()
    found: list[Any] = []
    for sql, values in [
        ("SELECT oops, %s", (1,)),
        ("SELECT oops", None),
        ("SELECT FROM WHERE", None),
        ("SELECT %s::int", ("x",)),
        ("INSERT INTO item (name) VALUES ('one')", None),
        ("SELECT %s", (object(),)),
        ("SELECT 1; SELECT oops", None),
    ]:
        try:
            cursor.execute(sql, *([] if values is None else [values]))
        except Exception as error:
            found.append((type(error).__name__, str(error)))
            diagnosis = getattr(error, "diag", None)
            if diagnosis is not None and diagnosis.sqlstate:
                # Else nothing was sent; then a batch has begun, and a session alone has not.
                found.append(diagnosis.statement_position)
                found.append(int(connection.dbapi_connection.info.transaction_status))
        connection.rollback()
        cursor.execute("SELECT count(*) FROM item")
        found.append(cursor.fetchall())
        connection.rollback()
    return found


def _broken(connection: Any) -> Any:
    """The server's own word for statements after one that has failed; COMMIT rolls back."""
    cursor = connection.cursor()
    found: list[Any] = []
    for sql in ("INSERT INTO item (name) VALUES ('gone')", "SELECT oops", "SELECT 1", "SELECT 2"):
        try:
            cursor.execute(sql)
        except Exception as error:
            found.append((type(error).__name__, str(error)))
    connection.commit()
    cursor.execute("SELECT name FROM item ORDER BY name")
    found.append(cursor.fetchall())
    connection.rollback()
    return found


ACTS: list[Act] = [_statement, _two_statements, _many, _server_side, _copy, _failures, _broken]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__.strip("_"))
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_a_handler_sees_of_its_statements(driver: str, act: Act, databases: Databases) -> None:
    """Alone, first in a batch, and behind a call that has written: always the same."""
    database = databases("postgresql")
    world = World(driver, database)
    found: list[Any] = []
    app = FastAPI()

    @app.post("/add")
    def add() -> None:
        with Session(world.engine) as session:
            session.add(Item(name="another", n=1))
            session.commit()
            session.execute(sa.delete(Item).where(Item.name == "another"))
            session.commit()

    @app.post("/act")
    def do() -> None:
        connection: Any = world.engine.raw_connection()
        try:
            found.append(act(connection))
        finally:
            connection.close()

    async def main() -> None:
        batches = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        try:
            for calls in (["/act"], ["/act"], ["/add", "/act"]):
                database.reset()
                if not found:
                    await ask_plainly(app, "/act")
                    continue
                answer: Answer = await ask(batches, *[call("POST", path) for path in calls])
                assert answer.outcome == "committed", answer.body
        finally:
            await world.dispose()

    asyncio.run(main())
    assert found[1] == found[0]
    assert found[2] == found[0]


async def ask_plainly(app: Any, path: str) -> None:
    from tests.transactions.sqlalchemy.test_oracle import ask_plainly

    assert (await ask_plainly(app, call("POST", path))).status == 200


@pytest.mark.parametrize("far", FIXED, indirect=True)
def test_a_batch_that_sends_nothing(far: Far) -> None:
    """A session that is opened and not used costs no round trip, and neither does its batch."""
    world, proxy = far
    app = FastAPI()

    @app.post("/idle")
    def idle() -> None:
        world.engine.raw_connection().close()

    @app.post("/idle-async")
    async def idle_async() -> None:
        async with world.async_engine.connect():
            pass

    async def main() -> None:
        batches = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        path = "/idle-async" if world.is_async else "/idle"
        try:
            await ask(batches, call("POST", path))  # which connects
            before = proxy.trips
            answer = await ask(batches, call("POST", path))
            assert answer.outcome == "committed", answer.body
            answer = await ask(batches, call("POST", path), call("POST", "/nothing"))
            assert answer.outcome == "rolled-back; failed=2; status=404"
            assert proxy.trips == before
            assert world.checked_out() == 0
        finally:
            await world.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("driver", FIXED)
def test_a_connection_that_was_lost_before_the_batch(driver: str, databases: Databases) -> None:
    """The pool did not know it; the batch is run again on another one."""
    database = databases("postgresql")
    world = World(driver, database)

    async def main() -> None:
        batches = AtomicBatch(shop(world), transaction=SQLAlchemyTransaction())
        try:
            assert (await ask(batches, call("POST", "/own?name=a"))).outcome == "committed"
            database.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            answer = await ask(batches, call("POST", "/own?name=b"))
            assert answer.outcome == "committed", answer.body
            assert answer.headers["batch-attempts"] == "2"
            assert world.checked_out() == 0
        finally:
            await world.dispose()

    asyncio.run(main())
    assert {("a", 0), ("b", 0)} <= set(database.rows())


@pytest.mark.parametrize("driver", FIXED)
@pytest.mark.parametrize("level", [None, "SERIALIZABLE", "REPEATABLE READ"])
def test_the_isolation_level_of_a_batch(
    driver: str, level: str | None, databases: Databases
) -> None:
    """It is what was asked for; afterwards the connection is as it was."""
    world = World(driver, databases("postgresql"))
    found: list[str] = []
    app = FastAPI()
    show = sa.text("SHOW transaction_isolation")

    @app.post("/show")
    def one() -> None:
        with Session(world.engine) as session:
            found.append(session.execute(show).scalar_one())

    @app.post("/show-async")
    async def one_async() -> None:
        async with AsyncSession(world.async_engine) as session:
            found.append((await session.execute(show)).scalar_one())

    async def main() -> None:
        transaction = SQLAlchemyTransaction(isolation_level=level) if level else None
        batches = AtomicBatch(app, transaction=transaction or SQLAlchemyTransaction())
        path = "/show-async" if world.is_async else "/show"
        try:
            answer = await ask(batches, call("POST", path), call("POST", path))
            assert answer.outcome == "committed", answer.body
            await ask_plainly(app, path)
        finally:
            await world.dispose()

    asyncio.run(main())
    assert found == [(level or "READ COMMITTED").lower()] * 2 + ["read committed"]


def test_a_tracers_cursors(databases: Databases) -> None:
    """A class of cursors that does something of its own in execute(): ours goes by itself."""
    database = databases("postgresql")
    seen: list[str] = []

    class Traced(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(str(query))
            super().execute("SELECT 0")
            return super().execute(query, *args, **kwargs)

    engine = sa.create_engine(
        database.url.set(drivername="postgresql+psycopg"), connect_args={"cursor_factory": Traced}
    )
    app = FastAPI()

    @app.post("/add")
    def add(name: str) -> None:
        with Session(engine) as session:
            session.add(Item(name=name, n=0))
            session.commit()

    async def main() -> None:
        batches = AtomicBatch(app, transaction=SQLAlchemyTransaction(engine))
        calls = [call("POST", f"/add?name={name}") for name in "ab"]
        assert (await ask(batches, *calls)).outcome == "committed"

    asyncio.run(main())
    engine.dispose()
    assert any("INSERT" in text for text in seen)
    assert {("a", 0), ("b", 0)} <= set(database.rows())
