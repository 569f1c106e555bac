"""
Uses: what the doors of drivers that speak to a server want of an adapter that joins connections.

A door belongs to one driver. It enters the driver where statements are sent, and does three things:

- Outside of calls (``watching.get()`` is None) it passes everything on, at next to no cost.
- In a call it asks :func:`use_of` what stands for the app's connection. If something does, the
  statement, COMMIT, ROLLBACK or the end of the connection goes there. The use tells the door when
  to run the handler's own statement, and on which connection: the batch's own, the *wire*.
- Where nothing stands for the connection (None), the guard is asked before a write.

A sync driver's door calls ``perform``, ``commit`` and so on; an async driver's awaits
``perform_async``, ``commit_async`` and so on. Nothing else differs::

    def execute(self, query, params=None):
        watch = watching.get()
        if watch is not None:
            use = use_of(watch, self.connection, KIND, executes=True)
            if use is not None:
                answer = use.perform(text, params, lambda wire: found(self moved to wire, ...))
                # NOT_SENT: it was BEGIN, COMMIT, SAVEPOINT...: it is done; make an empty result.
            else:
                watch.sends(self.connection, KIND.named, query)
        return found(self, query, params)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NoReturn, Protocol, TypeVar

from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.guard.watch import Driver, Watch

T = TypeVar("T")
NOT_SENT: Final = object()
"""What a use gives for a statement that was about the transaction only, and is not to be sent."""


class Kind(Protocol):
    """
    What an adapter has to know of a driver; a module or an object in the door's file.

    Connections are the driver's own objects. A sync driver's functions may block; an async
    driver's return an awaitable where it is said. They are all called outside of the batch: what
    they do on a connection passes the doors.

    It may have two more functions, where the driver can send SQL of ours in one round trip with a
    handler's statement: ``sends_ahead(wire)`` tells whether it can now; ``perform_after(wire,
    texts, perform)`` runs the texts and then ``perform()`` (see ``join.steps.AheadLink``). If
    ``driver`` has ``commit_after(wire, texts)``, the end takes one round trip as well.

    And it may have ``is_closed(wire)``, where the driver closes a connection by itself once it is
    lost, so that later errors do not tell.

    Attributes:
        named: How the door names itself to the guard: name, family, place.
        driver: The driver's module in ``atomicbatch/drivers/``.
        is_async: Its callers await.
    """

    named: Driver
    driver: SyncDriver | AsyncDriver
    is_async: bool

    def state(self, connection: Any) -> State:
        """
        Tell about the transaction of the app's own connection, not of what stands for it.

        IDLE: none is open, so that it may take part. UNKNOWN: it is closed, or nothing is known.
        """

    def is_auto(self, connection: Any) -> bool:
        """Tell whether each statement commits by itself unless BEGIN was sent (autocommit)."""

    def level(self, connection: Any) -> str:
        """
        Tell which isolation level the connection is set to by the driver's own attributes.

        As SQL has it, such as ``SERIALIZABLE``; empty: the server's own.
        """

    def is_read_only(self, connection: Any) -> bool:
        """Tell whether the driver's own attributes say that it only reads."""

    def ask(self, connection: Any, text: str) -> Any:
        """
        Run a query on the app's own connection, and leave no transaction open on it.

        Returns:
            The first column of its one row, or an awaitable of that.
        """

    def open(self, connection: Any) -> Any:
        """
        Open another connection like the app's: to the same database, by the same role.

        It is in autocommit mode, so that BEGIN and COMMIT are sent by text, and gives text, numbers
        and rows as the driver does by default.

        Returns:
            The wire, or an awaitable of it.
        """

    def adopt(self, wire: Any) -> Any:
        """
        Put a connection that a library has opened for the batch into the state that ``open`` says.

        Returns:
            Nothing, or an awaitable of nothing.
        """

    def close(self, wire: Any) -> Any:
        """Close the wire; it may be broken. Nothing, or an awaitable of nothing; never raises."""


class Use(Protocol):
    """
    One call's use of a connection of the app's, inside the batch's transaction.

    Each method that may talk to the database has a twin for async drivers. Of one batch only one
    statement runs at a time on one wire, whoever's it is.
    """

    @property
    def wire(self) -> Any:
        """The batch's own connection; None before it has begun."""

    def perform(
        self, sql: str, parameters: Iterable[Any] | None, perform: Callable[[Any], T]
    ) -> T | Any:
        """
        Perform a statement.

        Args:
            sql: Its text.
            parameters: What the driver was given for it; settings may be among it.
            perform: Runs the handler's own statement, given the wire. What it raises is taken for
                the statement's failure.

        Returns:
            What ``perform`` has returned, or NOT_SENT.

        Raises:
            TransactionError: The batch cannot go on; it has taken note.
        """

    async def perform_async(
        self, sql: str, parameters: Iterable[Any] | None, perform: Callable[[Any], Awaitable[T]]
    ) -> T | Any: ...

    def fetch(self, perform: Callable[[Any], T]) -> T:
        """Fetch rows that are still in the server: of a cursor that an earlier statement opened."""

    async def fetch_async(self, perform: Callable[[Any], Awaitable[T]]) -> T: ...

    def commit(self) -> None:
        """The app commits."""

    async def commit_async(self) -> None: ...

    def rollback(self) -> None:
        """The app rolls back."""

    async def rollback_async(self) -> None: ...

    def set_auto(self, on: bool) -> None:
        """The app has switched autocommit. Inside a transaction: on commits, as MySQL does."""

    async def set_auto_async(self, on: bool) -> None: ...

    def note_session(self) -> None:
        """
        The app has made a setting of its session, on its own connection and on the wire.

        Other connections of the batch are to keep theirs (MySQL).
        """

    async def note_session_async(self) -> None: ...

    def end(self) -> None:
        """The app closes its connection, or gives it back to a pool: what is open is undone."""

    async def end_async(self) -> None: ...

    def in_transaction(self) -> bool:
        """Tell whether the app's connection has a transaction open, as far as the app knows."""

    def is_broken(self) -> bool:
        """Tell whether it is one in which a statement has failed (PostgreSQL: until ROLLBACK)."""

    def refuse(self, what: str) -> NoReturn:
        """
        Fail the batch: the handler does something that cannot be made part of it.

        Args:
            what: What it does, and what to do instead: "a handler uses pipeline(), whose ...; ...".
        """


def use_of(watch: Watch, connection: Any, kind: Kind, *, executes: bool) -> Use | None:
    """
    Tell what stands for a connection in the call that runs now; None: it stands for itself.

    It sends nothing, and does not block.

    Args:
        watch: The attempt that this code works for.
        connection: The app's.
        kind: The door's.
        executes: The connection is about to execute something. If not, and the call has not used
            it yet, there is nothing to stand for.

    Raises:
        TransactionError: The connection cannot take part; the batch has taken note.
    """
    if not watch.joins:
        return None
    find = getattr(watch.joined, "server_use_of", None)
    use: Use | None = None if find is None else find(connection, kind, executes=executes)
    return use
