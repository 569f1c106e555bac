"""
Batch -> Outcome. Knows no HTTP server and no database library.

In reading order::

    execution.py     which call is next, when to stop, what to report (a plain state machine)
    policy.py        stop or go on after a failed call; commit or undo at the end
    run.py           execute, execute_async: the thin shells; ``seal``, right before COMMIT
    calls.py         an attempt's calls, for whoever performs them; several may be taken ahead
    attempts.py      how far an attempt has come, and what follows from how it ended
    transaction.py   what a transaction must offer
    replay.py        when a whole batch is run again, and how long to wait first
    turns.py         the line in which batches stand that have met a conflict
    waiting.py       waiting for an async attempt, or leaving it behind
    deadline.py      the time limit, kept by a thread that depends on nobody
    observer.py      what happens to a batch, told once to whoever listens
    logs.py          the first listener: the log
    current.py       how code inside a call finds the batch: inside_batch, on_commit
    after_commit.py  what was put off until COMMIT is done
    contexts.py      batches follow their calls into threads
    spawning.py      batches follow their calls into greenlets of gevent's
"""

from __future__ import annotations

from atomicbatch.engine.calls import Calls
from atomicbatch.engine.execution import Execution
from atomicbatch.engine.observer import Observer, Observers
from atomicbatch.engine.policy import Policy
from atomicbatch.engine.replay import Replay
from atomicbatch.engine.run import execute, execute_async, execute_by
from atomicbatch.engine.transaction import AsyncTransaction, Rollback, Transaction, as_one
from atomicbatch.engine.turns import Turn, Turns

__all__ = [
    "AsyncTransaction",
    "Calls",
    "Execution",
    "Observer",
    "Observers",
    "Policy",
    "Replay",
    "Rollback",
    "Transaction",
    "Turn",
    "Turns",
    "as_one",
    "execute",
    "execute_async",
    "execute_by",
]
