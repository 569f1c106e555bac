"""
sqlite3's handlers without any web framework: it has other transaction modes from Python 3.12 on.

This file needs nothing but pytest, so that it runs on every Python that is at hand.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from atomicbatch import Batch
from atomicbatch.engine import Rollback, contexts
from atomicbatch.errors import NotBatchableError
from atomicbatch.transactions import DriverTransaction
from tests.transactions.drivers.files import File
from tests.transactions.drivers.libraries import Handler
from tests.transactions.drivers.of_sqlite3 import HANDLERS


def run(handler: Handler, file: File, *, undo: bool) -> str:
    from atomicbatch.engine.current import RunningBatch, running_batch

    contexts.install()
    with (
        running_batch(RunningBatch()),
        DriverTransaction().begin(Batch(()), deadline=time.monotonic() + 30),
    ):
        reply = json.dumps(handler.act(file.path))
        if undo:
            raise Rollback
    return reply


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.name)
def test_alone_and_in_a_batch(handler: Handler, tmp_path: Path) -> None:
    """Reply and rows are the same; after a rollback there are none."""
    file = File(tmp_path / "shop.sqlite")
    before = file.rows()
    alone, rows = json.dumps(handler.act(file.path)), file.rows()
    file.reset()
    refused: NotBatchableError | None = None
    try:
        assert run(handler, file, undo=False) == alone
    except NotBatchableError as error:
        refused = error
    # Some are refused only where another connection works in the batch.
    if refused is not None:
        assert handler.because
        assert handler.because in str(refused)
    assert file.rows() == (rows if refused is None else before)
    file.reset()
    with pytest.raises((Rollback, NotBatchableError)):
        run(handler, file, undo=True)
    assert file.rows() == before
