"""What batches have found out about event loops: which databases they use on them."""

from __future__ import annotations

import asyncio
import threading
import time
from weakref import WeakKeyDictionary

from atomicbatch.transactions.sqlite.databases import Database
from atomicbatch.transactions.sqlite.pragmas import State
from atomicbatch.transactions.sqlite.turns import Turn

# Batches run alone for as long after one had to give way: it would happen again, for a while.
_REMEMBERED_SECONDS = 60.0
# Apps with a database for each tenant have many; what is forgotten is only found out again.
_MOST_DATABASES = 1000


class LoopMemory:
    """
    Of one event loop.

    Attributes:
        databases: Those that batches use on it, and the pragmas of the connections.
    """

    def __init__(self) -> None:
        self.databases: dict[Database, State] = {}
        self._conflict: float | None = None

    def note(self, database: Database, state: State) -> None:
        """A batch has used a database on the event loop."""
        if len(self.databases) >= _MOST_DATABASES:
            self.databases.clear()
        self.databases[database] = state

    def note_conflict(self) -> None:
        """A batch had to give way to others on the event loop."""
        self._conflict = time.monotonic()

    def has_conflicts(self) -> bool:
        """Tell whether that has happened lately."""
        conflict = self._conflict
        return conflict is not None and time.monotonic() - conflict < _REMEMBERED_SECONDS


class Memory:
    """What all batches of one adapter share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[object, Turn] = {}
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopMemory] = WeakKeyDictionary()

    def turn(self, database: Database) -> Turn:
        """The line for a database."""
        with self._lock:
            turn = self._turns.get(database.key)
            if turn is None:
                if len(self._turns) >= _MOST_DATABASES:
                    self._turns.clear()
                turn = self._turns[database.key] = Turn()
            return turn

    def of_loop(self, loop: asyncio.AbstractEventLoop) -> LoopMemory:
        """What is known of an event loop."""
        memory = self._loops.get(loop)
        if memory is None:
            memory = self._loops[loop] = LoopMemory()
        return memory
