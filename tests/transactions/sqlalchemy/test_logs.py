"""What a crowd of batches leaves in the log: a line each, and nothing of ours, or of the rows."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.engine import Replay
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import Answer, ask, call
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.test_replay import Meeting, app_with
from tests.transactions.sqlalchemy.worlds import DRIVERS, World

MANY = [32, pytest.param(100, marks=pytest.mark.prove)]


async def crowd(world: World, hide: str, batches: int) -> list[Answer]:
    """Send many batches at once that read and change two rows, each in the other's way."""
    try:
        app = AtomicBatch(
            app_with(world, Meeting(4), hide),
            transaction=SQLAlchemyTransaction(isolation_level="SERIALIZABLE"),
            replay=Replay(max_attempts=2, base_seconds=0.001),
            limits=Limits(timeout_seconds=120),
        )
        batch = [call("POST", f"/change?name={name}") for name in ("one", "two")]
        answers = []
        for _ in range(batches // 4):
            answers += await asyncio.gather(*(ask(app, *batch) for _ in range(4)))
        return answers
    finally:
        await world.dispose()


@pytest.mark.parametrize("batches", MANY)
@pytest.mark.parametrize("hide", ["", "as 500"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "asyncmy"])
def test_conflicts_take_a_line_each(
    driver: str, hide: str, batches: int, databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    """Run again or given up: one WARNING a batch, no traceback, and nothing of the rows."""
    world = World(driver, databases(DRIVERS[driver]))
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "sqlalchemy.engine")
    answers = asyncio.run(crowd(world, hide, batches))
    met = [
        answer
        for answer in answers
        if "batch-attempts" in answer.headers or answer.outcome != "committed"
    ]
    assert met, "nobody was in anybody's way"
    text = "\n".join(line(record) for record in caplog.records)
    assert len(text.splitlines()) <= len(met)
    assert len(text.encode()) <= 200 * len(met)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "Traceback" not in text
    assert "item" not in text
    assert "secret" not in text


def line(record: Any) -> str:
    return logging.Formatter("%(levelname)s %(name)s %(message)s").format(record)
