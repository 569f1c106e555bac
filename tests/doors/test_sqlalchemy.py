"""An engine's connections are set up as all others; an engine without a door asks the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from atomicbatch import doors
from atomicbatch.errors import NotBatchableError
from tests.doors.in_batches import batch_of, run_batch
from tests.stores import Store

ADD = sa.text("INSERT INTO t (name) SELECT current_setting('TimeZone')")


def _url(store: Store) -> str:
    return store.url.replace("postgresql://", "postgresql+psycopg://")


def _set_up(connection: Any, _: Any) -> None:
    """As SQLAlchemy's own docs say it is done."""
    before, connection.autocommit = connection.autocommit, True
    cursor = connection.cursor()
    cursor.execute("SET SESSION TIME ZONE 'Asia/Tokyo'")
    cursor.close()
    connection.autocommit = before


def test_connections_that_a_call_opens(postgresql_store: Store) -> None:
    """One from before, and one that the pool opens in the call, are alike, in and after it."""
    doors.install()
    engine = sa.create_engine(_url(postgresql_store))
    sa.event.listen(engine, "connect", _set_up)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))

    def work() -> None:
        with engine.begin() as one, engine.connect() as two:
            one.execute(ADD)
            two.execute(sa.text("SELECT 1"))

    assert run_batch(work).outcome == "committed"
    with engine.begin() as one, engine.begin() as two:
        one.execute(ADD)
        two.execute(ADD)
    engine.dispose()
    assert postgresql_store.rows() == ["Asia/Tokyo"] * 3


@pytest.mark.parametrize("pool", [None, NullPool])
def test_connections_that_an_async_call_opens(pool: Any, postgresql_store: Store) -> None:
    """Likewise by an async engine, with a pool and without."""
    doors.install()

    async def go() -> None:
        engine = create_async_engine(_url(postgresql_store), poolclass=pool)
        sa.event.listen(engine.sync_engine, "connect", _set_up)

        async def work() -> None:
            async with engine.begin() as one, engine.connect() as two:
                await one.execute(ADD)
                await two.execute(sa.text("SELECT 1"))

        assert (await batch_of(work, work)).outcome == "committed"
        async with engine.begin() as connection:
            await connection.execute(ADD)
        await engine.dispose()

    asyncio.run(go())
    assert postgresql_store.rows() == ["Asia/Tokyo"] * 3


# Drivers without a door --------------------------------------------------------------------------


def _add(engine: sa.Engine, *, hides: bool = False) -> Callable[[], str]:
    def work() -> str:
        try:
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO t (name) VALUES (:name)"), {"name": "x"})
        except NotBatchableError:
            if not hides:
                raise
        return "added"

    return work


def _add_many(engine: sa.Engine) -> Callable[[], str]:
    def work() -> str:
        with engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO t (name) VALUES (:name)"), [{"name": "x"}, {"name": "y"}]
            )
        return "added"

    return work


def _add_as_it_is(engine: sa.Engine) -> Callable[[], str]:
    def work() -> str:
        with engine.begin() as connection:
            without = {"no_parameters": True}
            connection.exec_driver_sql(
                "INSERT INTO t (name) VALUES ('x')", execution_options=without
            )
        return "added"

    return work


WAYS: dict[str, Callable[[sa.Engine], Callable[[], str]]] = {
    "one": _add,
    "hidden": partial(_add, hides=True),
    "many": _add_many,
    "as it is": _add_as_it_is,
}


@pytest.fixture
def pg8000(postgresql_store: Store) -> Iterator[sa.Engine]:
    doors.install()
    engine = sa.create_engine(postgresql_store.url.replace("postgresql:", "postgresql+pg8000:"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("way", WAYS)
def test_what_an_engine_without_a_door_writes(
    way: str, pg8000: sa.Engine, postgresql_store: Store
) -> None:
    """It is refused before it is sent, by its driver's name; outside of batches it works."""
    answer = run_batch(WAYS[way](pg8000))
    assert answer.outcome == "rolled-back; failed=1; status=501"
    told = answer.replies[0].body.decode()
    name = postgresql_store.url.rpartition("/")[2]
    assert f"a handler writes (INSERT) to {name} by sqlalchemy (pg8000), at " in told
    assert "transaction=[SQLAlchemyTransaction(), DriverTransaction()]" in told
    assert r"outside=(\"pg8000\",)" in told
    assert postgresql_store.rows() == []
    assert WAYS[way](pg8000)() == "added"
    assert postgresql_store.rows() != []


def test_what_an_engine_without_a_door_reads(pg8000: sa.Engine) -> None:
    """It may."""

    def work() -> int:
        with pg8000.begin() as connection:
            return int(connection.scalar(sa.text("SELECT count(*) FROM t")) or 0)

    answer = run_batch(work)
    assert (answer.outcome, answer.replies[0].body) == ("committed", b"0")


@pytest.mark.parametrize("name", ["pg8000", "sqlalchemy", "by its place"])
def test_an_engine_without_a_door_that_is_allowed(
    name: str, pg8000: sa.Engine, postgresql_store: Store
) -> None:
    """By the driver's name, the library's, or where it leads to."""
    allowed = postgresql_store.url if name == "by its place" else name
    answer = run_batch(_add(pg8000), outside=(allowed,))
    assert answer.outcome == "committed"
    assert postgresql_store.rows() == ["x"]


def test_a_dialect_that_names_a_driver_otherwise(postgresql_store: Store) -> None:
    """What counts is whether the connection has a door."""
    doors.install()
    engine = sa.create_engine(_url(postgresql_store))
    engine.dialect.driver = "ours"
    assert run_batch(_add(engine)).outcome == "committed"
    assert postgresql_store.rows() == ["x"]
    engine.dispose()
