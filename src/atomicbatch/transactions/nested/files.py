"""The transaction inside of one in an SQLite database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Hashable

from atomicbatch.errors import BrokenTransactionError
from atomicbatch.join.savepoints import Savepoints
from atomicbatch.join.status import Health, Stage
from atomicbatch.join.steps import run
from atomicbatch.transactions.nested.links import NestedLink
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.locks import WriteLock
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.real import Host, Real

Opened = dict[Hashable, threading.Event]
"""Transactions that are open, by their databases' keys: the event is set at their end."""
GONE = "the database itself has rolled back everything that the transaction around it had done"


class NestedFile(Real):
    """
    A transaction that is a savepoint of another one's, on the same connection.

    Args:
        attempt: Whose it is.
        database: The database.
        outer: The transaction around it; it is begun if it has not been.
        prefix: What the names of its savepoints begin with.
        opened: Where it is noted while it is open; None: nowhere.
    """

    def __init__(
        self,
        attempt: Host,
        database: Database,
        outer: Real,
        prefix: str,
        opened: Opened | None = None,
    ) -> None:
        self._outer = outer
        self._opened = opened
        self._root = f"{prefix}_0"
        super().__init__(attempt, database)
        transaction = self.transaction
        transaction.savepoints = Savepoints(transaction.connection, transaction.settings, prefix)
        self.inside = outer.inside
        self.lock = WriteLock(self.inside)

    @property
    def speaker(self) -> object:
        """Whose statements the connection runs now, whichever transaction they belong to."""
        return self._outer.speaker

    @speaker.setter
    def speaker(self, speaker: object) -> None:
        self._outer.speaker = speaker

    def _open(self, state: State, adopted: sqlite3.Connection | None, at_once: bool) -> None:
        outer, transaction = self._outer, self.transaction
        if not outer.transaction.is_open:
            outer.begin(state, adopted, at_once=at_once)
        outer.is_used = True
        self.adopted, self.connection = outer.adopted, outer.connection
        self.likeness, self._thread = outer.likeness, outer._thread
        self.link = NestedLink(outer.link, self._root, lambda: True)  # type: ignore[assignment]
        transaction.connection.state = self.link
        run(transaction.begin(), self.link)
        transaction.mark_open()
        if self._opened is not None:
            self._opened[self.database.key] = self.ended
        self._attempt.check()

    def commit(self) -> None:
        super().commit()
        self.speaker = None  # its hooks were taken away

    def rollback(self) -> None:
        super().rollback()
        self.speaker = None
        if self.transaction.connection.health >= Health.LOST:
            self._outer.transaction.status.doom(BrokenTransactionError(GONE, may_be_stored=False))

    def _close(self) -> None:
        try:
            if self.transaction.stage is Stage.OPEN:
                # Its beginning has failed in the last moment.
                self.link.rollback()
        finally:
            if self._opened is not None:
                self._opened.pop(self.database.key, None)
            self.transaction.mark_given_back()
            self.ended.set()
            turn, self._turn = self._turn, None
            if turn is not None:
                turn.give()
