"""
A program for a disk that may fail: one batch before it does, one while it does, then a crash.

Each argument is a folder ``DRIVER-HOW``, with a database, in which the disk fails in that way. Each
has a process of its own, made by this one, so that all is imported once.
"""

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


async def main(folder: Path) -> None:
    driver, _, how = folder.name.partition("-")
    os.environ["FAULTY_DISK"] = str(folder)
    world = World(driver, Database("sqlite", sa.make_url(f"sqlite:///{folder / 'test.sqlite'}")))
    sa.event.listen(
        world.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=FULL").close()
    )
    app = AtomicBatch(app_of(world), transaction=SQLAlchemyTransaction())
    assert (await ask(app, add("first"))).outcome == "committed"
    (folder / how).touch()
    answer = await ask(app, add("new1"), add("new2"))
    print(answer.status, answer.outcome, world.checked_out(), flush=True)
    os._exit(0)  # nothing is closed, as when the power is cut


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        child = os.fork()
        if not child:
            asyncio.run(main(Path(argument)))
        assert os.waitpid(child, 0)[1] == 0
