"""One call's use of a connection of the app's by a sync driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from atomicbatch.doors import server_uses
from atomicbatch.guard.watch import aside
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.steps import NOT_SENT, Steps, run
from atomicbatch.transactions.servers.lasting import told
from atomicbatch.transactions.servers.sync_real import SyncReal
from atomicbatch.transactions.servers.use import ServerUse

T = TypeVar("T")


class SyncUse(ServerUse[SyncReal]):
    """See :class:`ServerUse`."""

    def perform(
        self, sql: str, parameters: Iterable[Any] | None, perform: Callable[[Any], T]
    ) -> T | Any:
        if self._is_vain(sql):
            return server_uses.NOT_SENT
        self._hall.check_place(self.kind)
        real, checkout = self._open()
        lasts = False
        with real.inside:
            self._make_ready(checkout)
            lasts = self._lasts(checkout, sql)
            steps = self._steps(checkout, sql, parameters)
            result = run(steps, real.link, partial(perform, real.wire))
        text = self._note_lasting()
        if lasts and (owner := self._owner()) is not None:
            with aside():
                return perform(owner)
        self._bring(text)
        return server_uses.NOT_SENT if result is NOT_SENT else result

    def _bring(self, text: str) -> None:
        """Let the app's own connection have what it would have alone."""
        if text:
            with aside():
                self.kind.ask(self._owner(), text)

    def fetch(self, perform: Callable[[Any], T]) -> T:
        result: T = self._run(Checkout.fetch, perform)
        return result

    def commit(self) -> None:
        if not self._has_nothing_to_end():
            self._run(Checkout.commit)
            self._bring(self._note_lasting())

    def rollback(self) -> None:
        if not self._has_nothing_to_end():
            self._run(Checkout.rollback)

    def set_auto(self, on: bool) -> None:
        self._is_auto = on
        if self._checkout is not None:
            self._run(lambda checkout: checkout.set_auto(on))

    def note_session(self) -> None:
        if (owner := self._owner()) is not None and self.wire is not None:
            self._note_introduction(self._hall.ask_again(owner, self.kind))

    def end(self) -> None:
        self.rollback()

    def close(self) -> None:
        checkout, real = self._checkout, self._real
        if checkout is None or real is None:
            return
        if not checkout.is_idle() and real.transaction.is_open:
            with real.inside:
                if real.transaction.is_open:
                    run(checkout.close(), real.link)
        checkout.closed = True

    def _open(self) -> tuple[SyncReal, Checkout]:
        real, checkout = self._real, self._checkout
        if real is None or checkout is None:
            real = self._hall.find_sync(self._owner(), self.kind)
            own = self._ask_lasting()
            with real.inside:
                # Another thread may have been faster.
                real, checkout = self._real or real, self._checkout
                if checkout is None:
                    real, checkout = self._join(real, own)
        if not real.transaction.is_open or not real.is_used:
            with real.inside:
                if not real.transaction.is_open:
                    real.begin(self._owner())
                real.is_used = True
        return real, checkout

    def _ask_lasting(self) -> Mapping[str, str]:
        owner = self._owner()
        text = self._hall.lasting.query(owner)
        with aside():
            return told(self.kind.ask(owner, text)) if text else {}

    def _run(self, act: Callable[[Checkout], Steps[T]], perform: Any = None) -> T:
        real, checkout = self._open()
        with real.inside:
            self._make_ready(checkout)
            performing = None if perform is None else partial(perform, real.wire)
            return run(act(checkout), real.link, performing)
