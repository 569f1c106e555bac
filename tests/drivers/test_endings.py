"""What the failure of a savepoint of ours means, by way of every driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from atomicbatch.drivers.endings import CANCELLED, savepoint_failed, says_gone
from tests.drivers.lines import ASYNC_NAMES, SYNC_NAMES, Line

DRIVERS = SYNC_NAMES | ASYNC_NAMES


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("act", ["RELEASE", "ROLLBACK TO"])
def test_a_savepoint_that_is_gone(
    name: str, act: str, drivers_databases: Callable[[str], str]
) -> None:
    """Somebody has ended the transaction that it was in, and begun another."""
    with Line(name, drivers_databases(DRIVERS[name])) as line:
        line.begin()
        line.send("SAVEPOINT ours", "COMMIT")
        line.begin()
        with pytest.raises(Exception, match=r".") as gone:
            line.send(f"{act} SAVEPOINT ours")
        line.rollback()
        assert says_gone(gone.value)
        with pytest.raises(Exception, match=r".") as other:
            line.send("SELECT nothing FROM nowhere")
        assert not says_gone(other.value)


def test_whose_fault_it_is() -> None:
    """A cancellation, the driver or the database: each is told apart."""
    told = {
        savepoint_failed(asyncio.CancelledError()),
        savepoint_failed(RuntimeError("no answer of a database")),
    }
    assert len(told) == 2
    assert CANCELLED in told
