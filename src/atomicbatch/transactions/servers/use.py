"""One call's use of a connection of the app's: its statements run in the batch's transaction."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NoReturn, TypeVar
from weakref import ref

from atomicbatch.doors.custom_settings import seen
from atomicbatch.doors.server_uses import Kind
from atomicbatch.errors import TransactionError
from atomicbatch.join.acts import Place
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.connection import Connection
from atomicbatch.join.steps import Steps
from atomicbatch.sql import kinds
from atomicbatch.sql.kinds import CHANGES_DATA, Family
from atomicbatch.sql.statements import read_statement
from atomicbatch.transactions.servers.async_real import AsyncReal
from atomicbatch.transactions.servers.introduction import Introduction, other_custom
from atomicbatch.transactions.servers.lasting import Lasting, making
from atomicbatch.transactions.servers.real import ServerReal
from atomicbatch.transactions.servers.speakers import note_settings, switch
from atomicbatch.transactions.servers.sync_real import SyncReal

T = TypeVar("T")
R = TypeVar("R", bound=ServerReal)
_LISTENS = re.compile(r"\s*LISTEN\b", re.IGNORECASE)
_LISTENING = (
    "a handler listens for notifications (LISTEN), which would come to the batch's own connection; "
    "listen outside of batches, on a connection of its own"
)


class Hall(ABC):
    """The attempt at a batch, as the uses of one call know it."""

    error: TransactionError | None

    @abstractmethod
    def check_place(self, kind: Kind) -> None:
        """Refuse a driver where the batch cannot use it."""

    @abstractmethod
    def find_sync(self, connection: Any, kind: Kind) -> SyncReal:
        """Find the transaction for a connection, by asking it which database it leads to."""

    @abstractmethod
    async def find_async(self, connection: Any, kind: Kind) -> AsyncReal:
        """Likewise by an async driver."""

    @abstractmethod
    def introduction_of(self, connection: Any) -> Introduction | None:
        """What a connection has told when its transaction was found."""

    @abstractmethod
    def ask_again(self, connection: Any, kind: Kind) -> Introduction:
        """Ask a connection that has set something what its session's settings are now."""

    @abstractmethod
    async def ask_again_async(self, connection: Any, kind: Kind) -> Introduction:
        """Likewise by an async driver."""

    lasting: Lasting

    @abstractmethod
    def refuse(self, what: str) -> NoReturn:
        """Fail the batch."""


class ServerUse(ABC, Generic[R]):
    """
    Stands for a connection of the app's during one call; see ``doors/server_uses.py``.

    Args:
        hall: Finds the transaction, once it is needed.
        owner: The app's connection.
        kind: Of its driver.
    """

    outlives = True
    """What is set for good stays on the app's own connection."""

    def __init__(self, hall: Hall, owner: Any, kind: Kind) -> None:
        self.kind = kind
        self._hall = hall
        self._owner = reference(owner)
        self._real: R | None = None
        self._checkout: Checkout | None = None
        self._is_stale = False
        self._is_auto = kind.is_auto(owner)
        self._level = ""
        self._introduction: Introduction | None = None
        # Of what lasts, what the app's own connection has as well.
        self._brought: Mapping[str, str] = {}

    def is_of(self, connection: object) -> bool:
        """Tell whether it stands for this connection."""
        return self._owner() is connection

    # What doors ask ----------------------------------------------------------------------------

    @property
    def wire(self) -> Any:
        """The batch's own connection; None before it has begun."""
        return None if self._real is None else self._real.wire

    def in_transaction(self) -> bool:
        """Tell whether the app's connection has a transaction open."""
        return self._checkout is not None and self._checkout.in_transaction()

    @property
    def has_written(self) -> bool:
        """Its own transaction is open, and has written."""
        virtual = None if self._checkout is None else self._checkout.virtual
        return virtual is not None and virtual.wrote

    def is_broken(self) -> bool:
        """Tell whether it is one in which a statement has failed."""
        checkout, real = self._checkout, self._real
        if checkout is None or real is None or checkout.virtual is None:
            return False
        is_suspect = real.transaction.savepoints.suspect is checkout.virtual
        return checkout.virtual.aborted or (is_suspect and real.link.is_aborted() is not False)

    def refuse(self, what: str) -> NoReturn:
        """Fail the batch."""
        self._hall.refuse(what)

    # What the end of the call asks -------------------------------------------------------------

    @property
    def place(self) -> Place:
        """Where it is closed."""
        return Place.HERE if self._real is None else self._real.place

    def is_at_rest(self) -> bool:
        """Tell whether there is nothing to undo, and nobody is in a statement."""
        if self._checkout is None or self._real is None:
            return True
        return self._checkout.virtual is None and not self._real.is_busy()

    def mark_stale(self) -> None:
        """Its call is over."""
        self._is_stale = True
        if self._checkout is not None:
            self._checkout.closed = True

    @abstractmethod
    def close(self) -> object:
        """Roll back what nobody has committed."""

    # Inside ------------------------------------------------------------------------------------

    def _join(self, real: R, own: Mapping[str, str] | None = None) -> tuple[R, Checkout]:
        """
        Join a transaction.

        Args:
            real: The transaction.
            own: What the app's connection has set in calls before.
        """
        checkout = Checkout(real.transaction)
        checkout.auto = self._is_auto
        checkout.closed = self._is_stale
        self._real, self._checkout = real, checkout
        self._introduction = self._hall.introduction_of(self._owner())
        if self._introduction is not None:
            custom = other_custom(self._introduction, real.introduction)
            checkout.own_settings({**custom, **(own or {})}, real.introduction.custom)
            self._brought = dict(checkout.lasting)
        return real, checkout

    def _make_ready(self, checkout: Checkout) -> None:
        """Take note of what the app has set on its connection by the driver's attributes."""
        owner, kind = self._owner(), self.kind
        if owner is None:
            return
        is_auto = kind.is_auto(owner)
        if is_auto is not self._is_auto:
            self._is_auto = checkout.auto = is_auto
        level = kind.level(owner)
        if level != self._level:
            self._level = level
            checkout.transaction.want_level(level)
        checkout.set_read_only(kind.is_read_only(owner))

    def _is_vain(self, sql: str) -> bool:
        """
        Tell whether a statement only says how transactions are to be, and there will be none, or
        ends one where there is none.

        SQLAlchemy's pools reset the level as a connection comes back. If that fails, they lose it.
        """
        if self._hall.error is None:
            return False
        statement = read_statement(sql, self.kind.named.family)
        kind = statement.kind
        is_end = kind in (kinds.Kind.COMMIT, kinds.Kind.ROLLBACK)
        return kind is kinds.Kind.ISOLATION or (is_end and self._has_nothing_to_end())

    def _lasts(self, checkout: Checkout, sql: str) -> bool:
        """
        Tell whether a statement sets what outlives the batch on the app's own connection.

        Its library may remember that it is set, and not set it again.
        """
        if checkout.transaction.family is not Family.POSTGRESQL:
            return False
        statement = read_statement(sql, Family.POSTGRESQL)
        is_setting = statement.kind in CHANGES_DATA and bool(statement.settings)
        return (
            is_setting
            and statement.lasting
            and not statement.lasting_unknown
            and checkout.auto
            and checkout.virtual is None
        )

    def _note_lasting(self) -> str:
        """
        Take note of what has been set for longer than a transaction, now that it has committed.

        Returns:
            What makes it on the app's own connection; empty: nothing is to be made.
        """
        checkout = self._checkout
        if checkout is None or checkout.lasting == self._brought:
            return ""
        before, self._brought = self._brought, dict(checkout.lasting)
        self._hall.lasting.note(self._owner, self._brought)
        seen.add(name for name in self._brought if "." in name)
        return making(self._brought, before) if self.outlives and self._owner() is not None else ""

    def _steps(self, checkout: Checkout, sql: str, parameters: Iterable[Any] | None) -> Steps[Any]:
        ahead = hasattr(self.kind, "perform_after")
        given = () if parameters is None else parameters
        steps = checkout.perform(sql, given, takes_along=ahead)
        transaction = checkout.transaction
        if transaction.family is Family.MYSQL and self._introduction is not None:
            text = switch(self.wire, self._introduction)
            return _after(transaction.connection, text, steps) if text else steps
        if transaction.family is Family.POSTGRESQL and _LISTENS.match(sql):
            self.refuse(_LISTENING)
        return steps

    def _note_introduction(self, introduction: Introduction) -> None:
        self._introduction = introduction
        note_settings(self.wire, introduction.settings)

    def _has_nothing_to_end(self) -> bool:
        return self._checkout is None or self._checkout.is_idle()


def _after(connection: Connection, text: str, steps: Steps[T]) -> Steps[T]:
    yield from connection.send([text])
    return (yield from steps)


def reference(connection: Any) -> Callable[[], Any]:
    """Refer to a connection, weakly where its class allows that: the app may drop it."""
    try:
        return ref(connection)
    except TypeError:
        return lambda: connection
