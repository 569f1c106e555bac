"""The transaction of a batch by a sync driver: threads take turns on its wire."""

from __future__ import annotations

import threading
import time
from typing import Any

from atomicbatch.drivers.openings import opening
from atomicbatch.guard.watch import aside
from atomicbatch.join.acts import Place
from atomicbatch.join.steps import Steps, run
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.servers.introduction import (
    Asking,
    Introduction,
    introduce,
    make_alike,
)
from atomicbatch.transactions.servers.links import SyncLink
from atomicbatch.transactions.servers.real import SEVER_SECONDS, Host, ServerReal, bare, opened
from atomicbatch.transactions.servers.speakers import note_settings
from atomicbatch.transactions.sqlite.inside import Inside


class SyncReal(ServerReal):
    """
    The transaction of a batch by a sync driver.

    Attributes:
        inside: A lock; it lets one thread in at a time.
    """

    def __init__(self, attempt: Host, kind: Any, introduction: Introduction) -> None:
        super().__init__(attempt, kind, introduction)
        self.inside = Inside(attempt)
        self._rolling_back = threading.Lock()

    @property
    def place(self) -> Place:
        return Place.ENDING

    @property
    def may_be_undone_anywhere(self) -> bool:
        return True

    def is_busy(self) -> bool:
        if self.inside.acquire(blocking=False):
            self.inside.release()
            return False
        return True

    # Begin -------------------------------------------------------------------------------------

    def begin(self, owner: Any) -> None:
        """
        Begin, with ``inside`` held.

        Args:
            owner: The app's connection that is first.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """
        self._check_may_begin()
        try:
            self._take_slot()
            try:
                with aside():
                    self._open(owner)
                self._attempt.check()
            except BaseException:
                self._close()
                raise
        except Exception as error:
            raise self._failed(error) from error

    def _take_slot(self) -> None:
        attempt = self._attempt
        slots = attempt.slots(self.introduction.key)
        if slots is None:
            return
        if not slots.take(self._give_up_at(), stopped=lambda: attempt.is_stopped):
            raise self._no_slot()
        self._slots = slots

    def _open(self, owner: Any) -> None:
        with opening():
            adopt, wire = opened(self.kind, owner)
            self.wire = bare(wire)
            if adopt is not None:
                adopt(self.wire)
        self._stopper = self._make_stopper()
        self._attempt.check()
        family = self.transaction.family
        own = asked(introduce(family, self.kind.named.place(owner)), self.kind, self.wire)
        self._check_wire(own)
        driver: Any = self.kind.driver
        if texts := make_alike(self.introduction, own, family):
            for text in texts:
                if text.startswith("SELECT"):
                    driver.ask(self.wire, text)
                else:
                    driver.send(self.wire, [text])
        if family is Family.MYSQL:
            note_settings(self.wire, self.introduction.settings)
        begin = self._begin_texts(self.kind.level(owner))
        link = SyncLink(self.kind, self.wire, begin, self._interrupt)
        self._note_link(link)
        run(self.transaction.begin(), link)
        self.transaction.mark_open()

    # End ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """
        COMMIT, after the proof that the transaction is still the one that was begun.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        with self.inside:
            self._check_not_over()
            try:
                self._run(self.transaction.commit(self._may_not_commit))
            finally:
                self._close()

    def rollback(self) -> None:
        """ROLLBACK; stop a statement that is still running."""
        with self._rolling_back:
            sever_at = time.monotonic() + SEVER_SECONDS
            while not self.inside.acquire(timeout=0.1):
                self._interrupt()
                if time.monotonic() >= sever_at:
                    self._sever()
            try:
                if self.transaction.is_open:
                    try:
                        self._run(self.transaction.rollback())
                    finally:
                        self._close()
            finally:
                self.inside.release()

    def undo(self) -> None:
        try:
            self.rollback()
        except Exception as error:
            self._log_failure(error)

    def _run(self, steps: Steps[None]) -> None:
        with aside():
            run(steps, self.link)

    def _close(self) -> None:
        try:
            if self.wire is not None:
                with aside():
                    self.kind.close(self.wire)
        finally:
            self._let_go()


def asked(asking: Asking, kind: Any, connection: Any) -> Introduction:
    """Let a connection introduce itself."""
    try:
        text = next(asking)
        while True:
            try:
                answer = kind.ask(connection, text)
            except Exception as error:
                text = asking.throw(error)
            else:
                text = asking.send(answer)
    except StopIteration as end:
        introduction: Introduction = end.value
        return introduction
