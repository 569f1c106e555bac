"""An attempt at a batch on databases of sqlite3 itself: two of them, without any library."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from atomicbatch.errors import ConflictError, NotBatchableError, TimeoutExceededError
from atomicbatch.join.acts import Place, do
from atomicbatch.join.attempt import Attempt, Call
from atomicbatch.join.checkout import Checkout
from atomicbatch.join.status import Phase
from tests.join.links import SQLiteLink


class OneReal(SQLiteLink):
    """A real transaction on a connection of its own."""

    place = Place.ENDING
    is_used = True
    may_be_undone_anywhere = True

    def __init__(self, path: Path, attempt: Attempt[Any]) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE items (name TEXT)")
        super().__init__(path, attempt)
        self.attempt = attempt
        self.path = path
        self.transaction.mark_open()

    def commit_all(self) -> None:
        try:
            self.run(self.transaction.commit(lambda: self.attempt.may_not_send_commit(self)))
        finally:
            self.transaction.mark_given_back()

    def roll_back_all(self) -> None:
        if self.transaction.is_open:
            self.run(self.transaction.rollback())
            self.transaction.mark_given_back()

    undo = roll_back_all

    def stop(self) -> None:
        self.connection.interrupt()

    cut_off = stop

    def insert(self) -> None:
        checkout = Checkout(self.transaction)
        self.execute(checkout, "INSERT INTO items VALUES ('a')")
        self.run(checkout.commit())

    def stored(self) -> int:
        with closing(sqlite3.connect(self.path)) as other:
            return int(other.execute("SELECT count(*) FROM items").fetchone()[0])


class Real:
    """As the attempt sees it: its commit() is the whole end, not only the statement."""

    def __init__(self, link: OneReal) -> None:
        self.link = link
        self.transaction = link.transaction
        self.place, self.is_used = link.place, True
        self.may_be_undone_anywhere = True
        self.commit: Callable[[], None] = link.commit_all
        self.rollback: Callable[[], None] = link.roll_back_all
        self.undo, self.stop, self.cut_off = link.roll_back_all, link.stop, link.stop


@pytest.fixture
def attempt() -> Attempt[Real]:
    return Attempt(threading.Lock(), lambda: "app.py:1")


def take_part(attempt: Attempt[Real], path: Path) -> OneReal:
    link = OneReal(path, attempt)
    attempt._reals[path] = Real(link)
    return link


def test_one_that_has_only_read_is_committed_first(attempt: Attempt[Real], tmp_path: Path) -> None:
    """If that fails, nothing is stored yet; the writer is rolled back."""
    writer = take_part(attempt, tmp_path / "writer.sqlite")
    reader = take_part(attempt, tmp_path / "reader.sqlite")
    writer.insert()
    reader.connection.execute("ROLLBACK")
    reader.connection.execute("BEGIN")
    with pytest.raises(Exception, match="ended the batch's transaction"):
        do(attempt.commit())
    assert writer.stored() == 0
    assert attempt.phase is Phase.UNDONE


def test_two_databases_that_were_changed_are_refused(
    attempt: Attempt[Real], tmp_path: Path
) -> None:
    """They cannot be committed as one: neither is."""
    links = [take_part(attempt, tmp_path / f"{number}.sqlite") for number in range(2)]
    for link in links:
        link.insert()
    with pytest.raises(NotBatchableError, match="two databases"):
        do(attempt.commit())
    assert [link.stored() for link in links] == [0, 0]


def test_all_is_committed(attempt: Attempt[Real], tmp_path: Path) -> None:
    """Nothing went wrong."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    link.insert()
    do(attempt.commit())
    assert link.stored() == 1
    assert attempt.phase is Phase.ENDED
    assert attempt.stop_for_good()


def test_time_that_is_up_keeps_commit_from_being_sent(
    attempt: Attempt[Real], tmp_path: Path
) -> None:
    """It is said before, and even in the last moment."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    link.insert()
    assert not attempt.stop_for_good()
    with pytest.raises(TimeoutExceededError):
        do(attempt.commit())
    assert link.stored() == 0


def test_who_gives_way_is_undone(attempt: Attempt[Real], tmp_path: Path) -> None:
    """Others go on at once; the batch is run again."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    link.insert()
    (real,) = attempt.give_way_in(attempt.begun, ConflictError("others wait"))
    real.undo()
    assert not link.connection.in_transaction
    with pytest.raises(ConflictError, match="others wait"):
        do(attempt.commit())


class _Held:
    place = Place.ENDING

    def __init__(self, link: OneReal) -> None:
        self.link = link
        self.checkout = Checkout(link.transaction)

    def is_at_rest(self) -> bool:
        self.when_asked()
        return self.checkout.virtual is None

    def mark_stale(self) -> None:
        self.checkout.closed = True

    def when_asked(self) -> None:
        """Do nothing, unless a test has something happen then."""

    def close(self) -> None:
        self.link.run(self.checkout.close())


def test_the_end_of_a_call_rolls_back_what_is_open(attempt: Attempt[Real], tmp_path: Path) -> None:
    """What it has checked out is of no use afterwards."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    call, held = Call(attempt), _Held(link)
    attempt.note_call(call)
    assert not attempt.took_part()
    call.hold(held)
    assert attempt.took_part()
    link.execute(held.checkout, "INSERT INTO items VALUES ('left open')")
    do(call.leave(None))
    do(attempt.commit())
    assert link.stored() == 0


def test_a_call_at_rest_ends_at_once(attempt: Attempt[Real], tmp_path: Path) -> None:
    """Where nothing is open nothing has to be done; what it has checked out is of no use either."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    call, held = Call(attempt), _Held(link)
    call.hold(held)
    assert call.leave_at_rest(None)
    assert (call.ended, held.checkout.closed) == (True, True)
    with pytest.raises(NotBatchableError, match="left a task behind"):
        call.hold(_Held(link))


@pytest.mark.parametrize("at_rest", [0, 1], ids=["first", "last"])
def test_a_call_that_is_not_at_rest(at_rest: int, attempt: Attempt[Real], tmp_path: Path) -> None:
    """One thing that is open is enough: the call is still to be left, which rolls it back."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    call, held = Call(attempt), [_Held(link), _Held(link)]
    for one in held:
        call.hold(one)
    link.execute(held[1 - at_rest].checkout, "INSERT INTO items VALUES ('left open')")
    assert not call.leave_at_rest(None)
    do(call.leave(None))
    assert [one.checkout.closed for one in held] == [True, True]
    do(attempt.commit())
    assert link.stored() == 0


def test_a_call_that_has_failed_is_not_at_rest(attempt: Attempt[Real]) -> None:
    """Its error may be a conflict; and what has doomed the batch has to be raised."""
    assert not Call(attempt).leave_at_rest(ValueError())
    doomed, call = ConflictError("in the way"), Call(attempt)
    attempt.doom(doomed)
    assert not call.leave_at_rest(None)
    with pytest.raises(ConflictError) as caught:
        do(call.leave(None))
    assert caught.value is doomed


def test_a_batch_that_is_doomed_meanwhile(
    attempt: Attempt[Real], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that the call has left may do that while the call ends: it has not ended well."""
    call, held = Call(attempt), _Held(take_part(attempt, tmp_path / "a.sqlite"))
    call.hold(held)
    monkeypatch.setattr(held, "when_asked", lambda: attempt.doom(ConflictError("in the way")))
    assert not call.leave_at_rest(None)


def test_what_a_call_has_left_behind_is_refused(attempt: Attempt[Real], tmp_path: Path) -> None:
    """It checks out after the end of its call: the batch is doomed."""
    link = take_part(attempt, tmp_path / "a.sqlite")
    call = Call(attempt)
    do(call.leave(None))
    with pytest.raises(NotBatchableError, match="left a task behind"):
        call.hold(_Held(link))


def test_a_conflict_in_a_handlers_error_dooms_the_batch(
    attempt: Attempt[Real], tmp_path: Path
) -> None:
    """Also one of a statement that nobody has seen; that of another database is its own matter."""
    take_part(attempt, tmp_path / "a.sqlite")
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"
    with pytest.raises(ConflictError):
        do(Call(attempt).leave(busy))
