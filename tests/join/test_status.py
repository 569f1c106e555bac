"""The status of an attempt: which reason counts, and what may go on."""

from __future__ import annotations

import pytest

from atomicbatch.errors import ConflictError, NotBatchableError, TimeoutExceededError
from atomicbatch.join.status import Phase, Status


def test_the_first_reason_counts() -> None:
    """What follows from an error does not hide it; nothing goes on after it."""
    status = Status()
    assert status.may_go_on
    first = ConflictError("first")
    status.doom(first)
    status.doom(ConflictError("second"))
    assert not status.may_go_on
    with pytest.raises(ConflictError) as found:
        status.check()
    assert found.value is first


def test_that_something_may_be_stored_counts_more() -> None:
    """It replaces a conflict, which would run the batch again."""
    status = Status()
    status.doom(ConflictError("first"))
    escaped = status.escaped("a handler has committed")
    assert status.error is escaped
    assert status.has_escaped


def test_a_refusal_names_the_apps_function() -> None:
    """The message tells what, and where."""
    status = Status(lambda: "app.py:3 in create")
    with pytest.raises(NotBatchableError, match=r"it does X \(app.py:3 in create\)"):
        status.refuse("it does X")
    assert isinstance(status.error, NotBatchableError)


@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.UNDONE])
def test_after_its_end_nothing_is_noted(phase: Phase) -> None:
    """What code that a call has left behind does wrong is no reason any more."""
    status = Status()
    status.phase = phase
    status.doom(ConflictError("late"))
    assert status.error is None
    assert not status.active


def test_a_commit_that_would_come_too_late() -> None:
    """Once time is up, there is an error for it."""
    status = Status()
    assert status.time_is_up() is None
    status.is_stopped = True
    assert isinstance(status.time_is_up(), TimeoutExceededError)
