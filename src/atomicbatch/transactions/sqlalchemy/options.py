"""Options: what the user has told SQLAlchemyTransaction, and what all its batches share."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Engine
from sqlalchemy.pool import Pool

from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlalchemy.loops import LoopMemory


@dataclass(slots=True)
class Options:
    """What the user has said, and what is shared by all batches."""

    engines: tuple[Engine, ...] = ()
    """The engines that batches work on; empty: all."""
    names: tuple[str | os.PathLike[str], ...] = ()
    """What else batches leave alone: paths, URLs, libraries."""
    outside: tuple[Engine, ...] = ()
    """Engines that batches leave alone: what is done with them is not part of the batch."""
    isolation_level: str | None = None
    max_batches: int | None = None
    slots: WeakKeyDictionary[Pool, Slots] = field(default_factory=WeakKeyDictionary)
    loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopMemory] = field(
        default_factory=WeakKeyDictionary
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def memory(self) -> LoopMemory:
        """What is known of the event loop that runs now."""
        loop = asyncio.get_running_loop()
        memory = self.loops.get(loop)
        if memory is None:
            memory = self.loops[loop] = LoopMemory()
        return memory

    def is_outside(self, dialect: Dialect) -> bool:
        """Tell whether an engine is none of the batch's business, by the user's decision."""
        outside = self.outside
        return bool(outside) and any(dialect is one.dialect for one in outside)

    def is_named(self, engine: Engine) -> bool:
        """Tell whether batches may work on an engine."""
        return not self.engines or any(engine.dialect is one.dialect for one in self.engines)

    def slots_of(self, pool: Pool, family: Family) -> Slots | None:
        """How many batches may use a pool at a time."""
        with self.lock:
            slots = self.slots.get(pool)
            if slots is None:
                count = self.max_batches or _capacity(pool, family)
                if count is None:
                    return None
                slots = self.slots[pool] = Slots(count)
            return slots


def _capacity(pool: Pool, family: Family) -> int | None:
    if family is Family.SQLITE:
        # One writer at a time: better to stand in line than to poll for the lock.
        return 1
    size: Any = getattr(pool, "size", None)
    overflow = getattr(pool, "_max_overflow", None)
    if size is None or overflow is None or overflow < 0:
        return None
    # One connection is left to requests that are no batches.
    return max(1, int(size()) + int(overflow) - 1)
