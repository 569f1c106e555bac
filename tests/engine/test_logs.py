"""The log holds what no client is told, in one line each, and nothing of rows or credentials."""

from __future__ import annotations

import logging

import pytest

from atomicbatch import (
    AtomicBatchError,
    Batch,
    BusyError,
    CommitError,
    ConflictError,
    Fate,
    Outcome,
    UnknownOutcomeError,
)
from atomicbatch.engine.logs import LOGS, in_short

BATCH = Batch(())
OUTCOME = Outcome(Fate.ROLLED_BACK, (), attempts=3)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "atomicbatch")


def hidden(error: AtomicBatchError, cause: Exception) -> AtomicBatchError:
    """An error of ours with what is behind it."""
    error.__cause__ = cause
    return error


def test_what_the_client_knows_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A commit, a call's own failure, and a refusal with a status below 500 need no line."""
    LOGS.committed(BATCH, OUTCOME._replace(fate=Fate.COMMITTED), None)
    LOGS.rolled_back(BATCH, OUTCOME)
    LOGS.rolled_back(BATCH, OUTCOME._replace(error=CommitError("no")))
    LOGS.rolled_back(BATCH, OUTCOME._replace(fate=Fate.DRY_RUN))
    LOGS.rolled_back(BATCH, OUTCOME._replace(error=AtomicBatchError("said already")))
    LOGS.not_started(BATCH, BusyError("no connection"))
    LOGS.abandoned(BATCH, Fate.ROLLED_BACK, None)
    assert caplog.records == []


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Conflicts that were overcome, errors of the transaction, unknown and abandoned batches."""
    conflict = ConflictError("in the way")
    error = hidden(BusyError("no connection"), OSError("password=hunter2"))
    LOGS.committed(BATCH, OUTCOME._replace(fate=Fate.COMMITTED), conflict)
    LOGS.rolled_back(BATCH, OUTCOME._replace(error=error))
    LOGS.unknown(BATCH, UnknownOutcomeError("lost"))
    LOGS.abandoned(BATCH, Fate.ROLLED_BACK, CommitError("no"))
    lines = caplog.records
    assert [(line.levelname, line.getMessage().partition(":")[0]) for line in lines] == [
        ("WARNING", "batch committed, 3 attempts"),
        ("WARNING", "batch rolled back"),
        ("ERROR", "lost"),
        ("WARNING", "a cancelled batch ended with an error"),
    ]
    assert lines[1].getMessage() == "batch rolled back: no connection (OSError), 3 attempts"
    assert all(line.exc_info is None for line in lines)


def test_a_handler_s_exception_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """It is a bug of the app's, which its traceback explains."""
    cause = ValueError("hunter2")
    LOGS.rolled_back(BATCH, OUTCOME._replace(error=hidden(AtomicBatchError("it raised"), cause)))
    (line,) = caplog.records
    assert line.levelname == "ERROR"
    assert line.exc_info is not None
    assert line.exc_info[1] is cause


def test_in_short() -> None:
    """One line of at most 500 characters, whatever an error says; nothing of a driver's text."""
    long = hidden(AtomicBatchError("a\nb" + "x" * 1000), ValueError("secret"))
    assert len(in_short(long)) == 500
    assert "\n" not in in_short(long)
    assert in_short(ValueError("secret")) == "ValueError"
