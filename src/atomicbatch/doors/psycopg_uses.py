"""Uses: what stands for a connection of psycopg's in a call, and what such a call cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atomicbatch.doors.psycopg_kinds import PSYCOPG, kind_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.guard.watch import watching

Found = Callable[..., Any]


def used(connection: Any, query: Any) -> Use | None:
    """
    Tell what a statement goes to; where nothing stands for its connection, ask the guard.

    A connection that is closed is psycopg's own affair.
    """
    watch = watching.get()
    if watch is None or connection.closed:
        return None
    use = use_of(watch, connection, kind_of(connection), executes=True)
    if use is None:
        watch.sends(connection, PSYCOPG, query)
    return use


def use_of_connection(connection: Any, *, executes: bool = False) -> Use | None:
    """Tell what stands for a connection; None: nothing does, or it is closed."""
    watch = watching.get()
    if watch is None or connection.closed:
        return None  # nothing to do, or psycopg's own affair
    return use_of(watch, connection, kind_of(connection), executes=executes)


# What a batch cannot do -------------------------------------------------------------------------


def refusing_two_phases(found: Found) -> Found:
    def act(self: Any, *args: Any) -> Any:
        _refuse(
            self,
            "a handler uses two-phase commit (tpc_begin(), tpc_commit() and so on), whose second "
            "phase would outlive the batch; use an ordinary transaction",
        )
        return found(self, *args)

    return act


def refusing_pipelines(found: Found) -> Found:
    def pipeline(self: Any) -> Any:
        _refuse(
            self,
            "a handler uses pipeline(), in which an error is told too late to undo its statement "
            "alone; send the statements one by one, or by executemany()",
        )
        return found(self)

    return pipeline


def refusing_notifications(found: Found) -> Found:
    def notifies(self: Any, **options: Any) -> Any:
        _refuse(
            self,
            "a handler waits for notifications (notifies()), which come when others commit; listen "
            "outside of batches, on a connection of its own",
        )
        return found(self, **options)

    return notifies


def _refuse(connection: Any, what: str) -> None:
    """Fail the batch, if something stands for the connection there."""
    if (use := use_of_connection(connection, executes=True)) is not None:
        use.refuse(what)
