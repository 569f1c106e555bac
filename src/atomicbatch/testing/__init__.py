"""
What your tests need: for an app with a batch endpoint, and for an adapter that you write.

::

    apps.py       a batch for your app's test client, and what came back
    adapters.py   checks a transaction adapter against the contract, on a real database
    plugin.py     the pytest plugin: what tests and fixtures store is rolled back
    entry_point.py   by which pytest finds it
    everything.py    its part that does so without being asked
    before.py     fixtures that are set up before that, and stay
    scopes.py     which transactions of fixtures and tests are open, and which one code belongs to
    commit_hooks.py  leaves out what waits for a commit, if wanted
    following.py  context variables that fall back to the running test
"""

from __future__ import annotations

from atomicbatch.testing.adapters import check_async_transaction, check_transaction
from atomicbatch.testing.apps import Answer, AnswerReply, BatchRequest, batch_of, call, read_answer

__all__ = [
    "Answer",
    "AnswerReply",
    "BatchRequest",
    "batch_of",
    "call",
    "check_async_transaction",
    "check_transaction",
    "read_answer",
]
