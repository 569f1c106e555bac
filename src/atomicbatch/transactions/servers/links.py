"""Links: how the join's steps are run on the wire, the batch's own connection to a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from atomicbatch.doors.server_uses import Kind
from atomicbatch.drivers.conflicts import is_lost
from atomicbatch.drivers.driver import State
from atomicbatch.sql.kinds import Family


class LinkState:
    """
    What is known of a wire without sending anything.

    Args:
        kind: Of its driver.
        wire: The connection; it is in autocommit mode.
        begin: What begins the transaction.
        interrupt: Stops the statement that is running; never blocks.

    Attributes:
        sends_ahead: SQL of ours can go ahead of a handler's statement, in one round trip.
        ends_in_one: Likewise of COMMIT.
    """

    def __init__(
        self, kind: Kind, wire: Any, begin: Sequence[str], interrupt: Callable[[], None]
    ) -> None:
        self.interrupt = interrupt
        self.ends_in_one = hasattr(kind.driver, "commit_after")
        can_send_ahead = getattr(kind, "sends_ahead", None)
        self.sends_ahead = can_send_ahead is not None and bool(can_send_ahead(wire))
        self._kind: Any = kind
        self._driver: Any = kind.driver
        self._wire = wire
        self._begin = begin
        # It goes along with the first that is sent, where that costs no round trip of its own.
        self._pending: Sequence[str] = ()
        self._is_postgresql = kind.named.family is Family.POSTGRESQL

    def is_in_transaction(self) -> bool:
        return True  # asked on SQLite only

    def is_aborted(self) -> bool | None:
        state = self._kind.driver.state(self._wire)
        return None if state is State.UNKNOWN else state is State.ABORTED

    def is_lost(self, error: Exception) -> bool:
        is_closed = getattr(self._kind, "is_closed", None)
        if is_closed is not None and is_closed(self._wire):
            return True  # what is tried on it now gives an error that says nothing else
        return is_lost(error, by_driver=True)

    def _with_begin(self, texts: Sequence[str]) -> Sequence[str]:
        pending, self._pending = self._pending, ()
        return [*pending, *texts] if pending else texts


class SyncLink(LinkState):
    """For threads."""

    def send(self, texts: Sequence[str]) -> None:
        self._driver.send(self._wire, self._with_begin(texts))

    def ask(self, text: str) -> Any:
        if self._pending:
            self.send(())
        return self._driver.ask(self._wire, text)

    def begin(self) -> None:
        if self._is_postgresql:
            self._pending = self._begin
        else:
            self._driver.send(self._wire, self._begin)

    def commit(self) -> None:
        if not self._pending:
            self._driver.send(self._wire, ["COMMIT"])

    def rollback(self) -> None:
        if not self._pending:
            self._driver.rollback(self._wire)

    def perform_after(self, texts: Sequence[str], perform: Callable[[], Any]) -> Any:
        return self._kind.perform_after(self._wire, self._with_begin(texts), perform)

    def commit_after(self, texts: Sequence[str]) -> None:
        if not self._pending:
            self._driver.commit_after(self._wire, texts)


class AsyncLink(LinkState):
    """For event loops."""

    async def send(self, texts: Sequence[str]) -> None:
        await self._driver.send(self._wire, self._with_begin(texts))

    async def ask(self, text: str) -> Any:
        if self._pending:
            await self.send(())
        return await self._driver.ask(self._wire, text)

    async def begin(self) -> None:
        if self._is_postgresql:
            self._pending = self._begin
        else:
            await self._driver.send(self._wire, self._begin)

    async def commit(self) -> None:
        if not self._pending:
            await self._driver.send(self._wire, ["COMMIT"])

    async def rollback(self) -> None:
        if not self._pending:
            await self._driver.rollback(self._wire)

    async def perform_after(
        self, texts: Sequence[str], perform: Callable[[], Awaitable[Any]]
    ) -> Any:
        return await self._kind.perform_after(self._wire, self._with_begin(texts), perform)

    async def commit_after(self, texts: Sequence[str]) -> None:
        if not self._pending:
            await self._driver.commit_after(self._wire, texts)
