"""
Driver: what the module of each driver has, as types.

The modules hold no state; their functions take a driver's own connection. They import their driver
only once somebody has given them a connection of it, and decide nothing: that is the ``join``'s
part, or the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias


class State(Enum):
    """What a driver knows about its connection's transaction, without asking the database."""

    IDLE = "idle"
    """There is none."""
    OPEN = "open"
    """There is one, and it takes statements."""
    ABORTED = "aborted"
    """A statement has failed: PostgreSQL refuses all others until ROLLBACK."""
    UNKNOWN = "unknown"
    """The driver does not know, a statement is running, or the connection is lost."""


Interrupt: TypeAlias = Callable[[float], None]
"""
Stops the statement that runs on a connection, if one does. Any thread may call it.

It takes the seconds after which it gives up, and may block for as long. A request to a server may
arrive late and stop the connection's next statement, so the connection must not be used again.
SQLite's is no such request: it never blocks, and hits nothing later.
"""
Elsewhere: TypeAlias = Callable[[str, float], None]
"""
Runs one statement on another connection to the same server, by the same user.

It takes the statement, and the seconds after which it may give up. Any thread may call it.
"""


class Driver(Protocol):
    """What needs no answer of the database."""

    def state(self, connection: Any, /) -> State:
        """Tell what the driver knows about the transaction."""

    def socket_number(self, connection: Any, /) -> int | None:
        """The number by which the operating system knows the connection's socket."""

    def interrupter(self, connection: Any, elsewhere: Elsewhere | None = None, /) -> Interrupt:
        """
        Make what stops the connection's statement from another thread.

        It is made while nobody uses the connection, since some drivers must be asked for the
        connection's name in the server.

        Args:
            elsewhere: Only MySQL's drivers need it, for KILL QUERY.
        """


class SyncDriver(Driver, Protocol):
    """A driver whose caller waits."""

    def send(self, connection: Any, texts: Sequence[str], /) -> None:
        """Run SQL without parameters or rows, in as few round trips as the driver can."""

    def ask(self, connection: Any, text: str, /) -> Any:
        """Run a query; return the first column of its one row, or None."""

    def commit(self, connection: Any, /) -> None:
        """
        Prove that a transaction is open and in order, and COMMIT it.

        Raises:
            BrokenTransactionError: It was not; COMMIT was not sent, or was answered by ROLLBACK.
            ConflictError, CommitError: The database refused; ROLLBACK what is still open.
            UnknownOutcomeError: Anything else came out of COMMIT. The connection must not be used
                again, not even for ROLLBACK.
        """

    def rollback(self, connection: Any, /) -> None:
        """
        ROLLBACK, whatever state the transaction is in.

        Raises:
            BrokenTransactionError: Some of its changes stay (MySQL: a table without transactions).
        """


class AsyncDriver(Driver, Protocol):
    """A driver whose caller awaits; each function does what its twin of ``SyncDriver`` does."""

    async def send(self, connection: Any, texts: Sequence[str], /) -> None: ...

    async def ask(self, connection: Any, text: str, /) -> Any: ...

    async def commit(self, connection: Any, /) -> None: ...

    async def rollback(self, connection: Any, /) -> None: ...
