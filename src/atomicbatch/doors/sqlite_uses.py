"""
Uses: what the doors of sqlite3 want of an adapter that joins its connections.

If what an adapter's block gives has a method ``use_of(connection, executes=)``, it joins: what it
returns stands for the connection during a call. None: the connection is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

from atomicbatch.guard.watch import Watch

T = TypeVar("T")


class Use(Protocol):
    """
    One call's use of a connection of the app's, inside the batch's transaction.

    Attributes:
        changes: How many rows it has changed.
        has_unseen_rows: The batch has written to its database, which only the batch sees.
    """

    changes: int

    @property
    def has_unseen_rows(self) -> bool: ...

    def execute(self, cursor: Any, method: Callable[..., Any], sql: Any, args: Any) -> Any:
        """Execute a statement by a cursor of the app's; ``method`` is sqlite3's own."""

    def executescript(self, cursor: Any, sql: Any) -> Any:
        """Execute several statements."""

    def read(self, act: Callable[[Any], T]) -> T:
        """Read by sqlite3's own connection."""

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Roll back."""

    def note_close(self) -> None:
        """The app is about to close its connection."""

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""

    def isolation_level(self) -> Any:
        """The attribute."""

    def autocommit(self) -> Any:
        """The attribute."""

    def set_mode(self, name: str, value: Any) -> None:
        """Set one of the last two."""

    def interrupt(self) -> None:
        """Stop the statement that is running."""

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch: the handler does something that cannot be made part of it."""


class Holder(Protocol):
    """Who has taken connections, cursors or databases for a batch."""

    def let_others_in(self, connection: Any, cursor: Any, sql: Any) -> None:
        """Somebody outside of the batch uses a connection, a cursor: wait, refuse or give way."""


taken: list[Holder] = []
"""
Who has taken something that code outside of batches may be about to use; nearly always empty.

Code outside of batches looks at it before each statement.
"""


def use_of(
    watch: Watch | None, connection: Any, cursor: Any = None, sql: Any = None, *, executes: bool
) -> Use | None:
    """
    Tell what stands for a connection in the call that runs now; None: it stands for itself.

    Args:
        watch: The attempt that this code works for; None outside of calls.
        connection: The app's.
        cursor: The app's, if it is about to execute something.
        sql: What it is about to execute.
        executes: The connection is about to be used for more than the end of a transaction.
    """
    if watch is not None and watch.joins:
        use: Use | None = watch.joined.use_of(connection, executes=executes)
        if use is not None:
            return use
    for holder in tuple(taken):
        if watch is None or holder is not watch.joined:
            holder.let_others_in(connection, cursor, sql)
    return None
