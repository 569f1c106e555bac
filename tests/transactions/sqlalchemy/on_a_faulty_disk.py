"""A program for a disk that may fail: one batch before it does, one while it does, then a crash."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import sqlalchemy as sa

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import ask
from tests.transactions.sqlalchemy.oracle import add
from tests.transactions.sqlalchemy.test_oracle import app_of
from tests.transactions.sqlalchemy.worlds import Database, World


async def main(driver: str, path: str, how: str) -> None:
    world = World(driver, Database("sqlite", sa.make_url(f"sqlite:///{path}")))
    sa.event.listen(
        world.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=FULL").close()
    )
    app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
    assert (await ask(app, add("first"))).outcome == "committed"
    (Path(os.environ["FAULTY_DISK"]) / how).touch()
    answer = await ask(app, add("new1"), add("new2"))
    print(answer.status, answer.outcome, world.checked_out(), flush=True)
    os._exit(0)  # nothing is closed, as when the power is cut


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
