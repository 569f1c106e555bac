"""
Batch -> Outcome. Knows no HTTP server and no database library.

In reading order::

    execution.py   which call is next, when to stop, what to report (a plain state machine)
    run.py         execute, execute_async: the two thin shells around it
    deadline.py    the time limit, kept by a thread that depends on nobody
    replay.py      when a whole batch is run again, and how long to wait first
    turns.py       the line in which batches stand that have met a conflict
    current.py     how code inside a call finds the batch: inside_batch, on_commit
    after_commit.py what was to be done after COMMIT is done
    contexts.py    batches follow their calls into threads
"""

from __future__ import annotations

from atomicbatch.engine.execution import Execution
from atomicbatch.engine.replay import Replay
from atomicbatch.engine.run import (
    AsyncTransaction,
    Rollback,
    Transaction,
    execute,
    execute_async,
)
from atomicbatch.engine.turns import Turn, Turns

__all__ = [
    "AsyncTransaction",
    "Execution",
    "Replay",
    "Rollback",
    "Transaction",
    "Turn",
    "Turns",
    "execute",
    "execute_async",
]
