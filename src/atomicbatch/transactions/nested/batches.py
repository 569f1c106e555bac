"""One attempt at a batch inside of a layer: what it stores is undone with the layer."""

from __future__ import annotations

import sqlite3
from typing import Any

from atomicbatch.guard import Allowed
from atomicbatch.model import Batch
from atomicbatch.transactions.nested.files import NestedFile
from atomicbatch.transactions.nested.layers import Layer
from atomicbatch.transactions.servers.attempt import DriverAttempt
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.memory import Memory
from atomicbatch.transactions.sqlite.real import Real


class NestedAttempt(DriverAttempt):
    """
    One attempt at a batch. Its COMMIT keeps what it has done for as long as the layer lasts.

    Args:
        layer: What it is inside of.
        memory: What all batches inside of layers share.
        allowed: What batches leave alone.
        batch: What is attempted.
        deadline: When time is up, as time.monotonic() tells.
    """

    def __init__(
        self, layer: Layer, memory: Memory, allowed: Allowed, batch: Batch, deadline: float
    ) -> None:
        super().__init__(memory, allowed, batch, deadline)
        self._layer = layer

    def use_of(self, connection: Any, *, executes: bool) -> Any:
        connection._atomicbatch.opened_in = None
        return super().use_of(connection, executes=executes)

    def _real(self, database: Database) -> Real:
        outer = self._layer.file(database)
        with self._lock:
            real: Real | None = self._reals.get(database.key)
            if real is None:
                real = _File(self, self._layer, database, outer)
                self._reals[database.key] = real
            return real


class _File(NestedFile):
    """The batch's transaction, known to its layer while it is open."""

    def __init__(
        self, attempt: NestedAttempt, layer: Layer, database: Database, outer: Real
    ) -> None:
        super().__init__(attempt, database, outer, f"ab{layer.depth + 1}")
        self._layer = layer

    def _open(self, state: Any, adopted: sqlite3.Connection | None, at_once: bool) -> None:
        super()._open(state, adopted, at_once)
        self._layer.batches[self.database.key] = self.ended

    def _close(self) -> None:
        self._layer.batches.pop(self.database.key, None)
        super()._close()
