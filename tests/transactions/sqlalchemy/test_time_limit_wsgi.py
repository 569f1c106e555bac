"""The time limit of a batch of a WSGI app whose database falls silent, at each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from atomicbatch import Limits
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.proxies import Fault
from tests.transactions.sqlalchemy.oracle import FAIL, Databases, add
from tests.transactions.sqlalchemy.patterns import Pattern
from tests.transactions.sqlalchemy.test_oracle_wsgi import app_of
from tests.transactions.sqlalchemy.test_time_limit import (
    LATE,
    LIMITS,
    STAGES,
    behind_a_proxy,
    is_too_early,
    transactions,
)
from tests.transactions.sqlalchemy.worlds import World
from tests.wsgi.asking import ask

NOTHING = Pattern(lambda _: None, (), (), "")


def limited(world: World, seconds: float) -> Any:
    return AtomicBatch(
        app_of(world, NOTHING).wsgi_app,
        transaction=SQLAlchemyTransaction(),
        limits=Limits(timeout_seconds=seconds),
    )


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("driver", "stage"),
    [
        (driver, stage)
        for driver in ("psycopg", "pymysql")
        for stage in STAGES
        # A thread cannot be called back from a driver's connect(); pymysql sends no BEGIN.
        if stage != "connect" and not (stage == "begin" and driver == "pymysql")
    ],
)
def test_a_database_that_falls_silent(driver: str, stage: str, databases: Databases) -> None:
    """The client is told in time and the truth; the next batch finds a database in order."""
    with behind_a_proxy(driver, databases) as (proxy, world, database):
        patient = limited(world, 30)
        assert ask(patient, add("before")).outcome == "committed"
        where = STAGES[stage]
        assert where is not None
        calls = [add("first"), add("second"), *([FAIL] if stage == "rollback" else [])]
        for limit in LIMITS:
            proxy.when(where[0], Fault.STOP, at=where[1])
            began = time.monotonic()
            answer = ask(limited(world, limit), *calls)
            assert time.monotonic() - began < limit + LATE
            if not is_too_early(stage, proxy, answer.outcome):
                break
            proxy.resume()
        if stage.startswith("commit"):
            assert (answer.status, answer.outcome) == (503, "unknown")
        elif stage == "rollback":
            assert answer.outcome == "rolled-back; failed=3; status=409"
        else:
            assert answer.outcome == "rolled-back; failed=1; status=504"
        proxy.resume()
        wait_until(lambda: transactions(database) == 0)
        stored = {name for name, _ in database.rows()} & {"first", "second"}
        assert stored in (set(), {"first", "second"})
        if not stage.startswith("commit"):
            assert not stored
        if stage == "commit's answer":
            assert stored
        assert ask(patient, add("after")).outcome == "committed"
        assert world.checked_out() == 0
        world.engine.dispose()
        assert "after" in {name for name, _ in database.rows()}
