"""Verdicts: the three tables of codes do not contradict themselves."""

from __future__ import annotations

import pytest

from atomicbatch.drivers.mysql_codes import _TABLE, NUMBERS
from atomicbatch.drivers.postgresql_codes import CLASSES, STATES
from atomicbatch.drivers.sqlite_codes import ERROR_TEXTS, RESULTS
from atomicbatch.drivers.verdicts import Fate, Verdict

ALL: dict[str, Verdict] = {
    **{f"sqlite {code}": verdict for code, verdict in {**RESULTS, **ERROR_TEXTS}.items()},
    **{f"postgresql {code}": verdict for code, verdict in {**CLASSES, **STATES}.items()},
    **{f"mysql {code}": verdict for code, verdict in NUMBERS.items()},
}


@pytest.mark.parametrize("code", ALL)
def test_no_code_means_two_things(code: str) -> None:
    """A lost connection proves nothing at COMMIT, and a conflict is nothing that a call is told."""
    verdict = ALL[code]
    if verdict.fate is not None:
        assert verdict.refusal is None
        assert verdict.meaning is None
    assert verdict != Verdict(), "a row that says nothing"


def test_each_number_stands_in_one_row() -> None:
    """A number in two rows would mean what the later one says."""
    numbers = [number for _, row in _TABLE for number in row]
    assert len(numbers) == len(set(numbers))


def test_states_have_the_right_length() -> None:
    """SQLSTATEs have five characters, their classes two."""
    assert {len(state) for state in STATES} == {5}
    assert {len(state) for state in CLASSES} == {2}


def test_what_ends_a_transaction_is_told_on_every_family() -> None:
    """Each family has a code for a conflict, and one for a savepoint that is gone."""
    for family in ("sqlite", "postgresql", "mysql"):
        fates = {verdict.fate for code, verdict in ALL.items() if code.startswith(family)}
        assert {Fate.CONFLICT, Fate.SAVEPOINT_GONE} <= fates
