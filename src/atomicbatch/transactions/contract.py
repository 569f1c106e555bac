"""
The contract of a transaction adapter, in words.

**The one method.** An adapter has ``begin(batch, *, deadline)``. It returns a context manager: one
attempt at the batch. WSGI apps and the server enter and leave it by ``with``, in one thread, which
has no event loop and may be blocked. ASGI apps enter it by ``async with``, which never blocks the
event loop. SQLAlchemyTransaction and DriverTransaction return one that can be entered either way.
The types are ``Transaction`` and ``AsyncTransaction`` in ``engine/transaction.py``.

**Entering** begins a transaction on a connection that nobody else uses until the block is left. It
has until ``deadline`` (seconds of ``time.monotonic()``). What it gives is handed to whatever
performs the calls. It may raise BusyError (no connection or no lock in time) or ConflictError (run
the batch again). If it raises or is cancelled, it leaves nothing open.

**Inside the block**, no statement may be executed after the first conflict. On MySQL a deadlock has
ended the transaction by then, and the next statement would silently begin another one.

SQL of the batch's own, as that of ``seal`` (see ``engine/run.py``), runs there too: inside one more
``call()``, on a connection that is opened as handlers open theirs.

**Leaving it without an exception** commits. Before COMMIT the adapter must prove that the
transaction is still the one that was begun, and still in order. Code inside may have ended it
(COMMIT, DDL, ON CONFLICT ROLLBACK), or broken it and hidden the error. Leaving raises

- ConflictError, if there was a conflict inside, even one that was caught there, or at COMMIT;
- CommitError, if the database refused COMMIT;
- BrokenTransactionError, if the transaction had ended or broken before;
- UnknownOutcomeError, if COMMIT ended in anything else: a time limit, a cancellation, a lost
  connection, an answer that nobody could read.

After the first two the work is certainly undone; after BrokenTransactionError too, unless its
``may_be_stored`` is set. After UnknownOutcomeError the connection is not used again. Any other
exception is treated as UnknownOutcomeError.

**Leaving it by an exception**, whichever it is, rolls back. Leaving then raises ConflictError if
there was a conflict inside, and BrokenTransactionError if some of the work may be stored. Otherwise
it lets the exception pass. A ROLLBACK that fails because the connection is lost is no error, since
the database rolls back by itself.

**Either way** the connection is given back clean, or closed. No error of the driver gets out.

What follows is optional. Of what the block gives:

- ``call()`` returns a context manager, sync or async like the block. Each call runs inside of one.
  Leaving it ends everything that the call has opened. It raises the TransactionError that keeps the
  batch from going on, so that the right call is blamed.
- ``is_alone`` and ``number`` are set if they exist: a function that tells, in any thread, whether
  nothing else runs now; and which attempt this is, counted from 1.
- ``took_part()`` tells whether the call that ran last has used the transaction. True: the client is
  told that what the call did is undone. False: that what it did elsewhere stays. None, or no such
  method: the client is only told that the transaction is undone.
- ``takes_part(connection)`` tells whether a driver's connection works in the transaction. Writes on
  other connections are refused, see ``guard/``. A connection that was used while the transaction
  was begun takes part anyhow.

Of what ``begin`` returns: ``interrupt()``, ``sever()`` and ``give_up()``. Another thread calls them
when the time is up or the client is gone; ``engine/deadline.py`` says when. None of them may block.
``give_up()`` promises that COMMIT will not be sent any more. If it has been sent already,
``give_up()`` returns true: the outcome is then unknown, and nobody waits for it.

Of the adapter itself:

- ``wants_alone()`` is asked before each batch. An adapter whose batches may block other requests of
  their event loop says so by a ConflictError that has ``alone`` set. The batch then runs again
  while nothing else does.
- ``outside``: what its batches leave alone (paths of SQLite files, URLs of databases, names of
  libraries).

``atomicbatch.testing.check_transaction`` tests an adapter against all of this.
"""

from __future__ import annotations

from atomicbatch.drivers.commit_errors import commit_error
from atomicbatch.drivers.conflicts import statement_error

__all__ = ["commit_error", "statement_error"]
