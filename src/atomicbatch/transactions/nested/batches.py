"""One attempt at a batch inside of a layer: what it stores is undone with the layer."""

from __future__ import annotations

from typing import Any

from atomicbatch.doors.server_uses import Kind
from atomicbatch.errors import TransactionError
from atomicbatch.guard import Allowed
from atomicbatch.guard.watch import watching
from atomicbatch.join.session import OVER
from atomicbatch.model import Batch
from atomicbatch.transactions.nested.files import NestedFile
from atomicbatch.transactions.nested.layers import Layer
from atomicbatch.transactions.nested.servers import NestedAsync, NestedSync, WiredUse
from atomicbatch.transactions.servers.attempt import DriverAttempt, Uses
from atomicbatch.transactions.servers.introduction import Introduction
from atomicbatch.transactions.servers.real import ServerReal
from atomicbatch.transactions.slots import Slots
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

    stands_in_line = False

    def __init__(
        self, layer: Layer, memory: Memory, allowed: Allowed, batch: Batch, deadline: float
    ) -> None:
        super().__init__(memory, allowed, batch, deadline)
        self._layer = layer
        self._prefix = f"ab{layer.depth + 1}"

    def slots(self, key: tuple[str, ...]) -> Slots:
        return self._layer.line(key)

    def use_of(self, connection: Any, *, executes: bool) -> Any:
        if connection._atomicbatch.opened_in is not watching.get():
            connection._atomicbatch.opened_in = None  # the test's, to which the batch belongs
        return super().use_of(connection, executes=executes)

    def check_place(self, kind: Kind) -> None:
        if not self._layer.wires.are_here():
            super().check_place(kind)

    def _make_use(self, connection: Any, kind: Kind) -> Uses:
        if kind.is_async:
            return WiredUse(self, connection, kind, self._layer.wires)
        return super()._make_use(connection, kind)

    def _real(self, database: Database) -> Real:
        outer = self._layer.file(database)
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real: Real | None = self._reals.get(database.key)
            if real is None:
                real = NestedFile(self, database, outer, self._prefix, self._layer.batches)
                self._reals[database.key] = real
            return real

    def _real_of(
        self,
        introduction: Introduction,
        kind: Kind,
        make: type[ServerReal],  # noqa: ARG002  # others are made here
    ) -> Any:
        layer = self._layer
        outer = layer.server(introduction, kind)
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(introduction.key)
            if real is None:
                more = (outer, self._prefix, layer.batches)
                if kind.is_async:
                    real = NestedAsync(self, kind, introduction, layer.wires, *more)
                else:
                    real = NestedSync(self, kind, introduction, *more)
                self._reals[introduction.key] = real
        real.check_kind(kind)
        real.check_alike(introduction)
        return real
