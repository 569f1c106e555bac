"""
The contract of a transaction adapter, in words, and what a driver's exception comes to under it.

An adapter has one method, ``begin(batch, *, deadline)``. It returns a context manager: an async one
for ASGI apps, a sync one for WSGI apps, or one that is both, as SQLAlchemyTransaction's and
DriverTransaction's are (``Transaction`` and ``AsyncTransaction`` in ``engine/run.py`` are the
types). A sync one is entered and left in one thread, which has no event loop, and may block it.

Entering begins a transaction on a connection that nobody else uses until it is left, by
``deadline`` (``time.monotonic()`` seconds). The value it gives is handed to whatever performs the
calls. It may raise BusyError (no connection, no lock in time) or ConflictError (run the batch
again); it leaves nothing open when it raises or is cancelled.

Inside, after the first conflict, no further statement may be executed: on MySQL a deadlock has
ended the transaction, and the next statement would silently begin another.

Leaving cleanly commits, and only after a proof that the transaction is still the one that was
begun and still in order: code inside may have ended it (COMMIT, DDL, ON CONFLICT ROLLBACK) or
broken it and hidden the error. It raises

- ConflictError, where a conflict was seen inside, also a swallowed one, or at COMMIT;
- CommitError, where the database has refused COMMIT;
- BrokenTransactionError, where the transaction had ended or broken before;
- UnknownOutcomeError, where COMMIT ended in anything else: a time limit, a cancellation, a lost
  connection, an answer that nobody could read.

After each but the last the work is surely undone. After the last the connection is not used again.
What else comes out of a clean exit is taken for the last.

Leaving by an exception, any exception, rolls back. It raises ConflictError where a conflict was
seen inside, BrokenTransactionError where some work may have escaped; else it lets the exception
pass. A ROLLBACK that fails because the connection is lost is no error: the database rolls back.

What the block gives may have a method ``call()``: it returns a context manager of the same kind,
and each call runs inside of one. Leaving it is the end of all that the call has opened; it raises
the TransactionError that keeps the batch from going on, so that the right call is blamed.

An adapter whose batches may be in the way of other requests on their event loop says so by a
ConflictError that has ``alone`` set: the batch then runs again while nothing else does. It may have
a method ``wants_alone()``, asked before each batch. If what the block gives has the attributes
``is_alone`` and ``number``, they are set: a function that tells, in any thread, whether nothing
else runs now, and which attempt this is, from 1.

When time is up, or the client is gone, another thread may call three methods of what ``begin``
returns, where it has them: ``interrupt()``, ``sever()`` and ``give_up()``; ``engine/deadline.py``
says when. None may block. ``give_up()`` promises that COMMIT is not sent any more, or tells, by
returning true, that it has been sent: the outcome is unknown then, and nobody waits for it.

It may have a method ``took_part()``: whether the call that ran last has used the transaction. True:
a client is told that what the call did is undone. False: that what it did elsewhere stays. None, or
no such method: nobody knows, and nothing is said but that the transaction is undone.

It may have a method ``takes_part(connection)``: whether a driver's connection works in the
transaction. Writes by others are refused, see ``guard/``. A connection that was used while the
transaction was begun takes part anyhow. The adapter itself may have an attribute ``outside``: what
its batches leave alone (paths of SQLite files, URLs of databases, names of libraries).

Either way the connection is given back clean, or closed. Errors of the driver never get out.
``atomicbatch.testing.check_transaction`` tests an adapter against all of this.
"""

from __future__ import annotations

from atomicbatch.drivers.commits import commit_error
from atomicbatch.drivers.conflicts import statement_error

__all__ = ["commit_error", "statement_error"]
