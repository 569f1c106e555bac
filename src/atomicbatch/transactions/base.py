"""
The contract of a transaction adapter, in words, and what a driver's exception comes to under it.

An adapter has one method, ``begin(batch, *, deadline)``. It returns a context manager (an async
one for ASGI apps; ``Transaction`` and ``AsyncTransaction`` in ``engine/run.py`` are the types).

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
- CommitError, where COMMIT was refused;
- BrokenTransactionError, where the transaction had ended or broken before;
- UnknownOutcomeError, where the connection was lost during COMMIT.

After each but the last the work is surely undone.

Leaving by an exception, any exception, rolls back. It raises ConflictError where a conflict was
seen inside, BrokenTransactionError where some work may have escaped; else it lets the exception
pass. A ROLLBACK that fails because the connection is lost is no error: the database rolls back.

What the block gives may have a method ``call()``: it returns an async context manager, and each
call runs inside of one. Leaving it is the end of all that the call has opened; it raises the
TransactionError that keeps the batch from going on, so that the right call is blamed.

When time is up, or the client is gone, another thread may call three methods of what ``begin``
returns, where it has them: ``interrupt()``, ``sever()`` and ``give_up()``; ``engine/deadline.py``
says when. None may block. ``give_up()`` promises that COMMIT is not sent any more, or tells, by
returning true, that it has been sent: the outcome is unknown then, and nobody waits for it.

Either way the connection is given back clean, or closed. Errors of the driver never get out.
``atomicbatch.testing.check_transaction`` tests an adapter against all of this.
"""

from __future__ import annotations

from atomicbatch.errors import (
    BrokenTransactionError,
    CommitError,
    ConflictError,
    TransactionError,
    UnknownOutcomeError,
)
from atomicbatch.transactions.conflicts import is_conflict, is_lost

# Integrity constraint violation, WITH CHECK OPTION violation, RAISE in a constraint trigger.
_REFUSED_STATES = ("23", "44", "P0")


def statement_error(error: BaseException) -> ConflictError | None:
    """
    Tell what a driver's exception before COMMIT means for the batch.

    Returns:
        A conflict: another transaction's, or a lost connection, after which the batch can safely
        be run again. None: an ordinary error, which is the handler's business.
    """
    if is_conflict(error):
        return ConflictError("another transaction was in the way")
    if is_lost(error):
        return ConflictError("the connection to the database was lost before COMMIT")
    return None


def commit_error(error: BaseException) -> TransactionError:
    """Tell what a driver's exception from COMMIT means for the batch."""
    if is_conflict(error):
        return ConflictError("another transaction was in the way at COMMIT")
    if is_lost(error):
        return UnknownOutcomeError("the connection to the database was lost during COMMIT")
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
    classes = {base.__name__ for base in type(error).__mro__}
    if "IntegrityError" in classes or state.startswith(_REFUSED_STATES):
        return CommitError("COMMIT was refused by a constraint that is checked last")
    return BrokenTransactionError("COMMIT failed")
