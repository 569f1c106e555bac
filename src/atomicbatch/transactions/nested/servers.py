"""The transaction inside of one in a server's database; and the wires of async drivers."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from atomicbatch.doors.server_uses import Kind
from atomicbatch.errors import BrokenTransactionError, NotBatchableError
from atomicbatch.guard.callers import caller
from atomicbatch.join.awaiting import run_async
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.status import Health, Stage
from atomicbatch.join.steps import Steps, run
from atomicbatch.transactions.nested.dropped import Dropped
from atomicbatch.transactions.nested.files import GONE, Opened
from atomicbatch.transactions.nested.links import NestedAsyncLink, NestedLink
from atomicbatch.transactions.nested.wires import Wires
from atomicbatch.transactions.servers.async_real import AsyncReal
from atomicbatch.transactions.servers.async_use import AsyncUse
from atomicbatch.transactions.servers.introduction import Introduction
from atomicbatch.transactions.servers.real import Host, ServerReal
from atomicbatch.transactions.servers.sync_real import SyncReal
from atomicbatch.transactions.servers.use import Hall

T = TypeVar("T")


class Nested(ServerReal):
    """
    A transaction that is a savepoint of another one's, on the same wire.

    Args:
        attempt: Whose it is.
        kind: Of the driver.
        introduction: Of the app's connection that was first.
        outer: The transaction around it; it is begun if it has not been.
        prefix: What the names of its savepoints begin with.
        opened: Where it is noted while it is open; None: nowhere.
    """

    _outer: Any

    def _nest(self, outer: Any, prefix: str, opened: Opened | None) -> None:
        self._outer = outer
        self._root = f"{prefix}_0"
        self._opened = opened
        self._ended = threading.Event()
        # What the wire was set up by counts for all that work on it.
        self.introduction = outer.introduction
        transaction = self.transaction
        own = Savepoints(transaction.connection, transaction.settings, prefix)
        own.checks_deferred = transaction.savepoints.checks_deferred
        transaction.savepoints = own
        self.inside = outer.inside

    def _take_over(self, make_link: Callable[..., Any]) -> None:
        outer, transaction = self._outer, self.transaction
        outer.is_used = True
        self.wire, self._stopper = outer.wire, outer._stopper
        transaction.level = outer.transaction.level
        self._note_link(make_link(outer.link, self._root, lambda: not transaction.connection.held))
        if self._opened is not None:
            self._opened[self.introduction.key] = self._ended

    def _let_go(self) -> None:
        if self._opened is not None:
            self._opened.pop(self.introduction.key, None)
        self._ended.set()
        self._stopper = None  # it is the outer's
        super()._let_go()

    def _sever(self) -> None:
        """Never: the connection is the outer's."""

    def _note_end(self) -> None:
        if self.transaction.connection.health >= Health.LOST:
            self._outer.transaction.status.doom(BrokenTransactionError(GONE, may_be_stored=False))


class NestedSync(Nested, SyncReal):
    """By a sync driver."""

    def __init__(
        self,
        attempt: Host,
        kind: Kind,
        introduction: Introduction,
        outer: Any,
        prefix: str,
        opened: Opened | None = None,
    ) -> None:
        super().__init__(attempt, kind, introduction)
        self._nest(outer, prefix, opened)

    def _open(self, owner: Any) -> None:
        outer = self._outer
        if not outer.transaction.is_open:
            outer.begin(owner)
        if outer.transaction.connection.held:
            run(outer.transaction.connection.send(()), outer.link)
        self._take_over(NestedLink)
        run(self.transaction.begin(), self.link)
        self.transaction.mark_open()

    def rollback(self) -> None:
        super().rollback()
        self._note_end()

    def _close(self) -> None:
        try:
            if self.transaction.stage is Stage.OPEN:
                self._run(self.transaction.rollback())  # its beginning has failed at last
        finally:
            self._let_go()


class Wired(AsyncReal):
    """
    A transaction by an async driver, whose wire lives on an event loop of its own.

    Args:
        wires: That loop.
    """

    def __init__(self, attempt: Host, kind: Kind, introduction: Introduction, wires: Wires) -> None:
        super().__init__(attempt, kind, introduction)
        self._wires = wires

    async def commit(self) -> None:
        await self._wires.do(super().commit())

    async def rollback(self) -> None:
        await self._wires.do(super().rollback())


class NestedAsync(Nested, Wired):
    """By an async driver."""

    def __init__(
        self,
        attempt: Host,
        kind: Kind,
        introduction: Introduction,
        wires: Wires,
        outer: Any,
        prefix: str,
        opened: Opened | None = None,
    ) -> None:
        Wired.__init__(self, attempt, kind, introduction, wires)
        self._nest(outer, prefix, opened)

    async def _open(self, owner: Any) -> None:
        outer = self._outer
        if not outer.transaction.is_open:
            await outer.begin(owner)
        if outer.transaction.connection.held:
            await run_async(outer.transaction.connection.send(()), outer.link)
        self._take_over(NestedAsyncLink)
        await run_async(self.transaction.begin(), self.link)
        self.transaction.mark_open()

    async def commit(self) -> None:
        await Wired.commit(self)

    async def rollback(self) -> None:
        await Wired.rollback(self)
        self._note_end()

    def undo(self) -> None:
        """Its own end undoes it: nothing of the outer's may be cut off."""

    async def _close(self) -> None:
        try:
            if self.transaction.stage is Stage.OPEN:
                await self._run(self.transaction.rollback())
        finally:
            self._let_go()


class WiredUse(AsyncUse):
    """
    A use of a connection by an async driver: what is done for it is done where the wire is.

    Args:
        hall: Finds the transaction, once it is needed.
        owner: The app's connection, which belongs to the app's event loop.
        kind: Of its driver.
        wires: The loop of the wire.
        dropped: Connections that have to be ended before something is sent.
    """

    def __init__(
        self,
        hall: Hall,
        owner: Any,
        kind: Kind,
        wires: Wires,
        dropped: Dropped | None = None,
    ) -> None:
        super().__init__(hall, owner, kind)
        self._wires = wires
        self._dropped = dropped

    async def perform_async(
        self, sql: str, parameters: Iterable[Any] | None, perform: Callable[[Any], Awaitable[T]]
    ) -> T | Any:
        await self._find()
        return await self._told(super().perform_async(sql, parameters, perform), self._stop)

    async def close(self) -> None:
        await self._wires.do(super().close())

    async def _run(self, act: Callable[[Checkout], Steps[T]], perform: Any = None) -> T:
        await self._find()
        return await self._told(super()._run(act, perform))

    async def _told(
        self, coroutine: Coroutine[Any, Any, T], stop: Callable[[], None] | None = None
    ) -> T:
        """Await it on the wires' loop. What is refused there says where it was done here."""
        try:
            return await self._wires.do_whole(coroutine, stop)
        except NotBatchableError as error:
            error.stands_at(caller().place)
            raise

    def _make_ready(self, checkout: Checkout) -> None:
        self._wires.note_inside()
        super()._make_ready(checkout)

    def _stop(self) -> None:
        if self._real is not None:
            self._real.stop()

    async def _find(self) -> None:
        """Ask the app's connection where it leads, on its own event loop."""
        if self._dropped:
            await self._dropped.close_async()
        if self._checkout is None:
            real = await self._hall.find_async(self._owner(), self.kind)
            # Another task may have been faster.
            if self._checkout is None:
                self._join(real)

    outlives = False

    def _lasts(self, checkout: Checkout, sql: str) -> bool:  # noqa: ARG002
        return False  # it goes with the test
