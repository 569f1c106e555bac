"""COMMIT is refused by the database itself, by every driver's way of saying so: a rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pymysql
import pytest
import sqlalchemy as sa

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call
from tests.transactions.sqlalchemy.oracle import Databases, add
from tests.transactions.sqlalchemy.test_commit_faults import MYSQL, POSTGRESQL
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import DRIVERS, SEED, Database, SomebodyElse, World

# What a trigger does that runs at COMMIT, and the status it comes to.
REFUSALS = {
    "raises": ("RAISE EXCEPTION 'no'", 409),
    "is a constraint": ("RAISE unique_violation", 409),
    "divides by zero": ("PERFORM 1 / 0", 500),
    "knows no table": ("PERFORM 1 FROM nowhere", 500),
    "is cancelled": ("PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(10)", 500),
    "needs a lock": ("LOCK TABLE taken NOWAIT", 500),
}


async def send(
    world: World, somebody_else: SomebodyElse, between: Callable[[], object] = lambda: None
) -> tuple[Answer, Answer]:
    """
    Send a batch that is refused, and another after it on the same connection.

    Args:
        world: Where to.
        somebody_else: Whom no batch knows.
        between: What they do while the batch runs.
    """
    try:
        app = app_of(world)

        @app.post("/between")
        async def go_between() -> str:
            somebody_else.do(between)
            return "done"

        batch = AtomicBatch(app, transaction=SQLAlchemyTransaction())
        answer = await ask(batch, add("new1"), call("POST", "/between"))
        assert world.checked_out() == 0
        return answer, await ask(batch, call("POST", "/between"))
    finally:
        await world.dispose()


@contextmanager
def trigger_at_commit(database: Database, does: str) -> Iterator[None]:
    database.run(
        f"CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN {does}; RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER refuses AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuses()",
    )
    try:
        yield
    finally:
        database.run("DROP TRIGGER refuses ON item", "DROP FUNCTION refuses()")


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("driver", POSTGRESQL)
def test_postgresql_refuses(driver: str, how: str, databases: Databases) -> None:
    """Whatever a deferred trigger does; the connection is kept, and in order."""
    database = databases(DRIVERS[driver])
    does, status = REFUSALS[how]
    with trigger_at_commit(database, does), taken(database), SomebodyElse() as somebody_else:
        answer, later = asyncio.run(send(World(driver, database, {"pool_size": 1}), somebody_else))
    assert answer.outcome == f"rolled-back; failed=commit; status={status}"
    assert b"unless" not in answer.body
    assert later.outcome == "committed"
    assert database.rows() == SEED


@contextmanager
def taken(database: Database) -> Iterator[None]:
    """A table that somebody else has locked."""
    database.run("CREATE TABLE IF NOT EXISTS taken (x INTEGER)")
    other = database.connect()
    try:
        other.execute("BEGIN")
        other.execute("LOCK TABLE taken")
        yield
    finally:
        other.close()


@pytest.mark.parametrize("driver", MYSQL)
def test_mariadb_refuses(driver: str, mysql_url_alone: str) -> None:
    """A server that has become read-only meanwhile, for instance to be replaced."""
    database = Database("mysql", sa.make_url(mysql_url_alone))
    database.create()
    database.reset()
    own = pymysql.connect(
        host=database.url.host or "",
        port=database.url.port or 0,
        user=database.url.username,
        password=database.url.password or "",
        autocommit=True,
        ssl_disabled=True,
    )
    with own, own.cursor() as cursor:
        cursor.execute("CREATE USER IF NOT EXISTS limited@'127.0.0.1' IDENTIFIED BY 'secret'")
        cursor.execute(f"GRANT SELECT, INSERT ON {database.url.database}.* TO limited@'127.0.0.1'")
        limited = Database("mysql", database.url.set(username="limited"))
        try:
            world = World(driver, limited, {"pool_size": 1})
            with SomebodyElse() as somebody_else:
                answer, later = asyncio.run(
                    send(world, somebody_else, lambda: database.run("SET GLOBAL read_only = 1"))
                )
        finally:
            cursor.execute("SET GLOBAL read_only = 0")
    assert answer.outcome == "rolled-back; failed=commit; status=500"
    assert b"unless" not in answer.body
    assert later.outcome == "committed"
    assert database.rows() == SEED
