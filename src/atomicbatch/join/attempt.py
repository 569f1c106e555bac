"""One attempt at a batch: its calls, its real transactions, what stops it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from atomicbatch.drivers.conflicts import conflict_behind
from atomicbatch.errors import (
    ConflictError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
)
from atomicbatch.join.acts import Act, Acts, Place
from atomicbatch.join.status import Phase, Status
from atomicbatch.join.transaction import Transaction

_LEFT_BEHIND = (
    "a call has left a task behind that uses the database while the batch still runs; await it in "
    "the call, or use on_commit"
)


class Real(Protocol):
    """A real transaction, with the connection that it works on, as the attempt ends it."""

    transaction: Transaction
    is_used: bool
    """A call has used it; until then it was only begun ahead of time."""

    @property
    def place(self) -> Place:
        """Where COMMIT and ROLLBACK are done."""

    def commit(self) -> None:
        """COMMIT."""

    def rollback(self) -> None:
        """ROLLBACK; nothing where it has ended."""

    def undo(self) -> None:
        """Let go of its locks, in any thread, without the event loop; raise nothing."""

    def stop(self) -> None:
        """Stop the statement that runs, in any thread; never block."""

    def cut_off(self) -> None:
        """Let whoever waits for the database go on, with an error, in any thread; never block."""

    @property
    def may_be_undone_anywhere(self) -> bool:
        """It is of use in all threads, and no server rolls it back."""


class Held(Protocol):
    """What a call has checked out."""

    @property
    def place(self) -> Place:
        """Where it is closed."""

    def is_at_rest(self) -> bool:
        """Tell whether there is nothing to undo, and nobody is in a statement."""

    def mark_stale(self) -> None:
        """Its call is over: refuse to be used."""

    def close(self) -> object:
        """Roll back what nobody has committed; of an async driver's, what is to be awaited."""


R = TypeVar("R", bound=Real)


class Attempt(Status, Generic[R]):
    """
    Everything that one attempt at a batch does in databases.

    Each real transaction is known by a key: the database itself, or what stands for it.

    Args:
        lock: Of this attempt alone. It is held for moments only.
        place: Names the app's function that runs now, for messages.

    Attributes:
        is_alone: Tells, in any thread, whether nothing else runs that it could wait for. Who
            performs the batch knows.
        number: Which attempt it is at the batch, 1 for the first.
    """

    def __init__(self, lock: AbstractContextManager[Any], place: Callable[[], str]) -> None:
        super().__init__(place)
        self.is_alone: Callable[[], bool] = _is_not_alone
        self.number = 1
        self._lock = lock
        self._reals: dict[Hashable, R] = {}
        self._last_call: Call | None = None

    @property
    def reals(self) -> tuple[R, ...]:
        """The real transactions that calls have used."""
        return tuple(real for real in self.begun if real.is_used)

    @property
    def begun(self) -> tuple[R, ...]:
        """All, also those that no call has used yet."""
        return tuple(dict.fromkeys(self._reals.values()))

    # Calls -------------------------------------------------------------------------------------

    def note_call(self, call: Call) -> None:
        """A call begins."""
        self._last_call = call

    def took_part(self) -> bool:
        """Tell whether the call that ran last has used a database of the batch's."""
        return self._last_call is not None and bool(self._last_call.held)

    def is_own_conflict(self, error: BaseException) -> bool:
        """Tell whether a handler's exception is a conflict of a database that has taken part."""
        answer = conflict_behind(error)
        families = {real.transaction.family for real in self.begun}
        return answer is not None and answer.family in families

    # Stopped from outside, in any thread -------------------------------------------------------

    def stop(self) -> None:
        """Time is up: let no statement begin any more, and stop the one that runs."""
        with self._lock:
            self.is_stopped = True
            self.doom(TimeoutExceededError("the time limit of the batch passed"))
        for real in self.begun:
            real.stop()

    def cut_off(self) -> list[R]:
        """Let whoever waits for a database go on; return what is still to be undone in a thread."""
        reals = self.begun
        for real in reals:
            real.cut_off()
        # Whoever has the connection may be busy with something else altogether.
        return [
            real
            for real in reals
            if not real.transaction.commit_sent and real.may_be_undone_anywhere
        ]

    def stop_for_good(self) -> bool:
        """Send no COMMIT any more; tell whether one has been sent."""
        with self._lock:
            self.is_stopped = True
            return any(real.transaction.commit_sent for real in self.begun)

    def give_way_in(self, reals: Iterable[R], error: TransactionError) -> list[R]:
        """Doom the batch, so that others can go on; return what is to be undone in a thread."""
        with self._lock:
            undone = [real for real in reals if real.transaction.give_way(error)]
            if undone and self.active:
                if self.error is None:
                    self.error = error
                elif isinstance(self.error, ConflictError) and isinstance(error, ConflictError):
                    self.error.alone |= error.alone
        return undone

    # Its end -----------------------------------------------------------------------------------

    def seal(self, real: R) -> TransactionError | None:
        """Tell why a transaction was undone meanwhile. If it was not, it never is from now on."""
        with self._lock:
            return real.transaction.seal()

    def may_not_send_commit(self, real: R) -> TransactionError | None:
        """Tell why COMMIT may not be sent any more; else take note that it is."""
        with self._lock:
            if (error := self.time_is_up()) is None:
                real.transaction.mark_committing()
            return error

    def commit(self) -> Acts:
        """
        COMMIT everything; roll back instead where something went wrong.

        Raises:
            TransactionError: As transactions/contract.py says.
        """
        if self.writers > 1:
            self.doom_two_writers()
        with self._lock:
            if self.error is None:
                self.phase = Phase.ENDED
        if self.error is not None:
            yield from self.rollback()
            raise self.error
        # Those that only read first: if one fails, nothing is stored yet.
        reals = sorted(self.begun, key=lambda real: real.transaction.wrote)
        for index, real in enumerate(reals):
            try:
                if real.transaction.is_open or real.transaction.gave_way:
                    yield Act(real.place, real.commit)
            except BaseException:
                self.phase = Phase.UNDONE
                for other in reals[index + 1 :]:
                    yield Act(other.place, other.rollback)
                raise

    def rollback(self) -> Acts:
        """Roll everything back; ``error`` then tells whether something may have escaped."""
        with self._lock:
            self.phase = Phase.UNDONE
        for real in self.begun:
            yield Act(real.place, real.rollback)

    def reopen_to_refuse(self) -> None:
        """After ROLLBACK: refuse what calls have left running as if the batch still ran."""
        self.phase = Phase.RUNNING
        self.doom(NotBatchableError("what a call has left running still uses the database"))

    @property
    def writers(self) -> int:
        """How many databases it has changed."""
        return sum(real.transaction.wrote for real in self.begun)

    def doom_two_writers(self) -> None:
        """Fail the batch: two databases were changed."""
        self.doom(
            NotBatchableError(
                f"the batch has changed two databases, which cannot be committed as one; "
                f"keep a batch to one of them, or {self.advice.give_other}"
            )
        )


class Call:
    """
    One call of the batch; leaving it is the end of all that it has checked out.

    Attributes:
        ended: It is over.
        held: What it has checked out, in order.
    """

    __slots__ = ("_attempt", "ended", "held")

    def __init__(self, attempt: Attempt[Any]) -> None:
        self._attempt = attempt
        self.ended = False
        self.held: list[Held] = []

    def hold(self, held: Held) -> None:
        """The call has checked something out, and has perhaps ended while it waited for it."""
        self.held.append(held)
        if self.ended:
            # The end of the call may not have seen it.
            held.mark_stale()
            self.refuse_left_behind()

    def refuse_left_behind(self) -> NoReturn:
        """Refuse what the call has left behind, after its end."""
        self._attempt.refuse(_LEFT_BEHIND)

    def leave_at_rest(self, error: BaseException | None) -> bool:
        """End the call where that takes nothing to do; else return False: it is still to leave."""
        attempt = self._attempt
        if error is not None or attempt.error is not None:
            return False
        self.ended = True
        for held in reversed(self.held):
            held.mark_stale()
            if not held.is_at_rest():
                return False
        return attempt.error is None

    def leave(self, error: BaseException | None) -> Acts:
        """
        End the call, which may have raised an error.

        Raises:
            TransactionError: Why the batch cannot go on.
        """
        self.ended = True
        attempt = self._attempt
        if error is not None and not isinstance(error, Exception):
            return  # cancelled: everything is rolled back at once
        if error is not None and attempt.is_own_conflict(error):
            # Met by a statement that we have not seen: COPY, say.
            attempt.doom(ConflictError("another transaction was in the way"))
        if attempt.error is None:
            try:
                yield from self._close()
            except TransactionError as problem:
                attempt.doom(problem)
        if attempt.error is not None:
            raise attempt.error from error

    def _close(self) -> Acts:
        for held in reversed(self.held):
            held.mark_stale()
            if not held.is_at_rest():
                yield Act(held.place, held.close)


def _is_not_alone() -> bool:
    return False
