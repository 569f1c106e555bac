"""One attempt at a batch, as the drivers' doors see it: whose a connection is, what is refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import Context, ContextVar, copy_context
from typing import Any, NamedTuple, NoReturn

from atomicbatch.errors import NotBatchableError, TransactionError
from atomicbatch.guard.callers import Caller, caller
from atomicbatch.guard.calls import WatchedCall
from atomicbatch.guard.children import Children, Fate
from atomicbatch.guard.places import Allowed, Place
from atomicbatch.guard.reach import reaches
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.writing import lock_of, verb_of

logger = logging.getLogger("atomicbatch")

unwatched: list[str] = []
"""Connections that write without being seen, by name; see ``earlier.py``."""
watching: ContextVar[Watch | None] = ContextVar("atomicbatch_watching", default=None)
"""The attempt that this code works for; None outside of calls. It follows into threads."""


def _as_it_is(_: Any, operation: Any) -> Any:
    return operation


class Driver(NamedTuple):
    """A driver, as its doors name themselves."""

    name: str
    family: Family
    place: Callable[[Any], Place | None]
    """Tells which database a connection leads to, or None where that is not known."""
    readable: Callable[[Any, Any], Any] = _as_it_is
    """Given a connection and SQL, gives it without what the connection knows to be harmless."""
    allowed_as: str = ""
    """By which name the operator may allow it; empty: by the library's or the driver's."""
    joins_if: str = ""
    """What to do so that its connections take part, where doors join those of others."""
    is_early: bool = False
    """The connection was opened before there were doors."""


class Watch:
    """
    What one attempt at a batch is told by the drivers' doors.

    Args:
        allowed: What is none of the batch's business.

    Attributes:
        allowed: The same.
        joined: What the transaction's block gave. It may have ``takes_part(connection)``, which
            tells whether a driver's connection works in the batch's transaction.
        error: Why the batch cannot be committed, or None.
        wrote_outside: The call that runs, or ran last, has written what is allowed by name.
        name: Names the batch in other processes that it has given work to; None: there are none.
    """

    def __init__(self, allowed: Allowed) -> None:
        self.joined: Any = None
        self.error: TransactionError | None = None
        self.wrote_outside = False
        self.name: tuple[int, int] | None = None
        self.allowed = allowed
        # The transaction is being begun: what works now is what begins it.
        self._entering = True
        self._active = True
        self._undone = False
        # This process is not the batch's, and who is to hear of what is refused here.
        self._is_elsewhere = False
        self._children: Children | None = None
        self._kept: object = None
        # Identities must not be reused while the batch runs, so the connections are kept.
        self._own: list[Any] = []
        # What the adapter has set in context variables on entering; it may hold connections.
        self._set: list[Any] = []
        self._passing: list[Any] = []

    # What doors call ---------------------------------------------------------------------------

    def opens(self, connection: Any) -> None:
        """A driver has opened a connection."""
        if self._entering:
            self._own.append(connection)

    def sends(self, connection: Any, driver: Driver, operation: Any) -> None:
        """
        A driver is about to send SQL.

        Raises:
            TransactionError: It must not: it would write past the batch.
        """
        if not self._is_known(connection):
            verb = verb_of(operation, driver.family)
            if verb:
                verb = verb_of(driver.readable(connection, operation), driver.family)
            elif self._is_elsewhere:
                verb = lock_of(operation, driver.family)
            if verb:
                self._writes(connection, driver, verb)

    def writes(self, connection: Any, driver: Driver, verb: str) -> None:
        """
        A driver is about to write without SQL that could be read.

        Raises:
            TransactionError: It must not.
        """
        if not self._is_known(connection):
            self._writes(connection, driver, verb)

    def let_pass(self, connection: Any) -> None:
        """A connection is none of the batch's business."""
        if not any(one is connection for one in self._passing):
            self._passing.append(connection)

    # What the engine's side calls --------------------------------------------------------------

    def begun(self, joined: Any, before: Context) -> None:
        """
        The transaction has been begun.

        Args:
            joined: What its block gives.
            before: The context from before that.
        """
        self.joined, self._entering = joined, False
        self._set = [
            value
            for variable, value in copy_context().items()
            if variable not in before or before[variable] is not value
        ]

    def call(self) -> WatchedCall:
        """Make what one call runs inside of, around it what the transaction has for calls."""
        return WatchedCall(self, getattr(self.joined, "call", nullcontext)(), watching)

    def hear(self, *, last: bool = False) -> TransactionError | None:
        """
        Tell why the batch cannot be committed, also where another process knows that.

        Args:
            last: From now on no other process is listened to.
        """
        if (children := self._children) is not None:
            told = children.close() if last else children.told
            if told:
                self.doom(NotBatchableError(told))
        return self.error

    def check(self) -> None:
        """Refuse to commit, if there is a reason."""
        if (error := self.hear(last=True)) is not None:
            raise error

    def doom(self, error: TransactionError) -> None:
        """Fail the batch. The first reason counts."""
        if self.error is None:
            self.error = error
            doom = getattr(self.joined, "doom", None)
            if doom is not None:
                doom(error)

    def took_part(self) -> bool | None:
        """Tell of the call that ran last what :func:`~atomicbatch.transactions.contract` says."""
        told: Callable[[], bool | None] | None = getattr(self.joined, "took_part", None)
        took_part = told() if told is not None else None
        # What it wrote outside stays, so nobody may say that all of it is undone.
        return None if took_part and (self._wrote_outside() or unwatched) else took_part

    def _wrote_outside(self) -> bool:
        return self.wrote_outside or (self._children is not None and self._children.wrote_outside)

    def end(self, *, undone: bool) -> None:
        """The attempt is over; the contexts of what calls have left running still hold it."""
        self._active, self._undone = False, undone
        self.joined = None
        self._own.clear()
        self._set.clear()
        if self._children is not None:
            self._children.end(Fate.UNDONE if undone else Fate.COMMITTED)

    @property
    def joins(self) -> bool:
        """The adapter lets connections of the app's work in the batch's transaction."""
        return self._active and hasattr(self.joined, "use_of")

    @property
    def restrains(self) -> bool:
        """Whether what its code writes on connections of its own is refused."""
        return self._active or self._undone

    # Other processes ---------------------------------------------------------------------------

    def children(self) -> Children | None:
        """
        Give what processes that a call starts share with the batch.

        None: the batch is over, or has failed since it cannot hear of them.
        """
        if self._active and self._children is None:
            try:
                self._children = Children()
            except OSError as error:
                self.doom(
                    NotBatchableError(
                        f"a handler starts a process, and nothing could be shared with it to hear "
                        f"what it is refused ({error}); allow more open files"
                    )
                )
        return self._children

    def hear_from_worker(self, error: TransactionError) -> bool:
        """
        What a worker was refused that this code has given work to.

        Returns:
            It fails the batch, which is not over yet.
        """
        if not self.restrains or self._pass_on(str(error)) is not Fate.RUNNING:
            return False
        self.doom(error)
        return True

    def go_elsewhere(self, children: Children | None = None) -> None:
        """
        This process has no part in the batch: refuse what it writes.

        What has been left behind here goes on as it would in the batch's process.

        Args:
            children: What it shares with the batch, where it was not forked.
        """
        if self._active and not self._is_elsewhere:
            self._is_elsewhere, self._entering = True, False
            if children is not None:
                self._children = children
            elif self._children is not None:
                self._children.keep()
            # Kept, since whoever collects a connection here would end that of the batch.
            self._kept = self.joined, self._own, self._set
            self.joined, self._own, self._set = None, [], []

    # Decisions ---------------------------------------------------------------------------------

    def _is_known(self, connection: Any) -> bool:
        """Tell whether a connection is known to take part, or nobody wants to know."""
        if not self._active:
            return not self._undone
        for one in self._own:
            if one is connection:
                return True
        if self._entering:
            self._own.append(connection)
        return self._entering

    def _takes_part(self, connection: Any) -> bool:
        told: Callable[[Any], bool] | None = getattr(self.joined, "takes_part", None)
        if told is not None:
            return told(connection)
        # An adapter that does not say so may have it in its hands.
        return any(reaches(one, connection) for one in (self.joined, *self._set))

    def _stranger(self, connection: Any, driver: Driver) -> Caller | None:
        """Tell who writes by a connection, if that is of the batch's business."""
        if any(reaches(one, connection) for one in self._passing):
            self._note_outside()
            return None
        if self._active and self._takes_part(connection):
            self._own.append(connection)
            return None
        who = caller()
        names = (*who.libraries, driver.name)
        if who.is_logging or self.allowed.allows(names, driver.place(connection)):
            self._note_outside()
            return None
        return who

    def _note_outside(self) -> None:
        self.wrote_outside = True
        if self._is_elsewhere and self._children is not None:
            self._children.note_outside()

    def _writes(self, connection: Any, driver: Driver, verb: str) -> None:
        who = self._stranger(connection, driver)
        if who is None:
            return
        if not self._active:
            _refuse_left_behind()
        if self._is_elsewhere:
            self._refuse_elsewhere(
                f"{said(who, connection, driver, verb)}, in another process: that takes no part "
                f"in the batch, whose rollback could not undo it; write in the handler's own "
                f"process, or do it in on_commit()"
            )
            return
        advice, name = self.allowed.advice, driver.allowed_as or library_of(who, driver)
        if driver.is_early:
            self._refuse(
                f"{said(who, connection, driver, verb)}: that connection was opened before "
                f"{advice.watched_since} and takes no part in the batch, whose rollback could not "
                f"undo it; {advice.watch_first}, or {advice.use_own}"
            )
        joins_if = f"{driver.joins_if}, " if driver.joins_if and self.joins else ""
        self._refuse(
            f"{said(who, connection, driver, verb)}: that connection takes no part in the batch, "
            f"whose rollback could not undo it; {joins_if}{advice.use_own}, do it in on_commit(), "
            f"or, if it may stay when the batch is rolled back, {advice.allow.format(name=name)}"
        )

    def _pass_on(self, what: str) -> Fate:
        """In another process: tell the batch what was refused; tell how far it is."""
        if not self._is_elsewhere or self._children is None:
            return Fate.RUNNING
        return self._children.report(what)

    def _refuse_elsewhere(self, what: str) -> None:
        fate = self._pass_on(what)
        if fate is Fate.RUNNING:
            self._refuse(what)
        self._active, self._undone = False, fate is Fate.UNDONE
        if self._undone:
            _refuse_left_behind()

    def _refuse(self, what: str) -> NoReturn:
        error = NotBatchableError(what)
        self.doom(error)
        raise error


def library_of(who: Caller, driver: Driver) -> str:
    """Name who writes: the library, or the driver where there is none."""
    return who.libraries[-1] if who.libraries else driver.name


def said(who: Caller, connection: Any, driver: Driver, verb: str) -> str:
    """Say what is written, where to, by whom and in which line."""
    library, place = library_of(who, driver), driver.place(connection)
    by = driver.name if library == driver.name else f"{library} ({driver.name})"
    to = f" to {place}" if place is not None else ""
    at = f", at {who.line}" if who.line else ""
    return f"a handler writes ({verb}){to} by {by}{at}"


def _refuse_left_behind() -> NoReturn:
    logger.warning(
        "a thread or a task that outlives a batch which was rolled back is refused a database"
    )
    raise TransactionError(
        "the batch of this call was rolled back, and what it has left running may store nothing; "
        "start workers when the app starts, not in a call"
    )


@contextmanager
def aside() -> Iterator[None]:
    """Let an adapter do something inside a call that is its own business: open a connection."""
    token = watching.set(None)
    try:
        yield
    finally:
        watching.reset(token)


def let_pass(connection: Any) -> None:
    """Tell the watch on this call, if any, that a connection is none of the batch's business."""
    watch = watching.get()
    if watch is not None:
        watch.let_pass(connection)


def _before_fork() -> None:
    watch = watching.get()
    if watch is not None:
        watch.children()


def _in_child() -> None:
    """A process that a call has forked has a copy of everything, but is not the batch."""
    watch = watching.get()
    if watch is not None:
        watch.go_elsewhere()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
