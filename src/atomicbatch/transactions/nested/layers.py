"""A layer: everything that is stored for a time, in any thread and event loop, is undone then."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Hashable
from functools import partial
from inspect import isawaitable
from typing import Any

from atomicbatch.doors.server_uses import Kind
from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.errors import (
    BrokenTransactionError,
    NotBatchableError,
    TransactionError,
    kind_of,
)
from atomicbatch.guard import Allowed
from atomicbatch.guard.callers import caller
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Phase
from atomicbatch.model import Batch
from atomicbatch.transactions.nested.covered import CoveredSavepoints
from atomicbatch.transactions.nested.dropped import Dropped
from atomicbatch.transactions.nested.files import NestedFile, Opened
from atomicbatch.transactions.nested.servers import NestedAsync, NestedSync, Wired, WiredUse
from atomicbatch.transactions.nested.watch import LayerWatch
from atomicbatch.transactions.nested.wires import Wires
from atomicbatch.transactions.nested.words import for_tests
from atomicbatch.transactions.servers.attempt import DriverAttempt, Uses
from atomicbatch.transactions.servers.introduction import Introduction
from atomicbatch.transactions.servers.real import ServerReal
from atomicbatch.transactions.servers.sync_real import SyncReal
from atomicbatch.transactions.slots import Slots
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
    "an AtomicBatch is at work, and something outside of it uses the database meanwhile, which its "
    "rollback would undo as well: both share one transaction; let one end before the other begins"
)


class Layer(DriverAttempt):
    """
    An attempt of which nothing is ever committed; it may be inside of another one.

    It has one call, from its beginning to its end, so that sessions may stay open meanwhile.

    Args:
        allowed: What is left alone: what is done with it stays.
        outer: The layer around it. Where that has begun, there is a savepoint of it here.
        wires: Where wires of async drivers live.

    Attributes:
        outer, wires: The same.
        inner: The layer inside of it that is open, or None.
        watch: What the drivers' doors ask.
        whole: The call.
        batches: The transactions of batches inside of it that are open, by their databases.
    """

    stands_in_line = False

    def __init__(self, allowed: Allowed, outer: Layer | None, wires: Wires) -> None:
        super().__init__(Memory(), allowed, Batch(()), 0.0)
        self.outer = outer
        self.wires = wires
        self.inner: Layer | None = None
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.watch = LayerWatch(self, allowed)
        self.whole = self.call()
        self.batches: Opened = {}
        self._lines: dict[Hashable, Slots] = {}
        self._dropped = Dropped()
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
        return self.error or self.watch.hear()

    def end(self) -> None:
        """
        Undo everything, in the thread that has begun it.

        ``problem`` then also tells what something has committed meanwhile, a procedure say.
        """
        self.phase = Phase.UNDONE
        for real in self.begun:
            try:
                self._roll_back(real)
            except Exception as error:
                self.escaped(f"it could not be rolled back ({kind_of(error)})").__cause__ = error
        self.whole.ended = True
        self.watch.end(undone=True)
        self._forget()
        if self.outer is not None:
            self.outer.inner = None

    def refusal(self, what: str) -> NotBatchableError:
        return super().refusal(for_tests(what))

    def escaped(self, what: str) -> BrokenTransactionError:
        return super().escaped(for_tests(what))

    # What doors ask ----------------------------------------------------------------------------

    def use_of(self, connection: Any, *, executes: bool) -> ConnectionUse | None:
        origin: Origin = connection._atomicbatch
        if origin.opened_in is self.watch and origin.thread not in (None, self._thread):
            return None  # in memory, and a thread's own, which alone can use it
        # A database in memory: it may be there for longer than this layer.
        origin.opened_in = None
        use = super().use_of(connection, executes=executes)
        if use is not None and executes and self.batches:
            self._let_batch_end(use.real.database.key)
        return use

    def server_use_of(self, connection: Any, kind: Kind, *, executes: bool) -> Uses | None:
        if executes and self._dropped and not kind.is_async:
            self._dropped.close()
        use = super().server_use_of(connection, kind, executes=executes)
        if use is not None and use._real is not None and executes and self.batches:
            self._let_batch_end(use._real.introduction.key)
        return use

    def _make_use(self, connection: Any, kind: Kind) -> Uses:
        if kind.is_async:
            use: Uses = WiredUse(self, connection, kind, self.wires, self._dropped)
        else:
            use = super()._make_use(connection, kind)
        self._dropped.follow(connection, use)
        return use

    def check_place(self, kind: Kind) -> None:
        """Anywhere: nobody else is there who would have to wait, and wires have their own loop."""

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
                real.transaction.savepoints = self._covered(key, real)
                self._reals[key] = real
            return real

    _real = file

    @property
    def _prefix(self) -> str:
        return f"ab{self.depth}" if self.depth else "ab"

    def _covered(self, key: Hashable, real: Any) -> CoveredSavepoints:
        check = partial(self.uncover, key)
        return CoveredSavepoints(real.transaction, self._prefix, check)

    def _begun_around(self, key: Hashable) -> Any:
        """The innermost transaction in a database that has begun around this layer."""
        layer = self.outer
        while layer is not None:
            real = layer._reals.get(key)
            if real is not None and real.transaction.is_open:
                return real
            layer = layer.outer
        return None

    def slots(self, key: tuple[str, ...]) -> Slots:  # noqa: ARG002
        return Slots(1)  # there is no other

    def line(self, key: Hashable) -> Slots:
        """The line for batches inside of it that work in a server's database."""
        with self._lock:
            return self._lines.setdefault(key, Slots(1))

    def _real_of(
        self,
        introduction: Introduction,
        kind: Kind,
        make: type[ServerReal],  # noqa: ARG002  # others are made here
    ) -> Any:
        real = self.server(introduction, kind)
        if self.batches:
            self._let_batch_end(introduction.key)
        return real

    def server(self, introduction: Introduction, kind: Kind) -> Any:
        """The transaction in a server's database, which may not have begun."""
        key = introduction.key
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(key)
            if real is None:
                real = self._reals[key] = self._make_server(introduction, kind)
                real.transaction.savepoints = self._covered(key, real)
        real.check_kind(kind)
        real.check_alike(introduction)
        if not real.transaction.is_open:
            self.uncover(key)
        return real

    def _make_server(self, introduction: Introduction, kind: Kind) -> ServerReal:
        outer = self._begun_around(introduction.key)
        if outer is None:
            if kind.is_async:
                return Wired(self, kind, introduction, self.wires)
            return SyncReal(self, kind, introduction)
        outer.check_kind(kind)
        outer.check_alike(introduction)
        if kind.is_async:
            return NestedAsync(self, kind, introduction, self.wires, outer, self._prefix)
        return NestedSync(self, kind, introduction, outer, self._prefix)

    def _is_left_alone(self, connection: Any, kind: Kind) -> bool:
        named = kind.named
        return self._allowed.allows((named.name, *caller().libraries), named.place(connection))

    def _leaves_alone(self, database: Database) -> bool:
        # What is logged into a database is undone as well, unlike in a batch.
        return self._allowed.allows((), database.place) or self._allowed.allows(
            (*caller().libraries, "sqlite3"), None
        )

    def _begin_real(self, real: Real, state: State, connection: sqlite3.Connection) -> None:
        self.uncover(real.database.key)
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

    def uncover(self, key: Hashable) -> None:
        """
        Before something is stored here: end what is open inside, if that has stored nothing.

        Its end would undo what is stored here now. If it has stored something, that is refused.
        """
        covering = self._open_inside(key)
        if not covering:
            return
        if any(layer._reals[key].transaction.wrote for layer in covering) or self.wires.are_here():
            self.refuse(
                "a fixture stores something for longer than what fixtures of a narrower scope "
                "have stored already, with which it would be undone; let those request it, so "
                "that it comes first"
            )
        for layer in covering:
            layer.forget(key)

    def _open_inside(self, key: Hashable) -> list[Layer]:
        """The layers inside that have begun in a database, the innermost first."""
        found: list[Layer] = []
        layer = self.inner
        while layer is not None:
            real = layer._reals.get(key)
            if real is not None and real.transaction.is_open:
                found.insert(0, layer)
            layer = layer.inner
        return found

    def forget(self, key: Hashable) -> None:
        """End a transaction that has stored nothing, as if it had never begun."""
        real = self._reals.pop(key)
        uses = self.whole.uses
        for identity, use in list(uses.items()):
            if getattr(use, "real", None) is real or getattr(use, "_real", None) is real:
                del uses[identity]
        self._roll_back(real)

    def _roll_back(self, real: Any) -> None:
        done = real.rollback()
        if isawaitable(done):
            self.wires.run(done)


class _Use(ConnectionUse):
    """A use in a layer: a database in memory may be closed, with all that was stored in it."""

    def note_close(self) -> None:
        layer = self.checkout.transaction.status
        if self.real.adopted is None or not isinstance(layer, Layer):
            super().note_close()
            return
        layer.close_private(self.real)
        self._is_closed = self.checkout.closed = True
        self.checkout.virtual = None


Layer._kind_of_use = _Use
