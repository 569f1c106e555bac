"""A layer: everything that is stored for a time, in any thread and event loop, is undone then."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Hashable
from typing import Any, Protocol

from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.errors import TransactionError, kind_of
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller
from atomicbatch.join.checkout import OVER
from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.stack import Virtual
from atomicbatch.join.status import Phase
from atomicbatch.model import Batch
from atomicbatch.sql.kinds import Kind
from atomicbatch.transactions.nested.files import NestedFile
from atomicbatch.transactions.nested.watch import LayerWatch
from atomicbatch.transactions.servers.attempt import DriverAttempt
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.memory import Memory
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.real import Real
from atomicbatch.transactions.sqlite.turns import Turn
from atomicbatch.transactions.sqlite.use import ConnectionUse

# For a lock that another process has: there is no batch whose time could be up.
_PATIENCE_SECONDS = 60.0
# How long code of the layer waits for a batch inside of it.
_BATCH_SECONDS = 10.0
_MEANWHILE = (
    "the app uses the database outside of a batch while the batch runs, whose rollback would undo "
    "that as well: in a test both share one transaction; let one end before the other begins"
)


class Ended(Protocol):
    """What tells that a transaction is over: ``threading.Event``."""

    def wait(self, timeout: float) -> bool:
        """Wait for it; tell whether it is."""


class Layer(DriverAttempt):
    """
    An attempt of which nothing is ever committed; it may be inside of another one.

    It has one call, from its beginning to its end, so that sessions may stay open meanwhile.

    Args:
        allowed: What is left alone: what is done with it stays.
        outer: The layer around it. Where that has begun, there is a savepoint of it here.

    Attributes:
        outer: The same.
        inner: The layer inside of it that is open, or None.
        watch: What the drivers' doors ask.
        whole: The call.
        batches: The transactions of batches inside of it that are open, by their databases.
    """

    def __init__(self, allowed: Allowed, outer: Layer | None) -> None:
        super().__init__(Memory(), allowed, Batch(()), 0.0)
        self.outer = outer
        self.inner: Layer | None = None
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.watch = LayerWatch(self, allowed)
        self.whole = self.call()
        self.batches: dict[Hashable, Ended] = {}
        if outer is not None:
            outer.inner = self

    @property
    def deadline(self) -> float:
        """Time is never up; but nobody waits for ever."""
        return time.monotonic() + _PATIENCE_SECONDS

    @deadline.setter
    def deadline(self, _: float) -> None:
        pass

    @property
    def problem(self) -> TransactionError | None:
        """Why something could not be kept to be undone; None: all is well so far."""
        return self.error or self.watch.error or self.watch.told_by_child()

    def end(self) -> None:
        """
        Undo everything, in the thread that has begun it.

        ``problem`` then also tells what something has committed meanwhile, a procedure say.
        """
        self.phase = Phase.UNDONE
        for real in self.begun:
            try:
                real.rollback()
            except Exception as error:
                self.escaped(f"it could not be rolled back ({kind_of(error)})").__cause__ = error
        self.whole.ended = True
        self.watch.end(undone=True)
        self._forget()
        if self.outer is not None:
            self.outer.inner = None

    # What doors ask ----------------------------------------------------------------------------

    def use_of(self, connection: Any, *, executes: bool) -> ConnectionUse | None:
        origin: Origin = connection._atomicbatch
        # A database in memory: it may be there for longer than this layer.
        origin.opened_in = None
        use = super().use_of(connection, executes=executes)
        if use is not None and executes and self.batches:
            self._let_batch_end(use.real.database.key)
        return use

    def _let_batch_end(self, key: Hashable) -> None:
        ended = self.batches.get(key)
        if ended is None:
            return
        if asyncio._get_running_loop() is not None or not ended.wait(_BATCH_SECONDS):
            self.refuse(_MEANWHILE)

    # Its transactions --------------------------------------------------------------------------

    def turn(self, database: Database) -> Turn:  # noqa: ARG002
        return Turn()  # there is no other

    def file(self, database: Database) -> Real:
        """The transaction in a database, which may not have begun."""
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            key = database.key
            real: Real | None = self._reals.get(key)
            if real is None:
                outer = self._begun_around(key)
                if outer is None:
                    real = Real(self, database)
                else:
                    real = NestedFile(self, database, outer, self._prefix)
                real.transaction.savepoints = LayerSavepoints(self, key, real, self._prefix)
                self._reals[key] = real
            return real

    _real = file

    @property
    def _prefix(self) -> str:
        return f"ab{self.depth}" if self.depth else "ab"

    def _begun_around(self, key: Hashable) -> Any:
        """The innermost transaction in a database that has begun around this layer."""
        layer = self.outer
        while layer is not None:
            real = layer._reals.get(key)
            if real is not None and real.transaction.is_open:
                return real
            layer = layer.outer
        return None

    def _leaves_alone(self, database: Database) -> bool:
        # What is logged into a database is undone as well, unlike in a batch.
        return self._allowed.allows((), database.place) or self._allowed.allows(
            (*caller().libraries, "sqlite3"), None
        )

    def _begin_real(self, real: Real, state: State, connection: sqlite3.Connection) -> None:
        self.check_uncovered(real.database.key)
        super()._begin_real(real, state, connection)

    def close_private(self, real: Real) -> None:
        """A database in memory is about to be closed, and all that was stored in it is gone."""
        key = real.database.key
        layer: Layer | None = self
        while layer is not None:
            found = layer._reals.pop(key, None)
            if found is not None:
                found.rollback()
            layer = layer.outer

    def check_uncovered(self, key: Hashable) -> None:
        """Refuse what would be undone too early: with a layer inside of this one."""
        layer = self.inner
        while layer is not None:
            real = layer._reals.get(key)
            if real is not None and real.transaction.is_open:
                self.refuse(
                    "a fixture stores something for longer than what is stored already by "
                    "fixtures of a narrower scope, with which it would be undone; let those "
                    "request it, so that it comes first"
                )
            layer = layer.inner


class _Use(ConnectionUse):
    """A use in a layer: a database in memory may be closed, with all that was stored in it."""

    def note_close(self) -> None:
        layer = self.checkout.transaction.status
        if self.real.adopted is not None and isinstance(layer, Layer):
            layer.close_private(self.real)
        super().note_close()


Layer._kind_of_use = _Use


class LayerSavepoints(Savepoints):
    """
    The savepoints of a layer: writes are refused that would be undone too early.

    Args:
        layer: Whose they are.
        key: Of the database.
        real: Its transaction there.
        prefix: What their names begin with.
    """

    __slots__ = ("_key", "_layer")

    def __init__(self, layer: Layer, key: Hashable, real: Real, prefix: str) -> None:
        super().__init__(real.transaction.connection, real.transaction.settings, prefix)
        self._layer = layer
        self._key = key

    def before(self, virtual: Virtual, kind: Kind) -> list[str]:
        if kind is not Kind.READ and self._layer.inner is not None:
            self._layer.check_uncovered(self._key)
        return super().before(virtual, kind)

    def note_alone(self, kind: Kind) -> None:
        if kind is not Kind.READ and self._layer.inner is not None:
            self._layer.check_uncovered(self._key)
        super().note_alone(kind)
