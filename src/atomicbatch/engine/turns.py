"""
Turns: the line in which batches stand that have met a conflict.

Batches that want the same rows, and run again at random times, meet each other again. If there are
many, most run out of attempts, and their vain attempts take time from those that would succeed. So
these batches stand in line, and run one at a time, in the order in which they came:

- a batch that has met a conflict, before it runs again;
- a batch that has not run yet, if it writes to a path that a batch in the line writes to;
- every batch, while the one whose turn it is has met another conflict.

All others run at once, beside the line.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Protocol

from atomicbatch.model import Batch


class Line(Protocol):
    """Where batches that have met a conflict stand in line."""

    def meets(self, batch: Batch) -> bool:
        """Tell whether a batch that has not run yet has to stand in line."""

    def ask(self, batch: Batch) -> Turn:
        """Stand in line. Cancelling ``Turn.come`` ends the wait of a thread, which gives up."""


class Turns:
    """The line of one database, for threads and event loops alike."""

    __slots__ = ("_line", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # It is the first one's turn.
        self._line: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def meets(self, batch: Batch) -> bool:
        """Tell whether a batch that has not run yet has to stand in line."""
        if not self._line:
            return False
        paths = _written(batch)
        with self._lock:
            return any(turn.lost or not paths.isdisjoint(turn.paths) for turn in self._line)

    def ask(self, batch: Batch) -> Turn:
        """Stand in line."""
        turn = Turn(self, _written(batch))
        with self._lock:
            self._line.append(turn)
            self._grant_first()
        return turn

    def leave(self, turn: Turn) -> None:
        """Take a turn out of the line, and let the next one run; twice changes nothing."""
        with self._lock:
            if turn in self._line:
                self._line.remove(turn)
                self._grant_first()

    def _grant_first(self) -> None:
        if self._line and not (come := self._line[0].come).done():
            # Whoever waits may cancel it at this moment, and then leaves the line.
            with suppress(InvalidStateError):
                come.set_result(None)


class Turn:
    """
    A place in the line.

    Attributes:
        come: Done when it is this one's turn.
        paths: The paths that the batch writes to.
        lost: It has met a conflict in its turn, with a batch beside the line.
    """

    __slots__ = ("_turns", "come", "lost", "paths")

    def __init__(self, turns: Turns, paths: frozenset[bytes]) -> None:
        self._turns = turns
        self.paths = paths
        self.lost = False
        self.come: Future[None] = Future()

    def leave(self) -> None:
        """Leave the line, and let the next one run; twice changes nothing."""
        self._turns.leave(self)


def _written(batch: Batch) -> frozenset[bytes]:
    """Return the paths that a batch writes to."""
    return frozenset(call.path for call in batch.calls if call.method not in ("GET", "HEAD"))
