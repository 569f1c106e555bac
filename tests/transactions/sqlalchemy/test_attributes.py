"""What would change the connection that all calls share is refused, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from tests.asgi.asking import Answer, ask
from tests.transactions.sqlalchemy.oracle import RUN, Databases, add
from tests.transactions.sqlalchemy.test_lifecycle import joined, run
from tests.transactions.sqlalchemy.worlds import DRIVERS, World

Change = Callable[[Any], Any]


def _dumper(raw: Any) -> None:
    from psycopg.types.string import StrDumper

    raw.adapters.register_dumper(float, StrDumper)


CHANGES: list[tuple[str, str, Change]] = [
    ("pysqlite", "create_function", lambda raw: raw.create_function("ours", 1, str.upper)),
    ("pysqlite", "create_collation", lambda raw: raw.create_collation("ours", lambda a, b: 0)),
    ("pysqlite", "set_authorizer", lambda raw: raw.set_authorizer(None)),
    ("pysqlite", "set_progress_handler", lambda raw: raw.set_progress_handler(None, 1)),
    ("psycopg", "adapters", _dumper),
    ("psycopg", "add_notice_handler", lambda raw: raw.add_notice_handler(print)),
    ("psycopg2", "set_client_encoding", lambda raw: raw.set_client_encoding("LATIN1")),
    ("pymysql", "set_charset", lambda raw: raw.set_charset("latin1")),
]


@pytest.mark.parametrize(("driver", "name", "change"), CHANGES, ids=[one[1] for one in CHANGES])
def test_what_changes_the_connection(
    driver: str, name: str, change: Change, databases: Databases
) -> None:
    """The batch fails, and the message says what to do instead."""
    database = databases(DRIVERS[driver])
    world = World(driver, database)

    def act(world: World) -> None:
        with world.engine.connect() as connection:
            change(connection.connection.driver_connection)

    answer: Answer = run(world, lambda: ask(joined(world, act), add("new"), RUN))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert f"a handler uses {name} of the driver's connection".encode() in answer.body
    assert b"when connections are made (the pool's event 'connect')" in answer.body
    assert ("new", 0) not in database.rows()


@pytest.mark.parametrize("name", ["set_type_codec", "set_builtin_type_codec", "add_log_listener"])
def test_what_changes_asyncpgs_own(name: str, databases: Databases) -> None:
    """A codec that one call registers would be all others' too."""
    database = databases("postgresql")
    world = World("asyncpg", database)

    async def act(world: World) -> None:
        async with world.async_engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            getattr(driver, name)

    answer: Answer = run(world, lambda: ask(joined(world, act), add("new"), RUN))
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert f"a handler uses {name} of the driver's connection".encode() in answer.body
    assert ("new", 0) not in database.rows()


def test_in_transaction_is_the_sessions_own(databases: Databases) -> None:
    """sqlite3's in_transaction says what it would say alone, not that the batch has begun."""
    world = World("pysqlite", databases("sqlite"))
    seen: list[list[bool]] = []

    def act(world: World) -> None:
        seen.append(told := [])
        with world.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            told.append(raw.in_transaction)
            connection.execute(sa.text("SELECT 1"))
            told.append(raw.in_transaction)
            connection.execute(sa.text("UPDATE item SET n = n"))
            told.append(raw.in_transaction)
            connection.commit()
            told.append(raw.in_transaction)

    act(world)
    answer: Answer = run(world, lambda: ask(joined(world, act), add("new"), RUN))
    assert answer.outcome == "committed"
    assert seen == [[False, False, True, False]] * 2
