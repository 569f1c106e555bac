"""An engine's connections that are opened in a batch are set up as all others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from atomicbatch import doors
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
