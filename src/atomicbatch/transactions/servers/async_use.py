"""One call's use of a connection of the app's by an async driver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from atomicbatch.doors import server_uses
from atomicbatch.guard.watch import aside
from atomicbatch.join.awaiting import run_async
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.steps import NOT_SENT, Steps
from atomicbatch.transactions.servers.async_real import AsyncReal
from atomicbatch.transactions.servers.lasting import told
from atomicbatch.transactions.servers.use import ServerUse

T = TypeVar("T")


class AsyncUse(ServerUse[AsyncReal]):
    """See :class:`ServerUse`."""

    async def perform_async(
        self, sql: str, parameters: Iterable[Any] | None, perform: Callable[[Any], Awaitable[T]]
    ) -> T | Any:
        if self._is_vain(sql):
            return server_uses.NOT_SENT
        self._hall.check_place(self.kind)
        real, checkout = await self._open()
        lasts = False
        async with real.inside:
            self._make_ready(checkout)
            lasts = self._lasts(checkout, sql)
            steps = self._steps(checkout, sql, parameters)
            result = await run_async(steps, real.link, partial(perform, real.wire))
        text = self._note_lasting()
        if lasts and (owner := self._owner()) is not None:
            with aside():
                return await perform(owner)
        await self._bring(text)
        return server_uses.NOT_SENT if result is NOT_SENT else result

    async def _bring(self, text: str) -> None:
        if text:
            with aside():
                await self.kind.ask(self._owner(), text)

    async def fetch_async(self, perform: Callable[[Any], Awaitable[T]]) -> T:
        result: T = await self._run(Checkout.fetch, perform)
        return result

    async def commit_async(self) -> None:
        if not self._has_nothing_to_end():
            await self._run(Checkout.commit)
            await self._bring(self._note_lasting())

    async def rollback_async(self) -> None:
        if not self._has_nothing_to_end():
            await self._run(Checkout.rollback)

    async def set_auto_async(self, on: bool) -> None:
        self._is_auto = on
        if self._checkout is not None:
            await self._run(lambda checkout: checkout.set_auto(on))

    async def note_session_async(self) -> None:
        if (owner := self._owner()) is not None and self.wire is not None:
            self._note_introduction(await self._hall.ask_again_async(owner, self.kind))

    async def end_async(self) -> None:
        await self.rollback_async()

    async def close(self) -> None:
        checkout, real = self._checkout, self._real
        if checkout is None or real is None:
            return
        if not checkout.is_idle() and real.transaction.is_open:
            async with real.inside:
                if real.transaction.is_open:
                    await run_async(checkout.close(), real.link)
        checkout.closed = True

    async def _open(self) -> tuple[AsyncReal, Checkout]:
        real, checkout = self._real, self._checkout
        if real is None or checkout is None:
            real = await self._hall.find_async(self._owner(), self.kind)
            own = await self._ask_lasting()
            # Another task may have been faster.
            real, checkout = self._real or real, self._checkout
            if checkout is None:
                real, checkout = self._join(real, own)
        if not real.transaction.is_open or not real.is_used:
            async with real.inside:
                if not real.transaction.is_open:
                    await real.begin(self._owner())
                real.is_used = True
        return real, checkout

    async def _ask_lasting(self) -> Mapping[str, str]:
        owner = self._owner()
        text = self._hall.lasting.query(owner)
        with aside():
            return told(await self.kind.ask(owner, text)) if text else {}

    async def _run(self, act: Callable[[Checkout], Steps[T]], perform: Any = None) -> T:
        real, checkout = await self._open()
        async with real.inside:
            self._make_ready(checkout)
            performing = None if perform is None else partial(perform, real.wire)
            return await run_async(act(checkout), real.link, performing)
