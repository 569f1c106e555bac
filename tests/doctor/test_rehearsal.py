"""What an app is examined with: nothing is left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from atomicbatch.doctor.rehearsal import everything, rehearsal_of
from atomicbatch.guard.places import of_file
from atomicbatch.join.diagnosis import Used
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction


def test_an_app_without_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines and drivers take part; drivers alone where SQLAlchemy is not in use."""
    assert type(everything()).__name__ == "Together"
    monkeypatch.delitem(sys.modules, "sqlalchemy")
    assert type(everything()) is DriverTransaction
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setitem(sys.modules, "atomicbatch.transactions.sqlalchemy", None)
    assert type(everything()) is DriverTransaction


def test_what_is_outside(tmp_path: Path) -> None:
    """It takes part, so that it is rolled back, and is known for what it is."""
    path = tmp_path / "logs.sqlite"
    engine = sa.create_engine(f"sqlite:///{path}")
    used = Used("logs", of_file(path), True)
    for own in (
        DriverTransaction(outside=(path,)),
        [SQLAlchemyTransaction(outside=(engine,)), DriverTransaction()],
        [SQLAlchemyTransaction(), DriverTransaction(outside=(str(path),))],
    ):
        rehearsal = rehearsal_of(own)
        assert rehearsal.transaction.outside == ()
        assert rehearsal.leaves_alone(used)
        assert not rehearsal.leaves_alone(used._replace(place=of_file(tmp_path / "shop.sqlite")))
    rehearsal = rehearsal_of(SQLAlchemyTransaction(outside=(engine,)))
    assert rehearsal.leaves_alone(used._replace(place=engine.url))


def test_an_adapter_of_the_apps_own() -> None:
    """One that knows of no rehearsals is used as it is: it is never committed."""
    own = object()
    rehearsal = rehearsal_of(own)
    assert (rehearsal.transaction, rehearsal.adapters) == (own, "")
