"""The transaction of a batch in one database of a server: its wire, who works on it, its end."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from atomicbatch.doors.openers import opener_of
from atomicbatch.doors.server_uses import Kind
from atomicbatch.drivers.stopper import Stopper
from atomicbatch.errors import BusyError, ConflictError, TransactionError, kind_of
from atomicbatch.guard.watch import aside
from atomicbatch.join.acts import Place
from atomicbatch.join.attempt import Attempt
from atomicbatch.join.connection import begin_error
from atomicbatch.join.session import OVER
from atomicbatch.join.status import Health, Stage
from atomicbatch.join.transaction import LEVELS, Transaction
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.servers.introduction import Introduction, difference
from atomicbatch.transactions.slots import Slots

logger = logging.getLogger("atomicbatch")
# How long a batch that has one database waits for another one: two batches could wait for ever.
_SECOND_SECONDS = 2.0
# How long a statement may go on after it was interrupted, when everything is rolled back.
SEVER_SECONDS = 0.5


class Host(Attempt[Any], ABC):
    """The attempt at a batch, as its transactions know it."""

    deadline: float
    isolation_level: str

    @abstractmethod
    def slots(self, key: tuple[str, ...]) -> Slots | None:
        """The line for a database of a server, where there is one."""


class ServerReal(ABC):
    """
    The transaction that a batch's calls share in one database of a server.

    Attributes:
        transaction: The join's: its state, and what the app's connections use.
        introduction: Of the app's connection that was first; all others must be like it.
        kind: Of the driver by which it is open.
        wire: The batch's own connection, or None before it has begun.
        is_used: A call has used it.
    """

    link: Any

    def __init__(self, attempt: Host, kind: Kind, introduction: Introduction) -> None:
        self.kind = kind
        self.introduction = introduction
        self.transaction = Transaction(kind.named.family, attempt, level=introduction.level)
        self.transaction.savepoints.checks_deferred = introduction.defers
        self.wire: Any = None
        self.is_used = False
        self._attempt = attempt
        self._slots: Slots | None = None
        self._stopper: Stopper | None = None

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where its COMMIT and ROLLBACK are done."""

    @property
    @abstractmethod
    def may_be_undone_anywhere(self) -> bool:
        """It can be rolled back in any thread, without the event loop."""

    @abstractmethod
    def is_busy(self) -> bool:
        """Tell, in any thread, whether somebody else is inside."""

    @abstractmethod
    def undo(self) -> None:
        """Let go of its locks, in any thread, without the event loop; never raises."""

    def check_kind(self, kind: Kind) -> None:
        """Refuse a second driver on this database."""
        if (kind.named.name, kind.is_async) != (self.kind.named.name, self.kind.is_async):
            one, other = self.kind.named.name, kind.named.name
            if one == other:  # psycopg, sync and async
                one, other = (
                    f"{each.named.name} ({'async' if each.is_async else 'sync'})"
                    for each in (self.kind, kind)
                )
            self._attempt.refuse(
                f"the database {self.introduction.key[-1]} is open in this batch by {one} already, "
                f"and {other} would wait for its locks for ever: use one driver for one database, "
                f"or {self._attempt.advice.give_other}"
            )

    def check_alike(self, introduction: Introduction) -> None:
        """Refuse a connection whose session is another one."""
        if what := difference(introduction, self.introduction):
            self._attempt.refuse(
                f"handlers use connections to one database that differ in {what}; in a batch they "
                f"share one, so open them alike"
            )

    # Begin -------------------------------------------------------------------------------------

    def _check_may_begin(self) -> None:
        attempt = self._attempt
        attempt.check()
        if not attempt.active:
            raise TransactionError(OVER)

    def _has_others(self) -> bool:
        return any(real.transaction.is_open and real is not self for real in self._attempt.begun)

    def _give_up_at(self) -> float:
        deadline = self._attempt.deadline
        return min(deadline, time.monotonic() + _SECOND_SECONDS) if self._has_others() else deadline

    def _no_slot(self) -> TransactionError:
        self._attempt.check()
        if self._has_others():
            return ConflictError("another batch has the second database of this one")
        return BusyError("too many batches are running")

    def _failed(self, error: Exception) -> TransactionError:
        problem = begin_error(error)
        self._attempt.doom(problem)
        return problem

    def _begin_texts(self, level: str) -> Sequence[str]:
        """
        Write what begins the transaction.

        Args:
            level: What the first connection asks for by its driver's attributes, or empty.
        """
        transaction = self.transaction
        if transaction.level in LEVELS and level in LEVELS[: LEVELS.index(transaction.level)]:
            level = ""  # who comes later may need more; to get more than one asks for is no harm
        wanted = self._attempt.isolation_level or level
        is_mysql = transaction.family is Family.MYSQL
        if not wanted or wanted == transaction.level:
            return ["START TRANSACTION"] if is_mysql else ["BEGIN"]
        transaction.level = wanted
        if is_mysql:
            return [f"SET TRANSACTION ISOLATION LEVEL {wanted}", "START TRANSACTION"]
        return [f"BEGIN ISOLATION LEVEL {wanted}"]

    def _note_link(self, link: Any) -> None:
        self.link = link
        transaction = self.transaction
        transaction.connection.state = link
        transaction.sends_ahead, transaction.ends_in_one = link.sends_ahead, link.ends_in_one

    def _check_wire(self, own: Introduction) -> None:
        """Refuse to work elsewhere than the app does: its address may lead to several servers."""
        if own.key != self.introduction.key:
            self._attempt.refuse(
                "another connection with the parameters of the handler's leads to another "
                "database; use an address that leads to one server"
            )
        if own.user != self.introduction.user:
            self._attempt.refuse(
                "another connection with the parameters of the handler's has another role; do not "
                "use SET SESSION AUTHORIZATION"
            )

    # End ---------------------------------------------------------------------------------------

    def _may_not_commit(self) -> TransactionError | None:
        return self._attempt.seal(self) or self._attempt.may_not_send_commit(self)

    def _check_not_over(self) -> None:
        if not self.transaction.is_open:
            raise self.transaction.gave_way or TransactionError(OVER)

    def _let_go(self) -> None:
        """The wire is closed: others may have theirs."""
        self.transaction.mark_given_back()
        stopper, self._stopper = self._stopper, None
        if stopper is not None:
            stopper.close()
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give()

    # Stopped from outside, in any thread ---------------------------------------------------------

    def stop(self) -> None:
        """Stop the statement that is running, if one is; never blocks."""
        if self.transaction.stage <= Stage.OPEN and self.is_busy():
            self._interrupt()

    def cut_off(self) -> None:
        """Whoever is in a statement goes on, with an error; never blocks."""
        if self.is_busy():
            self._interrupt()
        self._sever()

    def _interrupt(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            self.transaction.connection.worsen(Health.INTERRUPTED)
            stopper.interrupt(0)

    def _sever(self) -> None:
        stopper = self._stopper
        if stopper is not None:
            self.transaction.connection.worsen(Health.SEVERED)
            stopper.sever()

    def _make_stopper(self) -> Stopper:
        kind = self.kind
        elsewhere = None
        # The others copy the connection themselves, with a time limit on each step.
        if kind.named.family is Family.MYSQL and not hasattr(kind.driver, "copied"):
            elsewhere = partial(_run, kind, self.wire)
        return Stopper(kind.driver, self.wire, elsewhere, aside)

    def _log_failure(self, error: Exception) -> None:
        logger.error("a batch that others wait for could not be undone (%s)", kind_of(error))
        logger.debug("that was", exc_info=error)


def opened(kind: Kind, connection: Any) -> Any:
    """
    Open the batch's own connection, in the way of whoever has opened the app's.

    Returns:
        What it takes to put it into its state, and the connection, or an awaitable of it.
    """
    opener = opener_of(connection)
    if opener is None:
        return None, kind.open(connection)
    return kind.adopt, opener()


def bare(connection: Any) -> Any:
    """Look through what tracers wrap connections in (wrapt): doors see what is inside."""
    while (inner := getattr(connection, "__wrapped__", None)) is not None:
        connection = inner
    return connection


def _run(kind: Kind, wire: Any, text: str, seconds: float) -> None:
    """Run a statement on another connection like the batch's own."""
    driver: Any = kind.driver
    with aside():
        other = kind.open(wire)
        try:
            driver.send(other, [text])
        finally:
            kind.close(other)
