"""Two sessions of one call in turn, on PostgreSQL: what one rolls back is undone for it alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tests.asgi.asking import ask
from tests.transactions.sqlalchemy.oracle import RUN, Databases
from tests.transactions.sqlalchemy.test_lifecycle import joined, run
from tests.transactions.sqlalchemy.worlds import Item, World

TENANT = sa.text("SELECT current_setting('app.tenant', true)")


@pytest.mark.slow
def test_setting_rolled_back_after_foreign_commit(databases: Databases) -> None:
    """SET LOCAL ends with a rollback, also where another session has committed since."""
    database = databases("postgresql")
    world = World("psycopg", database)
    found: list[str | None] = []

    def act(_: World) -> None:
        with Session(world.engine) as reader, Session(world.engine) as writer:
            reader.execute(sa.text("SET LOCAL app.tenant = 'a'"))
            writer.add(Item(name="new", n=1))
            writer.commit()
            reader.scalars(sa.select(Item)).all()
            reader.scalars(sa.select(Item).with_for_update()).all()
            reader.rollback()
            found.append(writer.scalar(TENANT))

    answer = run(world, lambda: ask(joined(world, act), RUN))
    assert answer.outcome == "committed"
    assert found in ([None], [""])
    assert ("new", 1) in database.rows()


@pytest.mark.slow
@pytest.mark.parametrize("wrote_before", [True, False])
def test_failed_transaction_stays_failed(wrote_before: bool, databases: Databases) -> None:
    """Where a statement has failed, another session's rollback does not make COMMIT work again."""
    database = databases("postgresql")
    world = World("psycopg", database)

    def act(_: World) -> Any:
        with world.engine.connect() as other, world.engine.connect() as failed:
            if wrote_before:
                failed.execute(sa.text("INSERT INTO item (name) VALUES ('lost')"))
            other.execute(sa.text("INSERT INTO item (name) VALUES ('other')"))
            with suppress(sa.exc.DBAPIError):
                failed.execute(sa.text("SELECT 1 / 0"))
            other.rollback()
            if not wrote_before:
                with suppress(Exception):
                    failed.execute(sa.text("INSERT INTO item (name) VALUES ('lost')"))
            failed.commit()

    run(world, lambda: ask(joined(world, act), RUN))
    assert database.rows() == [("one", 10), ("two", 20)]


@pytest.mark.slow
def test_setting_that_another_session_was_to_undo(databases: Databases) -> None:
    """What SET LOCAL has set ends with its commit, whoever rolls back afterwards."""
    database = databases("postgresql")
    world = World("psycopg", database)
    found: list[str | None] = []

    def act(_: World) -> None:
        with Session(world.engine) as setter, Session(world.engine) as reader:
            setter.execute(sa.text("SET LOCAL app.tenant = 'a'"))
            reader.scalars(sa.select(Item)).all()
            setter.commit()
            with suppress(sa.exc.DBAPIError):
                reader.execute(sa.text("SELECT 1 / 0"))
            reader.rollback()
        with Session(world.engine) as later:
            found.append(later.scalar(TENANT))

    answer = run(world, lambda: ask(joined(world, act), RUN))
    assert answer.outcome != "committed" or found in ([None], [""])
    assert found != ["a"]
