"""
Handlers that use SQLAlchemy, unmodified: their sessions commit into the batch's transaction.

What their commit or rollback means is decided in ``join/``; here are SQLAlchemy's engines, pools
and connections. In reading order::

    transaction.py   SQLAlchemyTransaction: one batch's transaction, begun and left
    hook.py          the one door through which every session gets its connection
    joining.py       the block of one attempt, entered by sync or by async code
    attempt.py       one attempt at a batch: which engines take part, what stops it
    host.py          what its real transactions ask of it
    options.py       what the user has said, and what all batches share
    real.py          one real transaction: its turn, its BEGIN, its end, giving back
    checkout.py      one session's use of it: runs the join's steps, one at a time
    pooled.py        a connection of a pool, as the link on which steps are run
    postgresql.py    how PostgreSQL's connections send ours along with the handler's statements
    virtual.py       what a session gets instead of a connection of the pool
    attributes.py    what of a driver's connection a handler may use
    own.py           what a handler gets instead of an async driver's own connection
    dialects.py      what SQLAlchemy tells of a database, and of an engine's connections
    links.py         which driver a connection is of, and what stops it from any thread
    gate.py          one at a time, for threads and for tasks
    slots.py         at most so many batches at a time
    loops.py         what is known of an event loop: which sync engines are used on it
    watchdog.py      a thread that undoes batches for which their own event loop waits
    waiting.py       what the thread of an event loop waits for, read off its stack
"""

from __future__ import annotations

from atomicbatch.transactions.sqlalchemy.transaction import SQLAlchemyTransaction

__all__ = ["SQLAlchemyTransaction"]
