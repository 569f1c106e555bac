"""The transaction of a batch by an async driver: tasks of one event loop take turns on its wire."""

from __future__ import annotations

import time
from typing import Any

from atomicbatch.drivers.openings import opening
from atomicbatch.guard.watch import aside
from atomicbatch.join.acts import Place
from atomicbatch.join.awaiting import run_async
from atomicbatch.join.steps import Steps
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.servers.inside import TaskInside
from atomicbatch.transactions.servers.introduction import (
    Asking,
    Introduction,
    introduce,
    make_alike,
)
from atomicbatch.transactions.servers.links import AsyncLink
from atomicbatch.transactions.servers.real import SEVER_SECONDS, Host, ServerReal, bare, opened
from atomicbatch.transactions.servers.speakers import note_settings


class AsyncReal(ServerReal):
    """
    The transaction of a batch by an async driver.

    Attributes:
        inside: A lock; it lets one task in at a time.
    """

    def __init__(self, attempt: Host, kind: Any, introduction: Introduction) -> None:
        super().__init__(attempt, kind, introduction)
        self.inside = TaskInside()

    @property
    def place(self) -> Place:
        return Place.LOOP

    @property
    def may_be_undone_anywhere(self) -> bool:
        return False  # its server rolls back when it is cut off

    def is_busy(self) -> bool:
        return self.inside.is_taken()

    # Begin -------------------------------------------------------------------------------------

    async def begin(self, owner: Any) -> None:
        """Begin, with ``inside`` held; see ``SyncReal.begin``."""
        self._check_may_begin()
        try:
            await self._take_slot()
            try:
                with aside():
                    await self._open(owner)
                self._attempt.check()
                self._check_may_begin()
            except BaseException:
                await self._close()
                raise
        except Exception as error:
            raise self._failed(error) from error

    async def _take_slot(self) -> None:
        attempt = self._attempt
        slots = attempt.slots(self.introduction.key)
        if slots is None:
            return
        if not await slots.take_async(self._give_up_at(), stopped=lambda: attempt.is_stopped):
            raise self._no_slot()
        self._slots = slots

    async def _open(self, owner: Any) -> None:
        with opening():
            adopt, coming = opened(self.kind, owner)
            self.wire = bare(await coming)
            if adopt is not None:
                await adopt(self.wire)
        self._stopper = self._make_stopper()
        self._attempt.check()
        family = self.transaction.family
        own = await asked(introduce(family, self.kind.named.place(owner)), self.kind, self.wire)
        self._check_wire(own)
        driver: Any = self.kind.driver
        for text in make_alike(self.introduction, own, family):
            if text.startswith("SELECT"):
                await driver.ask(self.wire, text)
            else:
                await driver.send(self.wire, [text])
        if family is Family.MYSQL:
            note_settings(self.wire, self.introduction.settings)
        begin = self._begin_texts(self.kind.level(owner))
        link = AsyncLink(self.kind, self.wire, begin, self._interrupt)
        self._note_link(link)
        await run_async(self.transaction.begin(), link)
        self.transaction.mark_open()

    # End ---------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """COMMIT, see ``SyncReal.commit``."""
        async with self.inside:
            self._check_not_over()
            try:
                await self._run(self.transaction.commit(self._may_not_commit))
            finally:
                await self._close()

    async def rollback(self) -> None:
        """ROLLBACK; stop a statement that is still running."""
        sever_at = time.monotonic() + SEVER_SECONDS
        while not await self.inside.acquire_within(0.1):
            self._interrupt()
            if time.monotonic() >= sever_at:
                self._sever()
        try:
            if self.transaction.is_open:
                try:
                    await self._run(self.transaction.rollback())
                finally:
                    await self._close()
        finally:
            self.inside.release()

    def undo(self) -> None:
        if self.transaction.is_open:
            self._sever()

    async def _run(self, steps: Steps[None]) -> None:
        with aside():
            await run_async(steps, self.link)

    async def _close(self) -> None:
        try:
            if self.wire is not None:
                if not self.transaction.connection.is_reusable:
                    self._sever()  # some drivers say goodbye first, and wait for an answer
                with aside():
                    await self.kind.close(self.wire)
        finally:
            self._let_go()


async def asked(asking: Asking, kind: Any, connection: Any) -> Introduction:
    """Let a connection introduce itself."""
    try:
        text = next(asking)
        while True:
            try:
                answer = await kind.ask(connection, text)
            except Exception as error:
                text = asking.throw(error)
            else:
                text = asking.send(answer)
    except StopIteration as end:
        introduction: Introduction = end.value
        return introduction
