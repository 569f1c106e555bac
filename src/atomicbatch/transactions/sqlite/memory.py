"""What all batches of one adapter share: lines for databases, and what event loops have met."""

from __future__ import annotations

import asyncio
import threading
import time
from weakref import WeakKeyDictionary

from atomicbatch.model import Batch
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.turns import Turn

# Batches run alone for as long after one had to give way: it would happen again, for a while.
_REMEMBERED_SECONDS = 60.0
# Apps with a database for each tenant have many.
_MOST_TURNS = 1000
# Of batches that are not run again, since time is up.
_MOST_WANTED = 1000
# Each has a connection of its own to each database that it uses.
_MOST_BATCHES = 16
Wanted = dict[Database, State]


class Memory:
    """
    What all batches of one adapter share.

    Args:
        max_batches: How many batches may run at a time; None: 16. The others stand in line.

    Attributes:
        line: That line. Whoever stands there holds nothing yet: one who held a connection of the
            app's pool would keep it from those who are to go on.
    """

    def __init__(self, max_batches: int | None = None) -> None:
        self.line = Slots(max_batches or _MOST_BATCHES)
        self._lock = threading.Lock()
        self._turns: dict[object, Turn] = {}
        # By the batch's identity, which is kept, so that it is not used again.
        self._wanted: dict[int, tuple[Batch, Wanted]] = {}
        self._conflicts: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()

    def turn(self, database: Database) -> Turn:
        """The line for a database."""
        with self._lock:
            turn = self._turns.get(database.key)
            if turn is None:
                if len(self._turns) >= _MOST_TURNS:
                    self._turns = {key: one for key, one in self._turns.items() if one.is_in_use()}
                turn = self._turns[database.key] = Turn()
            return turn

    def want(self, batch: Batch, database: Database, state: State) -> None:
        """A batch could not begin on the event loop without waiting; it is to begin before."""
        with self._lock:
            if len(self._wanted) >= _MOST_WANTED:
                self._wanted.clear()
            _, wanted = self._wanted.setdefault(id(batch), (batch, {}))
            wanted[database] = state

    def wanted(self, batch: Batch) -> Wanted:
        """Tell what an attempt at a batch has to begin with, and forget it."""
        with self._lock:
            _, wanted = self._wanted.pop(id(batch), (batch, {}))
            return wanted

    def note_conflict(self, loop: asyncio.AbstractEventLoop) -> None:
        """A batch had to give way to others on an event loop."""
        self._conflicts[loop] = time.monotonic()

    def has_conflicts(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether that has happened lately."""
        conflict = self._conflicts.get(loop)
        return conflict is not None and time.monotonic() - conflict < _REMEMBERED_SECONDS
