"""SQLAlchemy's handlers by the drivers' doors alone: without the door of its engines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import hook
from tests.transactions.sqlalchemy.oracle import Databases, check
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle import FastAPIFront, cases
from tests.transactions.sqlalchemy.worlds import DRIVERS, World


@pytest.fixture(autouse=True)
def _without_the_door_of_engines(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # A traceback that is kept for the report would keep connections from going back to the pool.
    caplog.set_level(logging.CRITICAL, "atomicbatch")
    hook.uninstall()
    yield
    hook.install()


# What the door of engines cannot see, and therefore refuses.
SEEN = ("detaches", "drivers_own_query", "drivers_own_transaction")


def thinned() -> Iterator[Any]:
    """
    Each pattern by half of the drivers, in turn; ``make prove`` runs the rest.

    By the engines' door, each is run by each driver. What that door sees and this one does not is
    always run.
    """
    for case in cases():
        driver, pattern = case.values
        place = [*DRIVERS].index(driver) + len(pattern.name)
        again = place % 2 and pattern.name not in SEEN
        yield (
            pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.prove])
            if again
            else case
        )


@pytest.mark.parametrize(("driver", "pattern"), [*thinned()])
def test_alone_and_in_batches(driver: str, pattern: Pattern, databases: Databases) -> None:
    """A pattern does in a batch what it does alone, also where the engines' door sees nothing."""
    world = World(driver, databases(DRIVERS[driver]))
    is_seen = DRIVERS[driver] == "sqlite" or pattern.name in SEEN
    by_door = replace(pattern, refused=() if is_seen else pattern.refused)
    transaction: Any = DriverTransaction()
    asyncio.run(check(world, by_door, FastAPIFront(world, by_door, transaction)))
