"""A connection of a pool, as the join sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy.util import greenlet_spawn

from atomicbatch.drivers import pep249
from atomicbatch.transactions.sqlalchemy.pooled import PooledLink
from tests.transactions.sqlalchemy.worlds import DRIVERS, Database, World

# What asyncpg does not show has to be asked of the server.
KNOWN = [name for name in DRIVERS if "asyncpg" not in name]


@pytest.mark.parametrize("driver", DRIVERS)
def test_whether_a_failed_statement_stops_all_others(
    driver: str, databases: Callable[[str], Database]
) -> None:
    """On PostgreSQL it does, and most drivers know it without asking; elsewhere it never does."""
    world = World(driver, databases(DRIVERS[driver]))
    found: list[bool | None] = []

    def work() -> None:
        fairy = world.engine.raw_connection()
        try:
            pep249.send(fairy, ["DELETE FROM item WHERE name = 'nobody'"])
            link = PooledLink(
                world.engine, fairy, lambda: None, level=None, deadline=0.0, at_once=False
            )
            found.append(link.is_aborted())
            with pytest.raises(Exception, match="nothing"):
                link.send(["SELECT * FROM nothing"])
            found.append(link.is_aborted())
            fairy.rollback()
            found.append(link.is_aborted())
        finally:
            fairy.close()

    async def on_a_loop() -> None:
        await greenlet_spawn(work)
        await world.async_engine.dispose()

    if world.is_async:
        asyncio.run(on_a_loop())
    else:
        work()
        world.engine.dispose()
    if driver in KNOWN:
        assert found == [False, world.family == "postgresql", False]
    else:
        assert found == [None, None, False]
