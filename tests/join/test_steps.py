"""Running the join's steps: what each answers, what is raised where."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from atomicbatch.join.steps import PERFORM, Ask, Send, Steps, run
from tests.join.links import SQLiteLink


@pytest.fixture
def link(tmp_path: Path) -> SQLiteLink:
    return SQLiteLink(tmp_path / "steps.sqlite")


def test_each_step_is_answered(link: SQLiteLink) -> None:
    """SQL is sent in order; a query's answer is one value; PERFORM's is the statement's result."""

    def steps() -> Steps[list[object]]:
        answers = [(yield Send(("CREATE TABLE t (n)", "INSERT INTO t VALUES (7)")))]
        answers.append((yield Ask("SELECT n FROM t")))
        answers.append((yield Ask("SELECT n FROM t WHERE n = 8")))
        answers.append((yield PERFORM))
        return answers

    assert run(steps(), link, lambda: "performed") == [None, 7, None, "performed"]


def test_nothing_to_do_returns_at_once(link: SQLiteLink) -> None:
    """A use that needs no step returns what it has."""

    def steps() -> Steps[str]:
        return "done"
        yield PERFORM

    assert run(steps(), link) == "done"


@pytest.mark.parametrize("step", [Send(("nonsense",)), Ask("nonsense"), PERFORM])
def test_an_error_comes_back_where_the_step_was(link: SQLiteLink, step: Send | Ask) -> None:
    """A use may go on after an error, or let it out; it is the driver's own."""
    seen: list[BaseException] = []

    def steps() -> Steps[None]:
        try:
            yield step
        except sqlite3.OperationalError as error:
            seen.append(error)
        yield step

    with pytest.raises(sqlite3.OperationalError) as found:
        run(steps(), link, lambda: link.connection.execute("nonsense"))
    assert len(seen) == 1
    assert found.value is not seen[0]


class _Cancelled(BaseException):
    pass


def test_what_is_no_exception_comes_back_as_well(link: SQLiteLink) -> None:
    """A cancellation is thrown in like an error, and gets out as it is."""
    seen: list[BaseException] = []

    def cancel() -> None:
        raise _Cancelled

    def steps() -> Steps[None]:
        try:
            yield PERFORM
        except BaseException as error:
            seen.append(error)
            raise

    with pytest.raises(_Cancelled) as found:
        run(steps(), link, cancel)
    assert seen == [found.value]


def test_a_statement_that_raises_stop_iteration_is_no_end(link: SQLiteLink) -> None:
    """An exhausted iterator among a handler's parameters does not pass for a result."""

    def steps() -> Steps[str]:
        yield PERFORM
        return "performed"

    def exhausted() -> None:
        raise StopIteration("not a result")

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(steps(), link, exhausted)
