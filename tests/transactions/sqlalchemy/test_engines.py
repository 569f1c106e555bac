"""Engines of every making: pools, options, events, AUTOCOMMIT; all pass the oracle."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import closing
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, StaticPool

from atomicbatch import Call, Limits, NotBatchableError
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction, attempt
from atomicbatch.transactions.sqlalchemy.engines import are_alike
from tests.asgi.asking import Answer, ask, call
from tests.databases import OTHER_MYSQL
from tests.transactions.sqlalchemy import async_patterns, patterns
from tests.transactions.sqlalchemy.oracle import RUN, Databases, add, check
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle import FastAPIFront, app_of
from tests.transactions.sqlalchemy.worlds import ASYNC, DRIVERS, Database, World

MAIN_DRIVERS = ("pysqlite", "psycopg", "pymysql", "aiosqlite", "asyncpg", "asyncmy")
CHOSEN = (
    "session_commit", "engine_begin", "raw_connection", "rolls_back_itself",
    "duplicate_is_handled", "reader_stays_open", "autocommit_connection", "leaks_a_session",
    "nested_failure_inside_a_commit", "connect_commit",
)  # fmt: skip


def asked(world: World, act: Callable[[World], Any], *calls: Call) -> Answer:
    """What a batch of calls of an app with this handler answers."""

    async def run() -> Answer:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        try:
            return await ask(app, *calls)
        finally:
            await world.dispose()

    return asyncio.run(run())


def same(world: World) -> None:
    pass


def as_documented_for_sqlite(world: World) -> None:
    """SQLAlchemy's own recipe for real transactions on sqlite3."""
    if world.family != "sqlite":
        return

    @event.listens_for(world.engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(world.engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")


def as_sub_engine(world: World) -> None:
    if world.is_async:
        world.async_engine = world.async_engine.execution_options(logging_token="sub")
        world.engine = world.async_engine.sync_engine
    else:
        world.engine = world.engine.execution_options(logging_token="sub")


def with_a_setting_per_transaction(world: World) -> None:
    if world.family == "postgresql":

        @event.listens_for(world.engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET LOCAL app.tenant = 'a'")


def with_statements_of_the_pool(world: World) -> None:
    @event.listens_for(world.engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.close()
        connection.commit()


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[World], None]]] = {
    "null-pool": ({"poolclass": NullPool}, same),
    "static-pool": ({"poolclass": StaticPool}, same),
    "one-connection": ({"pool_size": 1, "max_overflow": 0}, same),
    "pre-ping": ({"pool_pre_ping": True}, same),
    "autocommit": ({"isolation_level": "AUTOCOMMIT"}, same),
    "serializable": ({"isolation_level": "SERIALIZABLE"}, same),
    "recipe": ({}, as_documented_for_sqlite),
    "sub-engine": ({}, as_sub_engine),
    "begin-event": ({}, with_a_setting_per_transaction),
    "connect-event": ({}, with_statements_of_the_pool),
    "future-insertmanyvalues-off": ({"use_insertmanyvalues": False}, same),
}
# With one connection for all, two sessions that are open at a time wait for each other, alone too.
NEED_TWO = {"reader_stays_open", "leaks_a_session"}


AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
BY_THE_DRIVER = {"connect_args": {"autocommit": True}}


def thinned(driver: str, variant: str, pattern: Pattern) -> Any:
    """A third, with each pair of driver, variant and pattern; ``make prove`` runs the rest."""
    places = [MAIN_DRIVERS.index(driver), [*VARIANTS].index(variant), CHOSEN.index(pattern.name)]
    return pytest.mark.prove if sum(places) % 3 else ()


def cases() -> list[Any]:
    return [
        pytest.param(
            driver,
            variant,
            pattern,
            id=f"{driver}-{variant}-{pattern.name}",
            marks=thinned(driver, variant, pattern),
        )
        for driver in MAIN_DRIVERS
        for variant in VARIANTS
        for pattern in (async_patterns if driver in ASYNC else patterns).PATTERNS
        if pattern.name in CHOSEN
        and DRIVERS[driver] in pattern.families
        and not (variant in ("one-connection", "static-pool") and pattern.name in NEED_TWO)
        and not (variant == "recipe" and DRIVERS[driver] != "sqlite")
        # There InnoDB lets readers wait for writers, alone too.
        and not (
            variant == "serializable" and DRIVERS[driver] == "mysql" and pattern.name in NEED_TWO
        )
        # SAVEPOINT outside of a transaction: no database but SQLite takes that.
        and not (
            variant == "autocommit"
            and DRIVERS[driver] != "sqlite"
            and pattern.name == "nested_failure_inside_a_commit"
        )
        and not (variant == "begin-event" and DRIVERS[driver] != "postgresql")
    ]


@pytest.mark.parametrize(("driver", "variant", "pattern"), cases())
def test_every_engine(driver: str, variant: str, pattern: Pattern, databases: Databases) -> None:
    """However an engine is made, what handlers do with it is atomic."""
    options, prepare = VARIANTS[variant]
    world = World(driver, databases(DRIVERS[driver]), options)
    prepare(world)
    asyncio.run(check(world, pattern, FastAPIFront(world, pattern, SQLAlchemyTransaction())))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_named_engine(driver: str, databases: Databases) -> None:
    """An engine can be named; then batches work on it and on no other."""
    world = World(driver, databases(DRIVERS[driver]))
    engine = world.async_engine if world.is_async else world.engine
    chosen = (async_patterns if world.is_async else patterns).PATTERNS[0]
    front = FastAPIFront(world, chosen, SQLAlchemyTransaction(engine))
    asyncio.run(check(world, chosen, front))


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_engine_that_was_not_named(driver: str, databases: Databases) -> None:
    """A handler that uses another engine than those named fails the batch."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    other = sa.create_engine("sqlite://")
    before = database.rows()

    async def run() -> None:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction(other))
        answer = await ask(app, add("new"))
        assert answer.outcome == "rolled-back; failed=1; status=501"
        assert b"was not given" in answer.body
        await world.dispose()

    asyncio.run(run())
    assert database.rows() == before


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        *((name, AUTOCOMMIT) for name in ("pysqlite", "psycopg", "asyncpg", "pymysql")),
        *((name, BY_THE_DRIVER) for name in ("psycopg", "psycopg_async", "pymysql", "asyncmy")),
    ],
)
def test_autocommit_is_given_back(
    driver: str, options: dict[str, Any], databases: Databases
) -> None:
    """After a batch, the connections of an AUTOCOMMIT engine still commit by themselves."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {**options, "pool_size": 1, "max_overflow": 0})

    async def run() -> None:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        assert (await ask(app, add("batched"))).outcome == "committed"
        insert = sa.text("INSERT INTO item (name, n) VALUES ('by itself', 0)")
        if world.is_async:
            async with world.async_engine.connect() as connection:
                await connection.execute(insert)
        else:
            with world.engine.connect() as connection:
                connection.execute(insert)
        await world.dispose()

    asyncio.run(run())
    assert ("by itself", 0) in database.rows()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async", "asyncpg", "pymysql"])
def test_the_batchs_isolation_level(driver: str, databases: Databases) -> None:
    """The batch's isolation level can be chosen, and the connection gets its own back."""
    database = databases(DRIVERS[driver])
    world = World(driver, database, {"pool_size": 1, "max_overflow": 0})
    query = {
        "postgresql": "SELECT current_setting('transaction_isolation')",
        "mysql": f"SELECT @@{'transaction' if OTHER_MYSQL else 'tx'}_isolation",
    }[world.family]

    def level(_: World) -> Any:
        with world.engine.connect() as connection:
            return connection.scalar(sa.text(query))

    async def level_async(_: World) -> Any:
        async with world.async_engine.connect() as connection:
            return await connection.scalar(sa.text(query))

    pattern = Pattern(level_async if world.is_async else level, (), (), "")

    async def run() -> None:
        plain = app_of(world, pattern)
        transaction = SQLAlchemyTransaction(isolation_level="SERIALIZABLE")
        answer = await ask(AtomicBatch(plain, transaction=transaction), RUN, RUN)
        assert [reply.body.lower() for reply in answer.replies] == [b'"serializable"'] * 2
        answer = await ask(AtomicBatch(plain, transaction=SQLAlchemyTransaction()), RUN)
        assert b"serializable" not in answer.replies[0].body.lower()
        await world.dispose()

    asyncio.run(run())


@pytest.mark.parametrize("driver", DRIVERS)
def test_dispose_between_batches(driver: str, databases: Databases) -> None:
    """An engine that was disposed of and connects anew is still joined."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    async def run() -> None:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        assert (await ask(app, add("first"))).outcome == "committed"
        await world.dispose()
        assert (await ask(app, add("second"), call("POST", "/fail"))).outcome != "committed"
        assert (await ask(app, add("third"))).outcome == "committed"
        await world.dispose()

    asyncio.run(run())
    assert [name for name, n in database.rows() if n == 0] == ["first", "third"]


def two_engines(database: Database, driver: str, other_url: str) -> tuple[World, sa.Engine]:
    return World(driver, database), sa.create_engine(other_url)


@pytest.mark.parametrize("writes", [True, False])
def test_two_databases(writes: bool, databases: Databases, tmp_path: Any) -> None:
    """Two databases can be read in one batch, but only one can be changed."""
    database = databases("sqlite")
    world, other = two_engines(database, "pysqlite", f"sqlite:///{tmp_path}/other.sqlite")
    with other.begin() as connection:
        connection.execute(sa.text("CREATE TABLE log (n INTEGER)"))

    def act(_: World) -> Any:
        with other.begin() as connection:
            if writes:
                connection.execute(sa.text("INSERT INTO log VALUES (1)"))
            return connection.execute(sa.text("SELECT count(*) FROM log")).scalar_one()

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        answer = await ask(app, add("new"), RUN)
        assert (answer.outcome == "committed") is not writes
        assert (b"two databases" in answer.body) is writes
        await world.dispose()

    asyncio.run(run())
    assert (("new", 0) in database.rows()) is not writes
    with other.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM log")).scalar_one() == 0
    other.dispose()


def test_an_engine_outside(databases: Databases, tmp_path: Any) -> None:
    """What is done with an engine outside is stored at once, and also when the batch fails."""
    database = databases("sqlite")
    world, other = two_engines(database, "pysqlite", f"sqlite:///{tmp_path}/other.sqlite")
    with other.begin() as connection:
        connection.execute(sa.text("CREATE TABLE log (n INTEGER)"))

    def act(_: World) -> Any:
        with other.begin() as connection:
            connection.execute(sa.text("INSERT INTO log VALUES (1)"))

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")),
            transaction=SQLAlchemyTransaction(outside=(other,)),
        )
        assert (await ask(app, add("new"), RUN)).outcome == "committed"
        assert (await ask(app, RUN, call("POST", "/fail"))).outcome != "committed"
        await world.dispose()

    asyncio.run(run())
    with other.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM log")).scalar_one() == 2
    other.dispose()


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg", "pymysql"])
def test_two_engines_with_one_url(driver: str, databases: Databases) -> None:
    """An engine to read by and one to write by share the transaction, where their URL is one."""
    database = databases(DRIVERS[driver])
    world, reader = World(driver, database), World(driver, database)

    def act(_: World) -> Any:
        with reader.engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM item")).scalar_one()

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        answer = await ask(app, add("new"), RUN)
        assert answer.outcome == "committed", answer.body
        assert answer.replies[1].body == b"3"
        assert world.checked_out() == reader.checked_out() == 0
        await world.dispose()
        await reader.dispose()

    asyncio.run(run())
    assert ("new", 0) in database.rows()


def _hook(connection: Any, record: Any) -> None:
    """An app's own function that makes connections what they should be."""


OTHER_WAYS: dict[str, Callable[[World], sa.Engine]] = {
    "autocommit": lambda world: sa.create_engine(world.url, isolation_level="AUTOCOMMIT"),
    "arguments": lambda world: sa.create_engine(world.url, connect_args={"timeout": 9}),
    "creator": lambda world: sa.create_engine(world.url, creator=world.database.connect),
    "reset": lambda world: sa.create_engine(world.url, pool_reset_on_return="commit"),
    "serializer": lambda world: sa.create_engine(world.url, json_serializer=str),
    "path": lambda world: sa.create_engine(
        f"sqlite:///{os.path.relpath(world.url.database or '')}"
    ),
    "uri": lambda world: sa.create_engine(f"sqlite:///file:{world.url.database}?uri=true"),
}


@pytest.mark.parametrize("way", [*OTHER_WAYS, "hook"])
def test_two_engines_that_are_not_alike(way: str, databases: Databases) -> None:
    """One's connection cannot stand for the other's where their options or hooks differ."""
    database = databases("sqlite")
    world = World("pysqlite", database)
    if way == "hook":
        other = sa.create_engine(world.url)
        sa.event.listen(other, "connect", _hook)
    else:
        other = OTHER_WAYS[way](world)

    def act(_: World) -> Any:
        with other.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM item")).scalar_one()

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        answer = await ask(app, add("new"), RUN)
        assert answer.outcome == "rolled-back; failed=2; status=501", answer.body
        assert b"two engines of one database" in answer.body
        await world.dispose()

    asyncio.run(run())
    other.dispose()
    assert ("new", 0) not in database.rows()


def test_two_engines_of_one_database(databases: Databases) -> None:
    """Two engines of one database would not see each other's work: refused."""
    database = databases("postgresql")
    world = World("psycopg", database)
    other = World("psycopg2", replace(database, url=database.url.set(host="localhost")))

    def act(_: World) -> Any:
        with other.engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM item")).scalar_one()

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        answer = await ask(app, add("new"), RUN)
        assert answer.outcome == "rolled-back; failed=2; status=501"
        assert b"two engines of one database" in answer.body
        await world.dispose()
        await other.dispose()

    asyncio.run(run())
    assert ("new", 0) not in database.rows()


def test_what_is_no_engine() -> None:
    """Only engines can be named."""
    with pytest.raises(TypeError, match="an engine is needed"):
        SQLAlchemyTransaction("sqlite://")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_batches"):
        SQLAlchemyTransaction(max_batches=0)


def test_a_database_that_we_do_not_know() -> None:
    """An engine of another kind of database is refused."""
    from atomicbatch.transactions.sqlalchemy.dialects import family_of

    dialect = sa.create_engine("sqlite://").dialect
    dialect.name = "oracle"
    with pytest.raises(NotBatchableError, match="oracle"):
        family_of(dialect)


def test_checkout_hooks_run_for_each_session(databases: Databases) -> None:
    """A tenant that the pool's event "checkout" sets is that of the call, not of the first one."""
    world = World("psycopg", databases("postgresql"))
    tenant: ContextVar[str] = ContextVar("tenant", default="")

    @event.listens_for(world.engine, "checkout")
    def checkout(connection: Any, *_: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT set_config('app.tenant', %s, false)", (tenant.get(),))
        cursor.close()
        connection.commit()

    plain = FastAPI()

    @plain.post("/tenant")
    def read(name: str) -> Any:
        tenant.set(name)
        with world.engine.connect() as connection:
            return connection.scalar(sa.text("SELECT current_setting('app.tenant')"))

    async def run() -> Answer:
        app = AtomicBatch(plain, transaction=SQLAlchemyTransaction())
        calls = [call("POST", f"/tenant?name={name}") for name in "aba"]
        try:
            return await ask(app, *calls)
        finally:
            await world.dispose()

    answer = asyncio.run(run())
    assert [reply.body for reply in answer.replies] == [b'"a"', b'"b"', b'"a"']


@pytest.mark.parametrize("replies", [200, 500])
def test_a_procedure_that_commits(replies: int, databases: Databases) -> None:
    """A stored procedure that commits fails the batch at once, and is never run again."""
    database = databases("mysql")
    database.run("DROP PROCEDURE IF EXISTS bump")
    database.run(
        "CREATE PROCEDURE bump() BEGIN"
        " START TRANSACTION; UPDATE item SET n = n + 1 WHERE name = 'one'; COMMIT; END"
    )
    world = World("pymysql", database)

    def act(_: World) -> None:
        with world.engine.begin() as connection:
            connection.execute(sa.text("CALL bump()"))
        if replies == 500:
            raise RuntimeError

    answer = asked(world, act, RUN, add("after"))
    assert answer.outcome == "rolled-back; failed=1; status=500"
    assert b"may be stored" in answer.body
    assert database.rows() == [("one", 11), ("two", 20)]


PROCEDURES = {
    "begins again": "COMMIT; START TRANSACTION",
    "signals a deadlock": "COMMIT; SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213",
    "waits for a lock": "COMMIT; START TRANSACTION; UPDATE item SET n = 0 WHERE name = 'two'",
}


@pytest.mark.parametrize("what", PROCEDURES)
@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_procedure_that_commits_and_goes_on(driver: str, what: str, databases: Databases) -> None:
    """Whatever happens to it after its COMMIT: it is told, and never run again."""
    database = databases("mysql")
    database.run("DROP PROCEDURE IF EXISTS bump_and_go_on")
    database.run(
        "CREATE PROCEDURE bump_and_go_on() BEGIN"
        f" UPDATE item SET n = n + 1 WHERE name = 'one'; {PROCEDURES[what]}; END"
    )
    world = World(driver, database)

    def act(_: World) -> None:
        with world.engine.begin() as connection:
            connection.execute(sa.text("SET innodb_lock_wait_timeout = 1"))
            connection.execute(sa.text("CALL bump_and_go_on()"))

    async def act_async(_: World) -> None:
        async with world.async_engine.begin() as connection:
            await connection.execute(sa.text("SET innodb_lock_wait_timeout = 1"))
            await connection.execute(sa.text("CALL bump_and_go_on()"))

    async def run() -> Answer:
        pattern = Pattern(act_async if world.is_async else act, (), (), "")
        app = AtomicBatch(app_of(world, pattern), transaction=SQLAlchemyTransaction())
        try:
            return await ask(app, RUN, call("POST", "/fail"))
        finally:
            await world.dispose()

    with closing(database.connect()) as other:
        if what == "waits for a lock":
            other.begin()
            other.cursor().execute("UPDATE item SET n = 20 WHERE name = 'two'")
        answer = asyncio.run(run())
        other.rollback()
    assert answer.outcome == "rolled-back; failed=1; status=500"
    assert b"may be stored" in answer.body
    assert database.rows() == [("one", 11), ("two", 20)]


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_procedure_with_several_results(autocommit: bool, databases: Databases) -> None:
    """All of them are there, as without a batch; nothing of ours comes between."""
    database = databases("mysql")
    database.run("DROP PROCEDURE IF EXISTS two_results")
    database.run(
        "CREATE PROCEDURE two_results() BEGIN"
        " SELECT name FROM item ORDER BY id; UPDATE item SET n = 7; SELECT n FROM item; END"
    )
    world = World("pymysql", database)

    def act(_: World) -> Any:
        raw = world.engine.raw_connection()
        if autocommit:
            raw.driver_connection.autocommit(True)  # type: ignore[union-attr]
        cursor = raw.cursor()
        cursor.execute("CALL two_results()")
        found = [list(cursor.fetchall())]
        while cursor.nextset():
            found.append(list(cursor.fetchall()))
        raw.commit()
        raw.close()
        return found

    answer = asked(world, act, RUN, add("after"))
    assert answer.outcome == "committed", answer.body
    assert answer.replies[0].body == b'[[["one"],["two"]],[[7],[7]],[]]'
    assert database.rows() == [("after", 0), ("one", 7), ("two", 7)]


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_procedure_that_is_rolled_back(driver: str, databases: Databases) -> None:
    """A session that has called one may roll back, or be closed without a commit."""
    database = databases("mysql")
    database.run("DROP PROCEDURE IF EXISTS look")
    database.run(
        "CREATE PROCEDURE look() BEGIN"
        " UPDATE item SET n = 7 WHERE name = 'one'; SELECT n FROM item; END"
    )
    world = World(driver, database)
    look, change = sa.text("CALL look()"), sa.text("UPDATE item SET n = 8 WHERE name = 'two'")

    def act(_: World) -> None:
        with Session(world.engine) as session:
            session.execute(look)
            session.rollback()
            session.execute(change)
            session.commit()
        with Session(world.engine) as session:
            session.execute(look)

    async def act_async(_: World) -> None:
        async with AsyncSession(world.async_engine) as session:
            await session.execute(look)
            await session.rollback()
            await session.execute(change)
            await session.commit()
        async with AsyncSession(world.async_engine) as session:
            await session.execute(look)

    answer = asked(world, act_async if world.is_async else act, RUN, add("after"))
    assert answer.outcome == "committed", answer.body
    assert database.rows() == [("after", 0), ("one", 10), ("two", 8)]


@pytest.mark.parametrize("driver", ["pysqlite", "psycopg", "psycopg2", "pymysql"])
@pytest.mark.parametrize("slow", [False, True])
def test_a_transaction_that_ends_unseen(slow: bool, driver: str, databases: Databases) -> None:
    """Before ROLLBACK it is proved to be the one still that was begun; else that is told."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)
    begun, go_on = threading.Event(), threading.Event()

    def act(_: World) -> None:
        current = attempt.current_call.get()
        assert current is not None
        # Nothing that a handler can get at does that.
        connection: Any = current.attempt.reals[0].fairy.dbapi_connection
        connection.commit()
        if world.family == "sqlite":
            connection.cursor().execute("BEGIN")
        begun.set()
        if slow:
            go_on.wait(30)

    async def run() -> Answer:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")),
            transaction=SQLAlchemyTransaction(),
            limits=Limits(timeout_seconds=0.5 if slow else 60),
        )
        try:
            return await ask(app, add("stored"), RUN, call("POST", "/fail"))
        finally:
            go_on.set()
            await world.dispose()

    answer = asyncio.run(run())
    assert answer.outcome.endswith("status=500"), answer.body
    assert b"may be stored" in answer.body
    assert b"unless it had been committed" in answer.body
    assert ("stored", 0) in database.rows()


def test_the_record_that_hooks_are_given(databases: Databases) -> None:
    """A checkout hook may use the pool's record of the connection as it may use the connection."""
    database = databases("sqlite")
    world = World("pysqlite", database)
    seen: list[bool] = []

    @event.listens_for(world.engine, "checkout")
    def hook(connection: Any, record: Any, proxied: Any) -> None:
        record.dbapi_connection.cursor().execute("SELECT 1")
        seen.append(record.driver_connection is proxied.driver_connection)

    async def run() -> Answer:
        app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
        try:
            return await ask(app, add("new"))
        finally:
            await world.dispose()

    assert asyncio.run(run()).outcome == "committed"
    assert seen
    assert all(seen)


# SQLAlchemy refuses to take MySQL for MariaDB.
NAMES_OF_MYSQL = ("mysql",) if OTHER_MYSQL else ("mysql", "mariadb")


def names_of_dialects() -> list[str]:
    """As in URLs: MariaDB's drivers go by two names."""
    names = [(driver, *driver.removesuffix("_async").rpartition("-")) for driver in DRIVERS]
    return [
        f"{driver}:{name}+{rest}"
        for driver, dialect, _, rest in names
        for name in (
            NAMES_OF_MYSQL if DRIVERS[driver] == "mysql" else (dialect or DRIVERS[driver],)
        )
    ]


@pytest.mark.parametrize("name", names_of_dialects())
def test_engines_are_alike_warm_or_cold(name: str, databases: Databases) -> None:
    """What an engine learns on its first connection makes it no other engine."""
    driver, _, drivername = name.partition(":")
    url = databases(DRIVERS[driver]).url.set(drivername=drivername)
    options: dict[str, Any] = {"isolation_level": "SERIALIZABLE", "poolclass": NullPool}

    async def run() -> None:
        if driver in ASYNC:
            warm = create_async_engine(url, **options)
            cold = create_async_engine(url, **options).sync_engine
            async with warm.connect():
                assert are_alike(warm.sync_engine, cold)
                assert are_alike(cold, warm.sync_engine)
        else:
            one, cold = sa.create_engine(url, **options), sa.create_engine(url, **options)
            with one.connect():
                assert are_alike(one, cold)
                assert are_alike(cold, one)

    asyncio.run(run())


@pytest.mark.parametrize("before", ["unknown", "set to nothing by an earlier batch"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_setting_of_an_extension(driver: str, before: str, databases: Databases) -> None:
    """It is nothing until its extension is loaded; from then on, nothing is no value for it."""
    database = databases("postgresql")
    database.run(
        "CREATE OR REPLACE FUNCTION loads() RETURNS text LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN current_setting('plpgsql.variable_conflict'); END $$"
    )
    world = World(driver, database, {"pool_size": 1, "max_overflow": 0})
    found: list[Any] = []

    def act(_: World) -> None:
        with world.engine.begin() as connection:
            connection.execute(sa.text("SET plpgsql.variable_conflict = use_column"))
            if len(found) >= (before != "unknown"):
                found.append(connection.execute(sa.text("SELECT loads()")).scalar())
            else:
                found.append("not loaded")
        with world.engine.begin() as connection:
            text = "SELECT current_setting('plpgsql.variable_conflict', true)"
            found.append(connection.execute(sa.text(text)).scalar() or "nothing")

    async def run() -> None:
        app = AtomicBatch(
            app_of(world, Pattern(act, (), (), "")), transaction=SQLAlchemyTransaction()
        )
        for _ in range(1 + (before != "unknown")):
            answer = await ask(app, RUN, add(f"after{len(found)}"))
            assert answer.outcome == "committed", answer.body
        await world.dispose()

    asyncio.run(run())
    earlier = ["not loaded", "nothing"] if before != "unknown" else []
    # The setting outlives its session's transaction, but reaches nobody else.
    assert found == [*earlier, "use_column", "error"]
