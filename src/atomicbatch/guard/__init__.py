"""
The guard: what a call writes by a library that takes no part in the batch is refused.

Another ORM, or a driver used directly, commits at once. A rollback of the batch cannot undo that.
So inside a call each driver asks before it sends a statement. A write on a connection that is not
the batch's is not sent: the batch fails, and the message says who writes where, and what to do
instead. Reads pass. So does what is allowed by name (``outside=``). In reading order:

    watch.py     one attempt at a batch: whose a connection is, and what is refused
    children.py  what processes that a call has started tell their batch, and are told
    calls.py     the block of one call
    blocks.py    a transaction with such a watch
    places.py    which database a connection leads to; what is allowed by name
    reach.py     whether an object stands for a connection
    callers.py   who writes: the library, and the app's line

The drivers' doors, which ask, are in ``doors/``; whether SQL writes is read by ``sql/writing.py``.
"""

from __future__ import annotations

from atomicbatch.guard.blocks import Guarded, guarded, guarded_sync, stopped_like
from atomicbatch.guard.places import Allowed
from atomicbatch.guard.reach import reaches
from atomicbatch.guard.watch import Watch, aside, let_pass

__all__ = [
    "Allowed",
    "Guarded",
    "Watch",
    "aside",
    "guarded",
    "guarded_sync",
    "let_pass",
    "reaches",
    "stopped_like",
]
