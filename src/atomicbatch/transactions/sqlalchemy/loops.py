"""What batches have found out about an event loop: which sync engines they use on it."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Dialect, Engine

# Batches run alone for as long after one had to give way: it would happen again, for a while.
_REMEMBERED_SECONDS = 60.0


class LoopMemory:
    """
    Of one event loop and one SQLAlchemyTransaction.

    It holds engines by weak references: an app that makes them anew leaves nothing here.
    """

    def __init__(self) -> None:
        self._engines: WeakKeyDictionary[Dialect, WeakSet[Engine]] = WeakKeyDictionary()
        self._conflict: float | None = None

    def note_engine(self, engine: Engine) -> None:
        """A batch has used a sync engine on the event loop."""
        if engine.dialect not in self._engines:
            # What execution_options() has made of an engine may not live for long.
            root: Any = engine
            while (parent := getattr(root, "_proxied", None)) is not None:
                root = parent
            self._engines[engine.dialect] = WeakSet((root,))

    def forget_engine(self, engine: Engine) -> None:
        """A batch has used another engine of that database instead."""
        self._engines.pop(engine.dialect, None)

    def engines(self) -> tuple[Engine, ...]:
        """The engines that batches have used on the event loop."""
        if not self._engines:
            return ()
        return tuple(engine for engines in list(self._engines.values()) for engine in engines)

    def note_conflict(self) -> None:
        """A batch had to give way to others on the event loop."""
        self._conflict = time.monotonic()

    def has_conflicts(self) -> bool:
        """Tell whether that has happened lately."""
        conflict = self._conflict
        return conflict is not None and time.monotonic() - conflict < _REMEMBERED_SECONDS
